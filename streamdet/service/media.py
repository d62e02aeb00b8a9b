"""Clips and snapshots of events, from the recording folder: whole or in ranges, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from streamdet.recording.names import media_file, media_type
from streamdet.service.desk import Desk
from streamdet.service.operation import Operation, Refusal

__all__ = ["OPERATIONS"]


async def media(request: Request) -> Response:
    """A clip that is still being cut is not there yet: 404 with ``Retry-After``."""
    desk: Desk = request.app.state.desk
    file = await asyncio.to_thread(_found, desk, request.path_params["file"])
    # names are never used twice, so whoever has a file may keep it; it is private to who may see the cameras
    return FileResponse(file, media_type=media_type(file), headers={"cache-control": "private, max-age=86400"})


def _found(desk: Desk, name: str) -> Path:
    file = None if desk.recordings is None else media_file(desk.recordings, name)
    if file is None:
        raise Refusal(404, "there is no such clip or snapshot (yet, or any more)")
    return file


OPERATIONS = (
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
