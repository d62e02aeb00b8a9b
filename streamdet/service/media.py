"""Films from their folders: clips and snapshots of events, HLS of the annotated stream; whole or in ranges, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from streamdet.recording.names import media_file, media_type
from streamdet.service.desk import Desk
from streamdet.service.operation import Operation, Refusal

__all__ = ["OPERATIONS"]

PLAYLIST_S = 8.0  # the first to look waits for the first segment, no longer than this
_HLS_TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "ts": "video/mp2t",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
}


async def media(request: Request) -> Response:
    """A clip that is still being cut is not there yet: 404 with ``Retry-After``."""
    desk: Desk = request.app.state.desk
    file = await asyncio.to_thread(_found, desk, request.path_params["file"])
    # a clip's name is never used twice, so whoever has it may keep it; a snapshot is replaced by a better one while its object
    # is there. Both are private to who may see the cameras
    keep = "max-age=86400" if file.suffix == ".mp4" else "no-cache"
    return FileResponse(file, media_type=media_type(file), headers={"cache-control": f"private, {keep}"})


def _found(desk: Desk, name: str) -> Path:
    file = None if desk.recordings is None else media_file(desk.recordings, name)
    if file is None:
        raise Refusal(404, "there is no such clip or snapshot (yet, or any more)")
    return file


async def hls(request: Request) -> Response:
    """The stream is encoded while somebody asks for its playlist, and for a while after."""
    desk: Desk = request.app.state.desk
    camera, name = request.path_params["camera"], request.path_params["name"]
    await asyncio.to_thread(desk.state, camera)
    if desk.config.broadcast.hls is None:
        raise Refusal(404, "there is no HLS: broadcast.hls names no folder; /cameras/NAME/mjpeg needs none")
    await asyncio.to_thread(desk.station.look_at_hls, camera)
    kind = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(m3u8|ts|m4s|mp4)", name)
    file = Path(os.path.expanduser(desk.config.broadcast.hls)) / camera / name
    wait_s = PLAYLIST_S if kind is not None and kind[1] == "m3u8" else 0.0
    if kind is None or not await _there(desk, file, wait_s):
        raise Refusal(404, "there is no such playlist or segment (yet, or any more)")
    return FileResponse(file, media_type=_HLS_TYPES[kind[1]], headers={"cache-control": "no-cache"})


async def _there(desk: Desk, file: Path, wait_s: float) -> bool:
    """Whether there is such a file, or comes to be within `wait_s`; who waits holds no thread that others need."""
    clock = asyncio.get_running_loop().time
    until_s = clock() + wait_s
    while not (there := await asyncio.to_thread(file.is_file)) and clock() < until_s and not desk.stopping.is_set():
        await asyncio.sleep(0.1)
    return there


OPERATIONS = (
    Operation(
        "GET",
        "/cameras/{camera}/hls/{name}",
        "The annotated stream as HLS, where broadcast.hls is set: live.m3u8 and its segments",
        "live",
        raw=hls,
        media="application/vnd.apple.mpegurl",
        problems=(404,),
    ),
    Operation(
        "GET",
        "/media/{file}",
        "A clip or snapshot, by the address an event gives; Range requests are answered",
        "events",
        raw=media,
        media="application/octet-stream",
        problems=(404,),
    ),
)
