"""A pod's token is taken as its cluster made it, for a pod, for us, for now; nothing else is."""

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms
from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.identity import pod_tokens, signing_keys
from tenants.identity.pod_tokens import verify
from tenants.identity.signing_keys import Keys, KeysUnavailable, parse
from tenants.isolation.credentials import BadToken, WorkloadCredential
from tests.support.issuers import (
    HOUR,
    KEYS,
    Issuer,
    KeyServer,
    Pod,
    b64,
    by_secret,
    certificate,
    cluster,
    giving,
    jwk,
    jwks,
    key_server,
    public_pem,
    rsa_key,
    sealed,
)

ONE = Issuer()
TWO = Issuer("https://kubernetes.default.svc.two", "r2")


@pytest.fixture(autouse=True)
def two_clusters(settings: Settings, tmp_path: Path) -> None:
    """Two clusters, each with keys of its own; the first has one of each kind."""
    pod_tokens._logged_at.clear()
    for name, kids in (("one", ("r1", "e1", "e384", "ed")), ("two", ("r2",))):
        (tmp_path / f"{name}.json").write_bytes(jwks(*kids))
    settings.KUBERNETES = replace(
        settings.KUBERNETES,
        clusters=(
            Cluster("none"),  # one without an issuer
            cluster(tmp_path / "one.json", ONE, "one"),
            cluster(tmp_path / "two.json", TWO, "two"),
        ),
    )


def refused(token: str) -> None:
    """Fail unless the token is refused."""
    with pytest.raises(BadToken):
        verify(token)


def changed(**fields: Any) -> str:
    """Return a token of the first cluster whose claims differ so; None: that claim is missing."""
    claims = ONE.claims(Pod(), **fields)
    return ONE.signed({name: value for name, value in claims.items() if value is not None})


def bound(**fields: Any) -> str:
    """Return a token whose claim `kubernetes.io` differs so."""
    claims = ONE.claims(Pod())
    inner = {**claims["kubernetes.io"], **fields}
    claims["kubernetes.io"] = {name: value for name, value in inner.items() if value is not None}
    return ONE.signed(claims)


# --- what is taken -------------------------------------------------------------------------


def test_a_pods_token_says_which_pod_it_is() -> None:
    pod = Pod()
    claims = ONE.claims(pod)
    token = ONE.signed(claims)
    found = verify(token, "team-gamma")
    assert found == WorkloadCredential(
        cluster="one",
        namespace="bh-team-gamma",
        service_account="model-server",
        uid=pod.uid,
        pod=pod.name,
        pod_uid=pod.pod_uid,
        digest=found.digest,
        token_id=f"k8s_{found.digest.hex()[:8]}",
        token_name=claims["jti"],
        expires_at=ANY,
        team="team-gamma",
    )
    assert found.expires_at.timestamp() == claims["exp"]
    assert len(found.token_id) == 12  # as long as an event has place for
    assert verify(token).digest == found.digest != verify(ONE.token(pod)).digest


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [
        *(("r1", name) for name in ("RS256",)),
        *(("e1", "ES256"), ("e384", "ES384"), ("ed", "EdDSA")),
    ],
)
def test_each_asymmetric_algorithm_of_a_key_is_taken(kid: str, algorithm: str) -> None:
    assert verify(ONE.signed(ONE.claims(Pod()), kid, alg=algorithm)).cluster == "one"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_a_key_that_names_no_algorithm_takes_those_of_its_kind(
    settings: Settings, tmp_path: Path, algorithm: str
) -> None:
    entry = jwk("r1")
    del entry["alg"]
    (tmp_path / "any.json").write_text(json.dumps({"keys": [entry]}))
    settings.KUBERNETES = replace(
        settings.KUBERNETES, clusters=(cluster(tmp_path / "any.json", ONE),)
    )
    header = json.dumps({"alg": algorithm, "kid": "r1", "typ": "JWT"})
    assert verify(sealed(header, json.dumps(ONE.claims(Pod())), "r1", algorithm))


@pytest.mark.parametrize("audience", ["bulkhead", ["bulkhead"]])
def test_the_audience_is_ours_alone(audience: Any) -> None:
    assert verify(changed(aud=audience))


def test_the_audience_is_a_setting(settings: Settings) -> None:
    usual = ONE.token(Pod())
    settings.KUBERNETES = replace(settings.KUBERNETES, audience="https://bulkhead.example.com")
    refused(usual)
    assert verify(ONE.token(Pod()))


def test_clocks_may_differ_by_a_minute_and_not_by_more() -> None:
    now = int(time.time())
    assert verify(changed(iat=now + 50, nbf=now + 50))
    assert verify(changed(iat=now - HOUR, exp=now - 50))
    for fields in ({"iat": now + 70}, {"nbf": now + 70}, {"iat": now - HOUR, "exp": now - 70}):
        refused(changed(**fields))


def test_a_token_may_live_for_a_day() -> None:
    now = int(time.time())
    assert verify(changed(iat=now, exp=now + 24 * HOUR))
    refused(changed(iat=now, exp=now + 24 * HOUR + 1))
    refused(changed(exp=2**62))


def test_older_clusters_name_no_token() -> None:
    assert verify(changed(jti=None)).token_name == ""
    assert verify(changed(jti="x" * 65)).token_name == ""
    assert verify(changed(jti="<b>")).token_name == ""


# --- what is not ---------------------------------------------------------------------------

NOW = int(time.time())
BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"iat": NOW - 2 * HOUR, "exp": NOW - HOUR},
    "not yet valid": {"nbf": NOW + HOUR},
    "made in the future": {"iat": NOW + HOUR, "exp": NOW + 2 * HOUR},
    "ends before it begins": {"exp": NOW - 10, "iat": NOW},
    "no end": {"exp": None},
    "no beginning": {"nbf": None},
    "no time": {"iat": None},
    "the end is a text": {"exp": str(NOW + HOUR)},
    "the end is no whole number": {"exp": NOW + HOUR + 0.5},
    "the beginning is a truth value": {"nbf": True},
    "the time is a text": {"iat": str(NOW)},
    "another audience": {"aud": ["https://kubernetes.default.svc"]},
    "ours and another audience": {"aud": ["https://other", "bulkhead"]},
    "our audience twice": {"aud": ["bulkhead", "bulkhead"]},
    "an audience that begins like ours": {"aud": ["bulkhead.example.com"]},
    "an audience in other letters": {"aud": ["Bulkhead"]},
    "no audience": {"aud": None},
    "an empty audience": {"aud": []},
    "an audience that is an object": {"aud": {"bulkhead": True}},
    "another issuer": {"iss": "https://evil.example.com"},
    "our issuer with a slash": {"iss": f"{ONE.issuer}/"},
    "our issuer in other letters": {"iss": ONE.issuer.upper()},
    "no issuer": {"iss": None},
    "an empty issuer": {"iss": ""},
    "a list of issuers": {"iss": [ONE.issuer]},
    "no subject": {"sub": None},
    "a person": {"sub": "system:admin"},
    "a node": {"sub": "system:node:node-1"},
    "another account in the subject": {"sub": "system:serviceaccount:bh-team-gamma:default"},
    "another namespace in the subject": {"sub": "system:serviceaccount:bh-team-alpha:model-server"},
    "more in the subject": {"sub": "system:serviceaccount:bh-team-gamma:model-server:x"},
    "nothing of Kubernetes": {"kubernetes.io": None},
    "a text for what Kubernetes says": {"kubernetes.io": "namespace"},
    "a list for what Kubernetes says": {"kubernetes.io": ["namespace", "pod", "serviceaccount"]},
}


@pytest.mark.parametrize("what", BAD_CLAIMS)
def test_other_claims_are_refused(what: str) -> None:
    refused(changed(**BAD_CLAIMS[what]))


BAD_BOUND: dict[str, dict[str, Any]] = {
    "no pod": {"pod": None},
    "bound to a secret": {"pod": None, "secret": {"name": "token", "uid": "1"}},
    "a pod without a uid": {"pod": {"name": "pod"}},
    "a pod with an empty uid": {"pod": {"name": "pod", "uid": ""}},
    "a pod without a name": {"pod": {"uid": "1"}},
    "a pod that is a text": {"pod": "model-server"},
    "no account": {"serviceaccount": None},
    "an account without a uid": {"serviceaccount": {"name": "model-server"}},
    "an account with an empty uid": {"serviceaccount": {"name": "model-server", "uid": ""}},
    "an account with a number as its uid": {"serviceaccount": {"name": "model-server", "uid": 1}},
    "another account": {"serviceaccount": {"name": "default", "uid": "1"}},
    "no namespace": {"namespace": None},
    "another namespace": {"namespace": "bh-team-alpha"},
    "a namespace that is a list": {"namespace": ["bh-team-gamma"]},
}


@pytest.mark.parametrize("what", BAD_BOUND)
def test_a_token_must_be_bound_to_a_pod_of_the_account_in_its_subject(what: str) -> None:
    refused(bound(**BAD_BOUND[what]))


@pytest.mark.parametrize("name", ["Model", "a_b", "-a", "a:b", "", "a" * 254, "a\n", "ä"])
def test_names_that_kubernetes_does_not_take_are_refused(name: str) -> None:
    claims = ONE.claims(Pod(account=name))
    refused(ONE.signed(claims))


def test_without_a_signature_nothing_is_true() -> None:
    """L23: `none` in any spelling, with a signature or without one."""
    claims = json.dumps(ONE.claims(Pod()))
    for name in ("none", "None", "NONE", "nOnE", ""):
        header = json.dumps({"alg": name, "kid": "r1"})
        unsigned = f"{b64(header.encode())}.{b64(claims.encode())}"
        for signature in ("", b64(b"x"), ONE.token(Pod()).rpartition(".")[2]):
            refused(f"{unsigned}.{signature}")
        refused(unsigned)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_secret_to_sign_with(algorithm: str) -> None:
    """L23: in each form in which somebody could have it."""
    public = jwk("r1")
    number = int.from_bytes(base64.urlsafe_b64decode(public["n"] + "=="))
    for secret in (
        public_pem("r1"),
        public_pem("r1").strip(),
        json.dumps(public).encode(),
        number.to_bytes(256),
        b"",
    ):
        for kid in ("r1", "e1", "ed"):
            refused(by_secret({"alg": algorithm, "kid": kid}, ONE.claims(Pod()), secret))


def test_a_symmetric_key_in_the_jwks_is_none(settings: Settings, tmp_path: Path) -> None:
    secret = {"kty": "oct", "k": b64(b"secret" * 8), "kid": "h1", "alg": "HS256", "use": "sig"}
    path = tmp_path / "oct.json"
    path.write_text(json.dumps({"keys": [secret, jwk("r1")]}))
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=(cluster(path, ONE),))
    refused(by_secret({"alg": "HS256", "kid": "h1"}, ONE.claims(Pod()), b"secret" * 8))
    assert verify(ONE.token(Pod()))


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [("e1", "RS256"), ("e1", "ES384"), ("e384", "ES256"), ("r1", "ES256"), ("r1", "EdDSA"),
     ("ed", "RS256"), ("e1", "EdDSA"), ("r1", "RS512"), ("r1", "PS256"), ("e1", "ES256K")],
)  # fmt: skip
def test_the_algorithm_comes_from_the_key_and_not_from_the_header(kid: str, algorithm: str) -> None:
    """The signature is what the key makes of it; only the header says something else."""
    refused(ONE.signed(ONE.claims(Pod()), kid, alg=algorithm))


def test_a_signature_by_another_method_of_the_same_key_is_refused() -> None:
    """The JWKS says RS256 of this key, and so it is that alone, however good the signature."""
    for algorithm in ("RS384", "RS512", "PS256"):
        header = json.dumps({"alg": algorithm, "kid": "r1"})
        refused(sealed(header, json.dumps(ONE.claims(Pod())), "r1", algorithm))


def test_a_key_is_its_own_clusters_alone() -> None:
    """One cluster cannot make tokens of another, whatever its key says it is."""
    pod = Pod()
    assert verify(TWO.token(pod)).cluster == "two"
    refused(TWO.signed(ONE.claims(pod)))
    refused(ONE.signed(TWO.claims(pod)))
    refused(TWO.signed(ONE.claims(pod), kid="r2", alg="RS256"))
    # By the id of the other's key, and signed with one's own.
    header = json.dumps({"alg": "RS256", "kid": "r1"})
    refused(sealed(header, json.dumps(ONE.claims(pod)), "r2"))


@pytest.mark.parametrize("kid", ["unknown", "", None, 1, ["r1"], {"r1": "r1"}, "R1", "\ud800"])
def test_the_key_is_named_exactly(kid: Any) -> None:
    header = {"alg": "RS256"} | ({} if kid is None else {"kid": kid})
    refused(sealed(json.dumps(header), json.dumps(ONE.claims(Pod())), "r1"))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"jku": "https://evil.example.com/jwks"},
        {"x5u": "https://evil.example.com/chain"},
        {"x5c": ["MIIB"]},
        {"jwk": jwk("r2")},
        {"zip": "DEF"},
        {"typ": "at+jwt"},
        {"typ": 1},
        {"cty": "JWT"},
    ],
)
def test_a_header_says_nothing_but_algorithm_key_and_type(more: dict[str, Any]) -> None:
    refused(ONE.signed(ONE.claims(Pod()), **more))
    # Even where the key that it brings along has signed it.
    refused(
        sealed(
            json.dumps({"alg": "RS256", "kid": "r1", **more}), json.dumps(ONE.claims(Pod())), "r2"
        )
    )


def test_nothing_that_a_token_names_is_fetched(settings: Settings) -> None:
    """L25: neither its issuer's metadata nor an address in its header."""
    with key_server(jwks("r2")) as server:
        base = server.url.removesuffix("/openid/v1/jwks")
        evil = Issuer(base, "r2")
        refused(evil.token(Pod()))
        for name in ("jku", "x5u"):
            refused(TWO.signed(ONE.claims(Pod()), kid="r2", **{name: server.url}))
        assert server.asked == 0


@pytest.mark.parametrize(
    "twice",
    [
        '"iss": "https://evil.example.com", {}',
        '{}, "sub": "system:serviceaccount:bh-team-alpha:model-server"',
        '{}, "exp": 9999999999',
        '{}, "other": {{"deep": 1, "deep": 2}}',
    ],
)
def test_a_claim_that_stands_twice_is_refused(twice: str) -> None:
    text = json.dumps(ONE.claims(Pod()))[1:-1]
    assert verify(ONE.signed(f"{{{text}}}"))
    refused(ONE.signed(f"{{{twice.format(text)}}}"))


def test_a_header_that_stands_twice_is_refused() -> None:
    header = '{"alg": "none", "alg": "RS256", "kid": "r1"}'
    refused(sealed(header, json.dumps(ONE.claims(Pod())), "r1"))


def test_what_is_no_token_is_refused() -> None:
    good = ONE.token(Pod())
    header, claims, signature = good.split(".")
    for bad in (
        *("", ".", "..", "...", "a.b.c", "null", "{}", "[]", good[:-1], good[1:], f"{good}x"),
        *(f"{good}.", f".{good}", f"{good}=", f"{good}\n", f" {good}", f"{good}.{good}"),
        *(f"{header}..{signature}", f"{header}.{claims}.", f".{claims}.{signature}"),
        f"{header}.{claims}={signature}",
        f"{header}=.{claims}.{signature}",
        f"{header}.{claims}.{signature[:-4]}ÄÄÄÄ",
        f"{header}.{b64(b'[]')}.{signature}",
        f"{header}.{b64(b'nothing')}.{signature}",
        f"{header}.{b64(bytes([255, 254]))}.{signature}",
        f"{b64(b'[]')}.{claims}.{signature}",
        f"{header}.{claims}.{signature[::-1]}",
        json.dumps({"payload": claims, "protected": header, "signature": signature}),
    ):
        refused(bad)
    refused(ONE.signed("[]"))
    refused(ONE.signed('"text"'))
    refused(ONE.signed(json.dumps(ONE.claims(Pod())).replace(f"{ONE.issuer}", "x", 0) + "x"))
    refused(ONE.signed("[" * 9000 + "]" * 9000))
    refused(ONE.signed(json.dumps(ONE.claims(Pod(), more=float("nan")))))


def test_a_token_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert verify(changed(more="x" * 8000))
    large = changed(more="x" * 13000)
    assert len(large) > pod_tokens.MAX_TOKEN_CHARS
    refused(large)


def test_one_changed_character_breaks_it() -> None:
    good = ONE.token(Pod())
    for at in range(0, len(good), 37):
        other = "A" if good[at] != "A" else "B"
        refused(f"{good[:at]}{other}{good[at + 1 :]}")


# --- what the log says ---------------------------------------------------------------------


def test_the_log_says_why_once_in_a_while_and_repeats_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """L28: no token, no namespace, no account, no pod."""
    caplog.set_level(logging.INFO, "bulkhead.identity")
    pod = Pod()
    for _ in range(3):
        expired = ONE.token(pod, iat=NOW - 2 * HOUR, exp=NOW - HOUR)
        refused(expired)
        refused("a.b.c")
        refused(TWO.signed(ONE.claims(pod)))
    texts = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert texts == [
        ("WARNING", "A pod's token is refused (cluster one): ExpiredSignatureError"),
        ("INFO", "A pod's token is refused (cluster none): a part of it cannot be read"),
        ("WARNING", "A pod's token is refused (cluster one): the cluster has no such key"),
    ]
    for secret in (*expired.split("."), pod.namespace, pod.account, pod.name, pod.uid):
        assert secret not in caplog.text


# --- the keys ------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Remote:
    """Keys at an address, and the clock by which they grow old."""

    server: KeyServer
    keys: Keys
    clock: Clock

    def has(self, kid: str) -> bool:
        """Tell whether the cluster has that key."""
        return self.keys.find(kid) is not None


@pytest.fixture
def remote() -> Iterator[Remote]:
    """Keys at a real server."""
    with key_server(jwks("r1")) as server:
        clock = Clock()
        yield Remote(server, Keys(cluster(server.url), clock), clock)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for keys than a busy machine may take."""
    monkeypatch.setattr(signing_keys, "ANSWER_SECONDS", 60)
    monkeypatch.setattr(signing_keys, "MAX_WAIT_SECONDS", 60)


def test_keys_are_fetched_once_in_five_minutes(remote: Remote) -> None:
    for _ in range(10):
        assert remote.has("r1")
        remote.clock.passes(29)
    assert remote.server.asked == 1
    remote.clock.passes(11)
    assert remote.has("r1")
    assert remote.server.asked == 2


def test_a_key_that_is_taken_away_is_out_after_five_minutes(remote: Remote) -> None:
    """L21: the bound for a rotation that says a key was stolen."""
    assert remote.has("r1")
    remote.server.give(jwks("r2"))
    remote.clock.passes(signing_keys.REFRESH_SECONDS - 1)
    assert remote.has("r1")
    remote.clock.passes(1)
    assert not remote.has("r1")
    assert remote.has("r2")


def test_an_unknown_key_is_looked_for_at_most_every_thirty_seconds(remote: Remote) -> None:
    assert remote.has("r1")
    remote.server.give(jwks("r1", "r2"))
    for _ in range(100):
        assert not remote.has("r2")
        assert not remote.has("nobody's")
    assert remote.server.asked == 1
    remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    assert remote.has("r2")
    assert remote.has("r1")
    assert remote.server.asked == 2
    for _ in range(100):
        assert not remote.has("nobody's")
    assert remote.server.asked == 2


BROKEN: dict[str, Callable[[KeyServer], None]] = {
    "an error": lambda server: server.give(b"", 500),
    "not found": lambda server: server.give(jwks("r1"), 404),
    "forbidden": lambda server: server.give(jwks("r2"), 403),
    "no JSON": lambda server: server.give(b"<html>"),
    "deep JSON": lambda server: server.give(b"[" * 100_000),
    "no JWKS": lambda server: server.give(b"[]"),
    "no keys": lambda server: server.give(b'{"keys": []}'),
    "too many keys": lambda server: server.give(json.dumps({"keys": [jwk("r2")] * 101}).encode()),
    "no key of use": lambda server: server.give(json.dumps({"keys": [{"kty": "RSA"}]}).encode()),
    "a huge body": lambda server: server.give(jwks("r2") + b" " * signing_keys.MAX_JWKS_BYTES),
    "an endless body": lambda server: setattr(server, "answer", endless),
    "a body that breaks off": lambda server: server.give(jwks("r2"), Content_Length="99999"),
}


def endless(request: BaseHTTPRequestHandler) -> None:
    """Answer with more and more."""
    request.send_response(200)
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b" " * 64 * 1024)


@pytest.mark.parametrize("how", BROKEN)
def test_where_keys_cannot_be_read_the_old_ones_serve_an_hour(
    remote: Remote, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert remote.has("r1")
    BROKEN[how](remote.server)
    remote.clock.passes(signing_keys.REFRESH_SECONDS)
    assert remote.has("r1")
    assert not remote.has("r2")
    assert "The keys of the cluster one cannot be read: " in caplog.text
    for _ in range(50):  # and the server is left in peace meanwhile
        assert remote.has("r1")
    assert remote.server.asked == 2
    remote.clock.passes(signing_keys.MAX_AGE_SECONDS - signing_keys.REFRESH_SECONDS)
    assert remote.has("r1")
    remote.clock.passes(1)
    with pytest.raises(KeysUnavailable):
        remote.has("r1")
    remote.server.give(jwks("r1"))
    remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    assert remote.has("r1")


def test_without_any_keys_nobody_is_let_in(settings: Settings) -> None:
    with key_server(b"", None) as server:
        url = server.url
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=(cluster(url, ONE),))
    with pytest.raises(KeysUnavailable):
        verify(ONE.token(Pod()))


def test_a_redirect_is_not_followed(remote: Remote) -> None:
    """L25: nor does the token for the API server go anywhere else."""
    with key_server(jwks("r1")) as other:
        remote.server.give(b"", 302, Location=other.url)
        with pytest.raises(KeysUnavailable):
            remote.has("r1")
        assert (remote.server.asked, other.asked) == (1, 0)


def test_the_api_server_is_shown_the_token_as_it_is_now(tmp_path: Path) -> None:
    token = tmp_path / "token"
    clock = Clock()
    with key_server(jwks("r1")) as server:
        keys = Keys(cluster(server.url, token=str(token)), clock)
        with pytest.raises(KeysUnavailable):  # there is none yet
            keys.find("r1")
        assert server.asked == 0
        for text in ("first", "second"):
            token.write_text(f"{text}\n")
            clock.passes(signing_keys.REFRESH_SECONDS)
            assert keys.find("r1")
            assert server.headers[-1]["Authorization"] == f"Bearer {text}"


def test_https_goes_to_whom_the_ca_vouches_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    with key_server(jwks("r1"), own) as server:
        assert Keys(cluster(server.url, ca=str(own))).find("r1")
        assert server.asked == 1
        for ca in (str(other), "", str(tmp_path / "missing.pem")):
            with pytest.raises(KeysUnavailable):
                Keys(cluster(server.url, ca=ca)).find("r1")
        assert server.asked == 1
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text or "SSLError" in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "http://keys.example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://127.0.0.1@example.com/jwks",
        "https://user:password@127.0.0.1:9/jwks",
        "ftp://127.0.0.1/jwks",
        "file:///etc/jwks",
        "https:///jwks",
    ],
)
def test_keys_come_over_https_or_from_this_machine(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeysUnavailable):
        Keys(cluster(address)).find("r1")
    assert "their address is not https" in caplog.text
    assert "password" not in caplog.text


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    keys = Keys(cluster(path), clock)
    with pytest.raises(KeysUnavailable):
        keys.find("r1")
    path.write_bytes(jwks("r1"))
    clock.passes(1)
    assert keys.find("r1")
    # As Kubernetes changes what it mounts: another file under the same name.
    (tmp_path / "new.json").write_bytes(jwks("r2"))
    (tmp_path / "new.json").replace(path)
    clock.passes(1)
    assert keys.find("r1") is None
    assert keys.find("r2")
    clock.passes(24 * HOUR)  # it is looked at, however long it stays as it is
    assert keys.find("r2")
    path.unlink()
    clock.passes(signing_keys.MAX_AGE_SECONDS)
    assert keys.find("r2")
    clock.passes(1)
    with pytest.raises(KeysUnavailable):
        keys.find("r2")


def test_what_can_check_no_signature_is_left_out() -> None:
    private = json.loads(get_default_algorithms()["RS256"].to_jwk(KEYS["r2"]))
    del private["key_ops"]
    curve = ec.generate_private_key(ec.SECP256K1())
    odd = json.loads(get_default_algorithms()["ES256K"].to_jwk(curve.public_key()))
    entries: list[Any] = [
        jwk("r1"),
        {**jwk("r2"), "kid": "for encryption", "use": "enc"},
        {**jwk("r2"), "kid": "signs", "key_ops": ["sign"]},
        {**private, "kid": "private"},
        {**jwk("r2"), "kid": "symmetric", "alg": "HS256"},
        {**jwk("r2"), "kid": "other kind", "alg": "ES256"},
        {**jwk("short", rsa_key(1024)), "kid": "short"},
        {**odd, "kid": "odd curve"},
        {**jwk("r2"), "kid": ""},
        {**jwk("r2"), "kid": 7},
        {name: value for name, value in jwk("r2").items() if name != "kid"},
        {**jwk("r2"), "kid": "twice"},
        {**jwk("e1"), "kid": "twice"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"], "kid": "odd type", "crv": {}},
        "text",
        None,
    ]
    assert set(parse(json.dumps({"keys": entries}).encode())) == {"r1"}


@pytest.mark.usefixtures("patience")
def test_one_thread_fetches_and_the_others_go_on_with_the_old_keys(remote: Remote) -> None:
    assert remote.has("r1")
    remote.clock.passes(signing_keys.REFRESH_SECONDS)
    asked, go_on = threading.Event(), threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(60)
        giving(jwks("r2"))(request)

    remote.server.answer = slow
    said: list[bool] = []
    first = threading.Thread(target=lambda: said.append(remote.has("r1")))
    first.start()
    assert asked.wait(60)
    for _ in range(20):
        assert remote.has("r1")
    assert first.is_alive()
    go_on.set()
    first.join(60)
    assert said == [False]  # whoever fetched them goes by the new ones
    assert remote.server.asked == 2


class WatchedLock:
    """The lock of the thread that reads keys; it counts those who want it."""

    def __init__(self, remote: Remote) -> None:
        self._lock = remote.keys._reading
        self._wanted = threading.Semaphore(0)
        remote.keys._reading = self  # type: ignore[assignment]  # the two verbs that are called

    def acquire(self, timeout: float) -> bool:
        """Want the lock, and wait for it."""
        self._wanted.release()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def wait_until_wanted(self, times: int) -> None:
        """Wait until the lock was asked for ``times`` times."""
        for _ in range(times):
            assert self._wanted.acquire(timeout=60)


@pytest.mark.usefixtures("patience")
def test_at_the_start_all_wait_for_the_one_that_fetches(remote: Remote) -> None:
    lock = WatchedLock(remote)

    def slow(request: BaseHTTPRequestHandler) -> None:
        lock.wait_until_wanted(times=8)
        giving(jwks("r1"))(request)

    remote.server.answer = slow
    said: list[bool] = []
    threads = [threading.Thread(target=lambda: said.append(remote.has("r1"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == [True] * 8
    assert remote.server.asked == 1


@pytest.mark.usefixtures("patience")
def test_keys_that_grew_old_unseen_are_waited_for(remote: Remote) -> None:
    """Nobody asked for half an hour: two who ask now both go by what the cluster says now."""
    assert remote.has("r1")
    remote.clock.passes(30 * 60)

    lock = WatchedLock(remote)

    def slow(request: BaseHTTPRequestHandler) -> None:
        lock.wait_until_wanted(times=4)
        giving(jwks("r2"))(request)

    remote.server.answer = slow
    said: list[bool] = []
    threads = [threading.Thread(target=lambda: said.append(remote.has("r1"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == [False] * 4


def test_an_issuer_that_says_nothing_is_given_up(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it does not answer at all or answers byte by byte."""
    monkeypatch.setattr(signing_keys, "ANSWER_SECONDS", 0.5)
    ended = threading.Event()

    def drips(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        while not ended.wait(0.1):
            request.wfile.write(b" ")
            request.wfile.flush()

    def silent(request: BaseHTTPRequestHandler) -> None:
        ended.wait(60)

    for answer in (drips, silent):
        remote.server.answer = answer
        begun = time.monotonic()
        with pytest.raises(KeysUnavailable):
            remote.has("r1")
        assert time.monotonic() - begun < 30
        remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    ended.set()


def test_headers_that_never_end_keep_one_thread_and_no_request(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each byte is in time for a socket; and nothing that was sent stands in the log."""
    monkeypatch.setattr(signing_keys, "ANSWER_SECONDS", 0.5)
    ended = threading.Event()

    def drips(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not ended.wait(0.1):
            request.wfile.write(b"X")
            request.wfile.flush()

    remote.server.answer = drips
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(KeysUnavailable):
            remote.has("r1")
        assert time.monotonic() - begun < 30
        remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    assert remote.server.asked == 1  # nobody asks again while the first answer goes on
    ended.set()
    assert remote.keys._fetching is not None
    remote.keys._fetching.join(60)
    assert "XX" not in caplog.text
    remote.server.give(jwks("r1"))
    remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    assert remote.has("r1")


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kid", ["r1", "nobody's"])
def test_nobody_waits_for_an_issuer_that_failed_last_time(remote: Remote, kid: str) -> None:
    """Anybody can send tokens; only the one request that tries again may be kept by it."""
    remote.server.give(b"", 500)
    with pytest.raises(KeysUnavailable):
        remote.has(kid)
    remote.clock.passes(signing_keys.MIN_READ_INTERVAL_SECONDS)
    asked, go_on = threading.Event(), threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(60)
        giving(jwks("r1"))(request)

    remote.server.answer = slow
    first = threading.Thread(target=remote.keys.find, args=[kid])
    first.start()
    assert asked.wait(60)
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            remote.has(kid)
    assert first.is_alive()
    go_on.set()
    first.join(60)
    assert remote.has("r1")
