"""The station as a whole: state, health, metrics, checking a configuration."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from streamdet import __version__
from streamdet.config import Config, from_text, json_schema, to_shown_tree
from streamdet.errors import StreamdetError, redact
from streamdet.service.contract import CameraState, ConfigText, Delivery, Health, StationState, Verdict
from streamdet.service.desk import Desk
from streamdet.service.metrics import exposition
from streamdet.service.operation import Ask, Operation

__all__ = ["OPERATIONS", "stale"]


def get_state(desk: Desk, ask: Ask) -> StationState:
    store = desk.station.store
    return StationState(
        version=__version__,
        started=desk.started,
        uptime_s=round(time.monotonic() - desk.started_s, 1),
        model=desk.station.describe(),
        cameras=desk.states(),
        deliveries=deliveries_of(desk),
        events=None if store is None else store.status().events,
        viewers=desk.viewers,
    )


def deliveries_of(desk: Desk) -> list[Delivery]:
    given = desk.station.deliveries
    return [] if given is None else [msgspec.convert(one, Delivery, from_attributes=True) for one in given.status()]


def stale(states: list[CameraState], stale_s: float) -> list[str]:
    """Why the cameras are not well, one sentence each. Paused ones are as they should be."""
    reasons = []
    for state in states:
        if state.state == "paused":
            continue
        waited_s = state.since_s if state.last_frame_age_s is None else state.last_frame_age_s
        if state.state == "failed" or waited_s > stale_s:
            why = f": {state.reason}" if state.reason else ""
            reasons.append(f"camera '{state.name}' is {state.state}, no frame for {waited_s:.0f} s{why}")
    return reasons


_STILL_S = 3.0  # a sign comes every half second; a busy machine is no dead one


def unwell(desk: Desk) -> list[str]:
    """What is wrong with the station, one sentence each: cameras may give frames that nobody looks at any more."""
    stale_s = desk.config.serve.stale_s
    still_s = time.monotonic() - desk.station.beat_s
    reasons = stale(desk.states(), stale_s)
    if still_s > max(stale_s, _STILL_S):
        reasons.append(
            f"nothing is processed for {still_s:.0f} s: the model stands still, or is still being brought up"
        )
    return reasons


async def health(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    reasons = await asyncio.to_thread(unwell, desk)
    told = [redact(reason) for reason in reasons] if request.scope["state"].get("known") else []
    body = Health(status="stale" if reasons else "ok", reasons=told)
    return Response(msgspec.json.encode(body), 503 if reasons else 200, media_type="application/json")


async def metrics(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    text = await asyncio.to_thread(lambda: exposition(desk, desk.states(), deliveries_of(desk)))
    return Response(text, media_type="text/plain; version=0.0.4")


def validate_config(desk: Desk, ask: Ask) -> Verdict:
    """Nothing of the text is opened or looked up, and no ``${NAME}`` is filled in from this machine's environment."""
    body: ConfigText = ask.body
    try:
        from_text(body.text, origin="configuration")
    except StreamdetError as error:
        return Verdict(valid=False, error=redact(str(error)))
    return Verdict(valid=True)


def config_schema(desk: Desk, ask: Ask) -> dict[str, Any]:
    return json_schema()


def get_config(desk: Desk, ask: Ask) -> dict[str, Any]:
    """What runs, changes by the API included; passwords, tokens and keys as ``***``."""
    return shown(desk.overlay.apply(desk.station.config))


def shown(config: Config) -> dict[str, Any]:
    tree: dict[str, Any] = _without_secrets(to_shown_tree(config))
    return tree


_SECRETS = ("token", "password", "secret", "key", "username", "user")


def _without_secrets(tree: Any, name: str = "") -> Any:
    if isinstance(tree, dict):
        return {key: _without_secrets(value, str(key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_secrets(value, name) for value in tree]
    if isinstance(tree, str):
        return "***" if tree and name.lower().endswith(_SECRETS) else redact(tree)
    return tree


OPERATIONS = (
    Operation("GET", "/api/state", "Everything at a glance", "station", get_state, answer=StationState),
    Operation(
        "GET",
        "/healthz",
        "200 while every camera that should run gives frames and they are processed, else 503 with the reasons",
        "station",
        raw=health,
        answer=Health,
        problems=(503,),
    ),
    Operation("GET", "/metrics", "For Prometheus", "station", raw=metrics, media="text/plain"),
    Operation(
        "POST",
        "/api/config/validate",
        "Whether a configuration file is valid, and if not, where",
        "configuration",
        validate_config,
        body=ConfigText,
        answer=Verdict,
    ),
    Operation("GET", "/api/config/schema", "JSON Schema of it", "configuration", config_schema, answer=dict[str, Any]),
    Operation("GET", "/api/config", "The one in use", "configuration", get_config, answer=dict[str, Any]),
)
