"""Cameras: list, look at, add, remove, pause."""

from __future__ import annotations

from streamdet.config import CameraConfig
from streamdet.errors import UsageError
from streamdet.service.addresses import check_source
from streamdet.service.contract import CameraList, CameraState, History, HistoryQuery, NewCamera
from streamdet.service.desk import Desk
from streamdet.service.operation import Ask, Operation, Refusal

__all__ = ["OPERATIONS"]


def list_cameras(desk: Desk, ask: Ask) -> CameraList:
    return CameraList(cameras=desk.states())


def get_camera(desk: Desk, ask: Ask) -> CameraState:
    return desk.state(ask.path["camera"])


def add_camera(desk: Desk, ask: Ask) -> CameraState:
    body: NewCamera = ask.body
    if body.name.endswith("\n"):  # which a pattern's $ lets through
        raise Refusal(422, "body: name: a name is one line")
    with desk.changing:
        if any(state.name == body.name for state in desk.states()):
            raise Refusal(409, f"there is a camera '{body.name}' already; choose another name or remove that one")
        try:
            source = check_source(body.source, desk.config.serve.camera_hosts)
        except UsageError as error:
            raise Refusal(403, str(error)) from None
        camera = CameraConfig(source=source, username=body.username, password=body.password, fps=body.fps)
        with desk.overlay.unless_it_fails():
            desk.overlay.add_camera(body.name, camera)
            desk.station.add(body.name, camera)
        return desk.state(body.name)


def remove_camera(desk: Desk, ask: Ask) -> None:
    name = ask.path["camera"]
    with desk.changing:
        desk.state(name)
        with desk.overlay.unless_it_fails():
            desk.overlay.remove_camera(name)
            desk.station.remove(name)
        desk.hub.forget(name)


def pause_camera(desk: Desk, ask: Ask) -> CameraState:
    return _enable(desk, ask.path["camera"], False)


def resume_camera(desk: Desk, ask: Ask) -> CameraState:
    return _enable(desk, ask.path["camera"], True)


def camera_history(desk: Desk, ask: Ask) -> History:
    query: HistoryQuery = ask.query
    name = ask.path["camera"]
    desk.state(name)
    seconds = desk.hub.tally(name).seconds(query.seconds)
    return History(
        at=[second.at for second in seconds],
        fps=[second.frames for second in seconds],
        objects=[second.objects for second in seconds],
        latency_s=[round(s.latency_s / s.frames, 4) if s.frames and s.latency_s else None for s in seconds],
        tiles_run=[round(s.tiles_run / s.frames, 2) if s.frames else 0.0 for s in seconds],
        tiles_of=[round(s.tiles_of / s.frames, 2) if s.frames else 0.0 for s in seconds],
        events=[second.events for second in seconds],
    )


def _enable(desk: Desk, name: str, enabled: bool) -> CameraState:
    with desk.changing:
        desk.state(name)
        with desk.overlay.unless_it_fails():
            desk.overlay.set_enabled(name, enabled)
            (desk.station.resume if enabled else desk.station.pause)(name)
        return desk.state(name)


_ONE = "/api/cameras/{camera}"

OPERATIONS = (
    Operation("GET", "/api/cameras", "All cameras and how they do", "cameras", list_cameras, answer=CameraList),
    Operation(
        "POST",
        "/api/cameras",
        "Add a camera",
        "cameras",
        add_camera,
        body=NewCamera,
        answer=CameraState,
        status=201,
        problems=(403, 409),
    ),
    Operation("GET", _ONE, "One camera", "cameras", get_camera, answer=CameraState, problems=(404,)),
    Operation("DELETE", _ONE, "Remove a camera", "cameras", remove_camera, status=204, problems=(404,)),
    Operation(
        "POST", f"{_ONE}/pause", "Stop reading a camera", "cameras", pause_camera, answer=CameraState, problems=(404,)
    ),
    Operation("POST", f"{_ONE}/resume", "Read it again", "cameras", resume_camera, answer=CameraState, problems=(404,)),
    Operation(
        "GET",
        f"{_ONE}/history",
        "Its last minutes, second by second",
        "cameras",
        camera_history,
        query=HistoryQuery,
        answer=History,
        problems=(404,),
    ),
)
