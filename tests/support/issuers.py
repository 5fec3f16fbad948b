"""Clusters of the tests' own: their keys, the tokens that they give to pods, and their JWKS.

A token is put together by hand, so that a test can send what no library would sign.
"""

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.conf import settings
from django.test import override_settings
from jwt.algorithms import get_default_algorithms
from pytest_django.fixtures import Settings

from tenants import audit
from tenants.clusters import Cluster
from tenants.identity import workloads
from tenants.isolation.scope import tenant_scope
from tenants.models import Role, Tenant, User, WorkloadIdentity

PEM = serialization.Encoding.PEM
HOUR = 3600


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make an RSA key."""
    return rsa.generate_private_key(65537, bits)


#: Made once: they cost time. "r2" is the next key of a cluster that has "r1".
KEYS: dict[str, Any] = {
    "r1": rsa_key(),
    "r2": rsa_key(),
    "e1": ec.generate_private_key(ec.SECP256R1()),
    "e384": ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS = {"r1": "RS256", "r2": "RS256", "e1": "ES256", "e384": "ES384", "ed": "EdDSA"}


def jwk(kid: str, key: Any = None, **fields: Any) -> dict[str, Any]:
    """Return the public half of a key as it stands in a JWKS."""
    public = (key or KEYS[kid]).public_key()
    made = json.loads(get_default_algorithms()[ALGORITHMS.get(kid, "RS256")].to_jwk(public))
    made.pop("key_ops", None)
    return {**made, "kid": kid, "use": "sig", "alg": ALGORITHMS.get(kid, "RS256"), **fields}


def jwks(*kids: str) -> bytes:
    """Return a JWKS with these keys."""
    return json.dumps({"keys": [jwk(kid) for kid in kids]}).encode()


def b64(content: bytes) -> str:
    """Write bytes as a token does."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def public_pem(kid: str) -> bytes:
    """Return a public key as people publish it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = KEYS[kid].public_key().public_bytes(PEM, form)
    return pem


@dataclass(frozen=True)
class Pod:
    """A pod with its service account; each has its own uids."""

    namespace: str = "bh-team-gamma"
    account: str = "model-server"
    uid: str = field(default_factory=lambda: str(uuid4()))
    name: str = "model-server-7c9f-x2x4z"
    pod_uid: str = field(default_factory=lambda: str(uuid4()))

    def but(self, **fields: str) -> "Pod":
        """Return the same pod with something different."""
        return replace(self, **fields)


@dataclass(frozen=True)
class Issuer:
    """A cluster that gives tokens to pods."""

    issuer: str = "https://kubernetes.default.svc.one"
    kid: str = "r1"

    def claims(self, pod: Pod, **fields: Any) -> dict[str, Any]:
        """Return what a token of Kubernetes 1.36 says; ``fields`` are other than usual."""
        now = int(time.time())
        return {
            "aud": [settings.KUBERNETES.audience],
            "exp": now + HOUR,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid4()),
            "kubernetes.io": {
                "namespace": pod.namespace,
                "node": {"name": "node-1", "uid": str(uuid4())},
                "pod": {"name": pod.name, "uid": pod.pod_uid},
                "serviceaccount": {"name": pod.account, "uid": pod.uid},
            },
            "nbf": now,
            "sub": f"system:serviceaccount:{pod.namespace}:{pod.account}",
            **fields,
        }

    def token(self, pod: Pod, **fields: Any) -> str:
        """Return a token for the pod."""
        return self.signed(self.claims(pod, **fields))

    def signed(self, claims: Mapping[str, Any] | str, kid: str = "", **header: Any) -> str:
        """Sign claims, or a text in their place, with the issuer's key or another one."""
        kid = kid or self.kid
        head = {"alg": ALGORITHMS[kid], "kid": kid, **header}
        head = {name: value for name, value in head.items() if value is not None}
        text = claims if isinstance(claims, str) else json.dumps(claims)
        return sealed(json.dumps(head), text, kid)


def sealed(header: str, claims: str, kid: str, algorithm: str = "") -> str:
    """Sign two texts as they are, with the algorithm of the key or another one."""
    signed = f"{b64(header.encode())}.{b64(claims.encode())}"
    method = get_default_algorithms()[algorithm or ALGORITHMS[kid]]
    return f"{signed}.{b64(method.sign(signed.encode(), KEYS[kid]))}"


def by_secret(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """Sign with a secret that everybody has: the public key."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def refused_identity(tenant: Tenant, account: str, actor: User) -> WorkloadIdentity:
    """Let an account of the cluster `one` sign in, and note that one made anew was refused."""
    one = Cluster("one", issuer=Issuer().issuer, keys="nowhere.json")
    with override_settings(KUBERNETES=replace(settings.KUBERNETES, clusters=(one,))):
        made = workloads.create(tenant, "one", account, Role.VIEWER, actor)
    with tenant_scope(tenant):
        changes = {"uid": "another", "pod": "a-pod"}
        audit.record("identity.refused", made, label=account, changes=changes)
    return made


# --- where keys are read from --------------------------------------------------------------


@dataclass
class KeyServer:
    """A server of one JWKS; ``answer`` may be another one, and ``asked`` counts."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    url: str = ""
    asked: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)

    def give(self, content: bytes, status: int = 200, **headers: str) -> None:
        """Answer with this from now on."""
        self.answer = giving(content, status, **headers)


def giving(
    content: bytes, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return what answers so."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


@contextmanager
def key_server(content: bytes, certificate: Path | None = None) -> Iterator[KeyServer]:
    """Serve a JWKS on this machine while the block runs, over https with a certificate."""
    server = KeyServer(giving(content))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked += 1
            server.headers.append(dict(self.headers))
            try:
                server.answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up is part of the tests

    http = Quiet(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        http.socket = context.wrap_socket(
            http.socket, server_side=True, do_handshake_on_connect=False
        )
    server.url = f"{scheme}://127.0.0.1:{http.server_port}/openid/v1/jwks"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(60)


def certificate(folder: Path, name: str) -> Path:
    """Write a certificate that vouches for itself, with its key, for this machine's address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    usage = x509.KeyUsage(
        *(True, False, False, False, False, True, False, False, False),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(secret + made.public_bytes(PEM))
    return path


def cluster(
    keys: str | Path, issuer: Issuer | None = None, name: str = "one", **more: str
) -> Cluster:
    """Return a cluster whose keys are there."""
    return Cluster(name, issuer=(issuer or Issuer()).issuer, keys=str(keys), **more)


ONE = Issuer()


TWO = Issuer("https://kubernetes.default.svc.two", "e1")


ALPHA = Pod(namespace="bh-team-alpha")


def use_clusters(settings: Settings, folder: Path) -> None:
    """Let pods of two clusters sign in."""
    for name, kid in (("one", "r1"), ("two", "e1")):
        (folder / f"{name}.json").write_bytes(jwks(kid))
    settings.KUBERNETES = replace(
        settings.KUBERNETES,
        clusters=(
            cluster(folder / "one.json", ONE, "one"),
            cluster(folder / "two.json", TWO, "two"),
        ),
    )
