"""Who may talk to whom, worked out from a namespace's NetworkPolicies, and drawn.

Policies add up: a pod that some policy selects for a direction may there do what any policy lets it
do, and nothing else; a pod that none selects may do everything. So a missing policy opens as much
as it stood for, and the picture shows that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tenants.clusters import Installation
from tenants.kubernetes.bundle.objects import NAMESPACE_NAME, Object
from tenants.text import shortened

ALL_PODS = "all pods"
ANYBODY = "Anybody"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True, slots=True)
class Flow:
    """Pods that may open connections to others; ``open`` if not only named namespaces may.

    ``pods`` are those of the namespace, ``peer`` is at the other end: outside for ``way`` "in" and
    "out", pods of the namespace themselves for "inside".
    """

    way: str
    pods: str
    peer: str
    ports: str = ""
    policies: tuple[str, ...] = ()
    open: bool = False

    @property
    def source(self) -> str:
        """Who begins."""
        return self.peer if self.way == "in" else self.pods

    @property
    def target(self) -> str:
        """Who is reached."""
        return self.pods if self.way == "in" else self.peer


@dataclass(frozen=True, slots=True)
class Doubt:
    """A policy by which a cluster may allow other traffic than the picture shows."""

    kind: str
    name: str
    meaning: str
    #: Whether it may allow more than is drawn; a missing policy is left out of the drawing already.
    adds: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.meaning}"


@dataclass(frozen=True, slots=True)
class Picture:
    """The traffic that a namespace's policies allow, and what of it is in doubt."""

    namespace: str
    flows: tuple[Flow, ...]
    closed_in: bool
    closed_out: bool
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_closed(self) -> bool:
        """Whether only pods of named namespaces come in and are reached."""
        return self.closed_in and self.closed_out and not any(flow.open for flow in self.flows)

    @property
    def denies_in(self) -> bool:
        """Whether there is anybody who cannot come in."""
        return self.denies("in")

    @property
    def denies_out(self) -> bool:
        """Whether there is anybody who cannot be reached."""
        return self.denies("out")

    def outside(self, way: str) -> list[Flow]:
        """Return the flows of one way."""
        return [flow for flow in self.flows if flow.way == way]

    def denies(self, way: str) -> bool:
        """Tell whether there is anything that cannot come in, or cannot be reached."""
        everything = any(flow.peer == ANYBODY and not flow.ports for flow in self.outside(way))
        return (self.closed_in if way == "in" else self.closed_out) and not everything


@dataclass(frozen=True, slots=True)
class _Allowance:
    """One direction of traffic that a policy allows to or from the pods that it selects."""

    pods: str
    peer: str
    ports: str
    policy: str
    inside: bool = False
    open: bool = False


def picture_of(
    objects: Iterable[Object],
    namespace: str,
    here: Installation,
    found: Iterable[Mapping[str, Any]] = (),
) -> Picture:
    """Return what the NetworkPolicies among ``objects`` let through in their namespace.

    ``found`` is what the last look at a cluster found (NamespaceState.objects_found): a policy that
    is missing there counts for nothing, one that was altered and a foreign one are doubts.
    """
    policies = {
        obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"
    }
    doubts = []
    for entry in found:
        if entry.get("kind") != "NetworkPolicy":
            continue
        name, state = str(entry.get("name", "")), entry.get("state")
        if state == "missing":
            policies.pop(name, None)
        if state in DOUBTS:
            doubts.append(Doubt(DOUBTS[state][0], name, DOUBTS[state][1], state != "missing"))
    closed_in, rules_in = _read(policies, "Ingress", "ingress", "from", namespace, here)
    closed_out, rules_out = _read(policies, "Egress", "egress", "to", namespace, here)
    flows = [_flow("in", rule) for rule in rules_in if not rule.inside]
    flows += _inside(rules_in, rules_out, closed_in, closed_out)
    flows += [_flow("out", rule) for rule in rules_out if not rule.inside]
    return Picture(namespace, tuple(flows), closed_in, closed_out, tuple(doubts))


#: Kind and meaning of the doubt for each state of a policy that raises one.
_ALTERED = ("Altered policy", "it may let through something else than what is drawn.")
DOUBTS: dict[Any, tuple[str, str]] = {
    "foreign": ("Foreign policy", "whatever it lets through comes on top of what is drawn."),
    "stale": ("Left-over policy", "whatever it lets through comes on top of what is drawn."),
    "missing": ("Missing policy", "what is drawn is without it."),
    "drift": _ALTERED,
    "conflict": _ALTERED,
    "error": ("Unknown policy", "the cluster did not say whether it is as it should be."),
}


def _read(
    policies: Mapping[str, Object],
    kind: str,
    rules_key: str,
    peers_key: str,
    namespace: str,
    here: Installation,
) -> tuple[bool, list[_Allowance]]:
    """Return whether all pods are closed in a direction, and what the policies let through."""
    closed, rules = False, []
    for name, spec in policies.items():
        # Kubernetes' default for a policy without policyTypes.
        usual = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
        if kind not in spec.get("policyTypes", usual):
            continue
        pods = _pods(spec.get("podSelector") or {})
        closed = closed or pods == ALL_PODS
        for rule in spec.get(rules_key) or []:
            ports = _ports(rule.get("ports") or [])
            # A rule without peers allows all peers.
            for peer in rule.get(peers_key) or [None]:
                label, inside, is_open = _peer(peer, namespace, here)
                rules.append(_Allowance(pods, label, ports, name, inside=inside, open=is_open))
    if not closed:
        # Pods that no policy selects are not restricted; which those are, is unknown here.
        rules.append(_Allowance(ALL_PODS, ANYBODY, "", "", open=True))
    return closed, rules


def _flow(way: str, rule: _Allowance) -> Flow:
    policies = (rule.policy,) if rule.policy else ()
    return Flow(way, rule.pods, rule.peer, rule.ports, policies, open=rule.open)


def _inside(
    rules_in: list[_Allowance], rules_out: list[_Allowance], closed_in: bool, closed_out: bool
) -> list[Flow]:
    """Return the traffic inside the namespace that egress and ingress both allow."""
    free = _Allowance(ALL_PODS, ALL_PODS, "", "", inside=True)
    ins = [rule for rule in rules_in if rule.inside] if closed_in else [free]
    outs = [rule for rule in rules_out if rule.inside] if closed_out else [free]
    return list(
        dict.fromkeys(
            Flow(
                "inside",
                _narrower(leaves.pods, enters.peer, ALL_PODS),
                _narrower(enters.pods, leaves.peer, ALL_PODS),
                _narrower(leaves.ports, enters.ports, ""),
                tuple(dict.fromkeys(name for name in (leaves.policy, enters.policy) if name)),
            )
            for leaves in outs
            for enters in ins
        )
    )


def _narrower(one: str, other: str, widest: str) -> str:
    if one in (widest, other):
        return other
    return one if other == widest else f"{one} and {other}"


def _pods(selector: Object) -> str:
    """Name the pods that a selector takes."""
    words = [
        value if key == COMPONENT else f"{key}={value}"
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    words += [_expression(entry) for entry in selector.get("matchExpressions") or []]
    return f"{', '.join(words)} pods" if words else ALL_PODS


def _expression(entry: Object) -> str:
    values = ", ".join(entry.get("values") or [])
    return f"{entry.get('key')} {entry.get('operator')} {values}".strip()


def _ports(ports: Sequence[Object]) -> str:
    """Write ports as ``TCP 8000``, or ``TCP+UDP 53``; '' for all of them."""
    protocols: dict[str, list[str]] = {}
    for port in ports:
        number = str(port.get("port", "all"))
        end = f"-{port['endPort']}" if "endPort" in port else ""
        protocols.setdefault(number + end, []).append(port.get("protocol", "TCP"))
    return ", ".join(f"{'+'.join(sorted(kinds))} {place}" for place, kinds in protocols.items())


def _peer(peer: Object | None, namespace: str, here: Installation) -> tuple[str, bool, bool]:
    """Return a peer's label, whether it is inside, and whether it is open to others."""
    if peer is None:
        return ANYBODY, False, True
    if "ipBlock" in peer:
        return f"Addresses {peer['ipBlock'].get('cidr')}", False, True
    pods = _pods(peer.get("podSelector") or {})
    selector = peer.get("namespaceSelector")
    if selector is None:
        return pods, True, False
    labels = selector.get("matchLabels") or {}
    name = labels.get(NAMESPACE_NAME)
    if name == namespace:
        return pods, True, False
    if name is None or not isinstance(name, str):
        others = _pods(selector)
        every = "Every namespace" if others == ALL_PODS else f"Namespaces {others[:-5]}"
        return every, False, True
    places = {
        here.gateway_namespace: "Gateway",
        here.registry_namespace: "Registry",
        here.dns_namespace: "DNS",
    }
    return f"{places.get(name, 'Namespace')} ({name})", False, False


# --- drawing -------------------------------------------------------------------------------

BOX, STEP, TOP = 46, 60, 1
PODS_TOP, PODS_STEP = 54, 44
#: At most this many doubts are drawn; the text names all of them.
MAX_DRAWN_DOUBTS = 3


def sentence(picture: Picture) -> str:
    """Say in one sentence what the picture shows."""
    parts = [
        f"{flow.source} may reach {flow.target}{f' on {flow.ports}' if flow.ports else ''}"
        for flow in picture.flows
    ]
    ends = {"in": "else comes in", "out": "else is reached"}
    denied = [f"nothing {end}" for way, end in ends.items() if picture.denies(way)]
    return "; ".join([*parts, *denied, *map(str, picture.doubts)]) + "."


def draw(picture: Picture) -> SafeString:
    """Draw the picture twice, for wide and for narrow places; the style sheet shows one of them."""
    return format_html("{}{}", _wide(picture), _narrow(picture))


@dataclass(frozen=True, slots=True)
class _Peer:
    """A box outside the namespace: who it is, how it is drawn, and where its line leads."""

    name: str
    where: str
    look: str
    way: str
    pods: str = ""


def _peers(picture: Picture, *ways: str) -> list[_Peer]:
    """Return the boxes that stand for others, in the order in which they are drawn."""
    peers = [
        _Peer(*_lines(flow), "open" if flow.open else "flow", flow.way, flow.pods)
        for way in ways
        for flow in picture.outside(way)
    ]
    if "in" in ways:
        adding = [doubt for doubt in picture.doubts if doubt.adds]
        peers += [_Peer(d.kind, d.name, "doubt", "in") for d in adding[:MAX_DRAWN_DOUBTS]]
        if more := len(adding) - MAX_DRAWN_DOUBTS:
            peers += [_Peer("More such policies", f"{more}", "doubt", "in")] if more > 0 else []
    denied = [way for way in ways if picture.denies(way)]
    if denied:
        closed = not any(flow.open for way in denied for flow in picture.outside(way))
        who = "Other teams, all else" if closed else "All else"
        words = {"in": "cannot come in", "out": "cannot be reached"}
        where = words[denied[0]] if len(denied) == 1 else "denied both ways"
        peers.append(_Peer(who, where, "denied", denied[0]))
    return peers


def _lines(flow: Flow) -> tuple[str, str]:
    """Write the other end in two lines: who, and where or on which ports."""
    name, _, place = flow.peer.partition(" (")
    ports = flow.ports or "all ports"
    return name, f"{place.removesuffix(')')} · {ports}" if place else ports


def _wide(picture: Picture) -> SafeString:
    """Draw who comes in on the left, the namespace in the middle, where it goes on the right."""
    left, right = _peers(picture, "in"), _peers(picture, "out")
    height = max(_column(len(left)), _column(len(right)), _inner_height(picture))
    middle = _Frame(255, 210, height)
    pods, inner = _namespace(picture, middle)
    parts = [inner]
    for peers, x, near in ((left, 1, 206), (right, 514, 514)):
        top = TOP + (height - _column(len(peers))) // 2
        for place, peer in enumerate(peers):
            y = top + place * STEP
            parts.append(_box(peer, x, y, 205, 28))
            parts.append(_line(peer, near, y + BOX // 2, middle, pods))
    return _svg(picture, "wide", 720, height, parts)


def _narrow(picture: Picture) -> SafeString:
    """Draw everybody in one column, and the namespace beside it."""
    peers = _peers(picture, "in", "out")
    height = max(_column(len(peers)), _inner_height(picture))
    beside = _Frame(210, 109, height)
    pods, inner = _namespace(picture, beside)
    parts = [inner]
    for place, peer in enumerate(peers):
        y = TOP + place * STEP
        parts.append(_box(peer, 1, y, 176, 28))
        parts.append(_line(peer, 177, y + BOX // 2, beside, pods))
    return _svg(picture, "narrow", 320, height, parts)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the namespace is drawn."""

    x: int
    width: int
    height: int


def _column(boxes: int) -> int:
    return max(boxes * STEP - (STEP - BOX), BOX)


def _inside_pods(picture: Picture) -> list[str]:
    """Return the groups of pods that are drawn apart; all pods come last."""
    named = [flow.pods for flow in picture.flows if flow.way != "inside"]
    return [*(pods for pods in dict.fromkeys(named) if pods != ALL_PODS), ALL_PODS]


def _inner_height(picture: Picture) -> int:
    inside = max(len(picture.outside("inside")), 1)
    return PODS_TOP + len(_inside_pods(picture)) * PODS_STEP + inside * 16 + 14


def _namespace(picture: Picture, frame: _Frame) -> tuple[dict[str, int], SafeString]:
    """Draw the namespace with its pods; return also at which height which pods are."""
    x, middle = frame.x, frame.x + frame.width // 2
    parts = [
        format_html(
            '<rect class="space" x="{}" y="{}" width="{}" height="{}" rx="10"/>'
            '<text class="where" x="{}" y="{}">namespace</text>'
            '<text class="code" x="{}" y="{}">{}</text>',
            *(x, TOP, frame.width, frame.height, x + 10, TOP + 19, x + 10, TOP + 36),
            shortened(picture.namespace, (frame.width - 20) // 8),
        )
    ]
    places, y = {}, TOP + PODS_TOP
    for pods in _inside_pods(picture):
        places[pods] = y + 16
        parts.append(
            format_html(
                '<rect class="pods" x="{}" y="{}" width="{}" height="32" rx="6"/>'
                '<text class="who" x="{}" y="{}" text-anchor="middle">{}</text>',
                *(x + 10, y, frame.width - 20, middle, y + 21),
                shortened(_short(pods, frame), frame.width // 8),
            )
        )
        y += PODS_STEP
    for text in _among(picture):
        parts.append(
            format_html(
                '<text class="where" x="{}" y="{}" text-anchor="middle">{}</text>',
                *(middle, y + 8, shortened(text, frame.width // 6)),
            )
        )
        y += 16
    return places, format_html_join("", "{}", [(part,) for part in parts])


def _short(pods: str, frame: _Frame) -> str:
    """Leave the word “pods” out where there is no room for it."""
    return pods if pods == ALL_PODS or frame.width > 150 else pods.removesuffix(" pods")


def _among(picture: Picture) -> list[str]:
    """Say which pods of the namespace talk to each other."""
    inside = picture.outside("inside")
    if not inside:
        return ["not to each other"]
    return [
        f"{f'{flow.pods} → {flow.peer}' if flow.pods != flow.peer else '⇄ each other'} {flow.ports}"
        for flow in inside
    ]


def _box(peer: _Peer, x: int, y: int, width: int, characters: int) -> SafeString:
    return format_html(
        '<g class="{}"><title>{}: {}</title>'
        '<rect class="box" x="{}" y="{}" width="{}" height="{}" rx="8"/>'
        '<text class="who" x="{}" y="{}">{}</text><text class="where" x="{}" y="{}">{}</text></g>',
        *(peer.look, peer.name, peer.where, x, y, width, BOX),
        *(x + 10, y + 19, shortened(peer.name, characters - 4)),
        *(x + 10, y + 36, shortened(peer.where, characters)),
    )


def _line(peer: _Peer, x: int, y: int, frame: _Frame, pods: Mapping[str, int]) -> SafeString:
    """Draw the line between a box at ``x`` and the namespace, with what is at its end."""
    leftwards = x > frame.x
    edge = frame.x + frame.width if leftwards else frame.x
    if peer.look in ("denied", "doubt"):
        middle, sign = (x + edge) // 2, "✕" if peer.look == "denied" else "?"
        return format_html(
            '<g class="{}"><line class="line" x1="{}" y1="{}" x2="{}" y2="{}"/>'
            '<circle class="stop" cx="{}" cy="{}" r="9"/>'
            '<text class="sign" x="{}" y="{}" text-anchor="middle">{}</text></g>',
            *(peer.look, x, y, edge, y, middle, y, middle, y + 5, sign),
        )
    inner = edge + (-10 if leftwards else 10)
    begin, end = (x, y), (inner, pods[peer.pods])
    if peer.way == "out":
        begin, end = end, begin
    bend = (x + inner) // 2
    # The arrow head ends at the box; the line ends where the head begins.
    back = 8 if end[0] > begin[0] else -8
    return format_html(
        '<g class="{}"><path class="line" d="M{} {}C{} {} {} {} {} {}"/>'
        '<polygon class="head" points="{},{} {},{} {},{}"/></g>',
        *(peer.look, *begin, bend, begin[1], bend, end[1], end[0] - back, end[1]),
        *(*end, end[0] - back, end[1] - 5, end[0] - back, end[1] + 5),
    )


def _svg(
    picture: Picture, size: str, width: int, height: int, parts: Sequence[SafeString]
) -> SafeString:
    return format_html(
        '<svg class="network {}" viewBox="0 0 {} {}" role="img">'
        "<title>Who may talk to whom in {}</title><desc>{}</desc>{}</svg>",
        *(size, width, height + 2 * TOP, picture.namespace, sentence(picture)),
        format_html_join("", "{}", [(part,) for part in parts]),
    )
