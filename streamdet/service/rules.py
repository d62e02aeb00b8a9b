"""Zones and lines of a camera: read, replaced as a whole, effective from the next frame, kept over a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from streamdet.config import Line, Zone
from streamdet.service.contract import LineBody, ZoneBody, Zones
from streamdet.service.desk import Desk
from streamdet.service.operation import Ask, Operation, Refusal

__all__ = ["OPERATIONS"]

Node = TypeVar("Node", bound=msgspec.Struct)


def get_zones(desk: Desk, ask: Ask) -> Zones:
    name = ask.path["camera"]
    desk.state(name)
    rules = desk.station.rules(name)
    return Zones(zones=_as(ZoneBody, rules.zones), lines=_as(LineBody, rules.lines))


def put_zones(desk: Desk, ask: Ask) -> Zones:
    name = ask.path["camera"]
    body: Zones = ask.body
    for kind, names in (("zone", [z.name for z in body.zones]), ("line", [line.name for line in body.lines])):
        for twin, count in Counter(names).items():
            if count > 1:
                raise Refusal(409, f"{count} {kind}s are called '{twin}'; give each a name of its own")
    for line in body.lines:
        if line.start == line.end:
            raise Refusal(409, f"line '{line.name}' starts and ends at {line.start}; it needs two different points")
    zones, lines = _as(Zone, body.zones), _as(Line, body.lines)
    with desk.changing:
        desk.state(name)
        rules = msgspec.structs.replace(desk.station.rules(name), zones=zones, lines=lines)
        with desk.overlay.unless_it_fails():
            desk.overlay.set_rules(name, zones, lines)
            desk.station.set_rules(name, rules)
        desk.rules_changed(name)
    return body


def _as(kind: type[Node], nodes: Sequence[msgspec.Struct]) -> list[Node]:
    return [msgspec.convert(msgspec.to_builtins(node), kind) for node in nodes]


_PATH = "/api/cameras/{camera}/zones"

OPERATIONS = (
    Operation("GET", _PATH, "Its zones and lines", "rules", get_zones, answer=Zones, problems=(404,)),
    Operation(
        "PUT", _PATH, "Replace its zones and lines", "rules", put_zones, body=Zones, answer=Zones, problems=(404, 409)
    ),
)
