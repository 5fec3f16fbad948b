"""Who may talk to whom is worked out from the rendered policies, as Kubernetes works it out."""

from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest

from tenants.clusters import Installation
from tenants.kubernetes.bundle import objects as bundle
from tenants.kubernetes.pages.network import Flow, Picture, draw, picture_of, sentence
from tenants.sizes import SIZES

HERE = Installation(gateway_namespace="front", dns_namespace="names", registry_namespace="reg")
NAMESPACE = "bh-team-a"
TEAM = bundle.Team("team_a", UUID(int=1), "A", NAMESPACE, SIZES["small"])
SUSPENDED = bundle.Team("team_a", UUID(int=1), "A", NAMESPACE, SIZES["small"], suspended=True)


def rendered(team: bundle.Team = TEAM) -> dict[str, dict[str, Any]]:
    """Return the team's policies by their names."""
    objects = bundle.render(team, HERE)
    return {
        obj["metadata"]["name"]: deepcopy(obj) for obj in objects if obj["kind"] == "NetworkPolicy"
    }


def seen(policies: dict[str, dict[str, Any]], *found: dict[str, Any]) -> Picture:
    """Return the picture of these policies."""
    return picture_of(policies.values(), NAMESPACE, HERE, found)


def ends(picture: Picture) -> set[tuple[str, str, str]]:
    """Return who may reach whom, and on what."""
    return {(flow.source, flow.target, flow.ports) for flow in picture.flows}


GATEWAY = ("Gateway (front)", "model-server pods", "TCP 8080")
INSIDE = ("all pods", "all pods", "")
DNS = ("all pods", "DNS (names)", "TCP+UDP 53")
REGISTRY = ("all pods", "Registry (reg)", "TCP 8000")


def test_the_bundle_lets_through_what_it_names_and_nothing_else() -> None:
    picture = seen(rendered())
    assert ends(picture) == {GATEWAY, INSIDE, DNS, REGISTRY}
    assert picture.is_closed
    assert picture.denies_in
    assert picture.denies_out
    assert not picture.doubts


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        ("bh-allow-dns", DNS),
        ("bh-allow-registry", REGISTRY),
        ("bh-allow-gateway", GATEWAY),
        ("bh-allow-same-namespace", INSIDE),
    ],
)
def test_a_policy_that_is_away_takes_its_connection_away(
    policy: str, gone: tuple[str, str, str]
) -> None:
    policies = rendered()
    del policies[policy]
    picture = seen(policies)
    assert ends(picture) == {GATEWAY, INSIDE, DNS, REGISTRY} - {gone}
    assert picture.is_closed
    missing = seen(rendered(), {"kind": "NetworkPolicy", "name": policy, "state": "missing"})
    assert missing.flows == picture.flows
    assert [doubt.name for doubt in missing.doubts] == [policy]


def test_suspension_closes_everything() -> None:
    picture = seen(rendered(SUSPENDED))
    assert picture.flows == ()
    assert picture.is_closed
    assert "not to each other" in draw(picture)


def test_without_a_policy_anybody_may_do_everything() -> None:
    picture = seen({})
    assert ends(picture) == {
        ("Anybody", "all pods", ""),
        INSIDE,
        ("all pods", "Anybody", ""),
    }
    assert not picture.is_closed
    assert not picture.denies_in
    assert not picture.denies_out


def test_one_direction_may_be_open_while_the_other_is_closed() -> None:
    """Only bh-allow-gateway left: it closes the servers it selects, and no other pod."""
    picture = seen({"bh-allow-gateway": rendered()["bh-allow-gateway"]})
    assert ("Anybody", "all pods", "") in ends(picture)
    assert ("all pods", "Anybody", "") in ends(picture)
    assert not picture.closed_in


def test_pods_inside_need_a_way_out_and_a_way_in() -> None:
    policies = rendered()
    inside = policies["bh-allow-same-namespace"]["spec"]
    inside["ingress"] = []
    assert INSIDE not in ends(seen(policies))
    inside["ingress"] = [
        {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 80}]}
    ]
    assert ("a=b pods", "all pods", "TCP 80") in ends(seen(policies))


@pytest.mark.parametrize(
    ("rule", "who"),
    [
        ({}, "Anybody"),
        ({"from": []}, "Anybody"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, "Addresses 10.0.0.0/8"),
        ({"from": [{"namespaceSelector": {}}]}, "Every namespace"),
        (
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]},
            "Namespaces team=b",
        ),
        (
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchExpressions": [{"key": "t", "operator": "Exists"}]
                        }
                    }
                ]
            },
            "Namespaces t Exists",
        ),
    ],
)
def test_a_rule_that_opens_more_than_named_namespaces_is_shown_as_open(
    rule: dict[str, Any], who: str
) -> None:
    """Somebody's addition inside our own default-deny: the one drift that a forced apply keeps."""
    policies = rendered()
    policies["bh-default-deny"]["spec"]["ingress"] = [rule]
    picture = seen(policies)
    opened = [flow for flow in picture.flows if flow.open]
    assert [(flow.source, flow.target) for flow in opened] == [(who, "all pods")]
    assert not picture.is_closed
    assert picture.denies_in == (who != "Anybody")
    assert 'class="open"' in draw(picture)


def test_a_namespace_by_name_is_named_and_ones_own_is_inside() -> None:
    policies = rendered()
    for name in ("bh-team-b", NAMESPACE):
        policies[name] = {
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {
                "podSelector": {},
                "ingress": [
                    {
                        "from": [
                            {"namespaceSelector": {"matchLabels": {bundle.NAMESPACE_NAME: name}}}
                        ]
                    }
                ],
            },
        }
    picture = seen(policies)
    assert ("Namespace (bh-team-b)", "all pods", "") in ends(picture)
    assert [flow.way for flow in picture.flows].count("inside") == 2


def test_a_policy_without_types_is_about_what_comes_in_and_about_the_rules_that_it_has() -> None:
    spec: dict[str, Any] = {"podSelector": {}, "egress": [{"to": []}]}
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec}
    picture = seen({"p": policy})
    assert (picture.closed_in, picture.closed_out) == (True, True)
    assert ("all pods", "Anybody", "") in ends(picture)
    del spec["egress"]
    assert not seen({"p": policy}).closed_out


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([{"port": 80}], "TCP 80"),
        ([{"port": 80, "endPort": 90, "protocol": "UDP"}], "UDP 80-90"),
        ([{"protocol": "SCTP"}], "SCTP all"),
        ([{"port": "http"}, {"port": 53, "protocol": "UDP"}], "TCP http, UDP 53"),
    ],
)
def test_ports_are_written_out(ports: list[dict[str, Any]], text: str) -> None:
    policies = rendered()
    policies["bh-allow-gateway"]["spec"]["ingress"][0]["ports"] = ports
    assert ("Gateway (front)", "model-server pods", text) in ends(seen(policies))


@pytest.mark.parametrize("state", ["foreign", "drift", "conflict", "error", "stale"])
def test_what_may_let_more_through_is_drawn_as_a_doubt(state: str) -> None:
    name = "bh-allow-dns" if state != "foreign" else "somebody's"
    picture = seen(rendered(), {"kind": "NetworkPolicy", "name": name, "state": state})
    assert [doubt.name for doubt in picture.doubts] == [name]
    assert ends(picture) == {GATEWAY, INSIDE, DNS, REGISTRY}
    assert 'class="doubt"' in draw(picture)
    assert picture.doubts[0].kind in sentence(picture)


def test_other_objects_and_fine_policies_are_no_doubts() -> None:
    entries = (
        {"kind": "RoleBinding", "name": "friends", "state": "foreign"},
        {"kind": "NetworkPolicy", "name": "bh-allow-dns", "state": "corrected"},
        {"kind": "NetworkPolicy", "name": "bh-allow-registry", "state": "in_sync"},
    )
    assert seen(rendered(), *entries) == seen(rendered())


def test_a_drawing_shows_three_doubts_and_counts_the_rest() -> None:
    entries = [
        {"kind": "NetworkPolicy", "name": f"p{number}", "state": "foreign"} for number in range(9)
    ]
    picture = seen(rendered(), *entries)
    assert len(picture.doubts) == 9
    drawing = draw(picture)
    assert drawing.count("Foreign policy</text>") == 2 * 3
    assert "More such policies" in drawing


def test_the_drawing_says_what_it_shows_and_quotes_what_it_writes() -> None:
    hostile = '<script>alert(1)</script>"{{ 7*7 }}'
    policy = {"kind": "NetworkPolicy", "name": hostile, "state": "foreign"}
    drawing = draw(seen(rendered(), policy))
    assert drawing.count('role="img"') == 2
    assert drawing.count(f"<title>Who may talk to whom in {NAMESPACE}</title>") == 2
    assert "Gateway (front) may reach model-server pods on TCP 8080" in drawing
    assert "nothing else comes in" in drawing
    assert "<script>" not in drawing
    assert "style=" not in drawing


def test_a_long_name_is_cut_and_stands_whole_beside_it() -> None:
    long = Flow("in", "all pods", f"Namespace ({'x' * 63})")
    drawing = draw(Picture("y" * 63, (long,), True, True))
    assert "…</text>" in drawing
    assert f"<title>Namespace: {'x' * 63} · all ports</title>" in drawing
