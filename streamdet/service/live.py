"""Pictures of a camera: one, an endless row of them (MJPEG), or with the frame's record over a WebSocket.

Latency stays bounded by construction: each viewer gets the newest frame when it is ready for one, never a queue of old ones.
A WebSocket viewer says what it has drawn and is sent at most :data:`_AHEAD` frames beyond that; who stops reading is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamdet.service.contract import LiveQuery, PictureQuery
from streamdet.service.desk import Arrivals, Desk
from streamdet.service.operation import Operation, Refusal, query_of
from streamdet.sinks.hub import Shot

__all__ = ["OPERATIONS", "watch"]

_AHEAD = 2  # frames under way to one viewer
_SLOW_S = 10.0  # a viewer that takes longer than this for a frame is gone
_STATE_S = 1.0  # without a picture the viewer is told this often why
_BOUNDARY = b"streamdet-frame"


async def snapshot(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    query: PictureQuery = query_of(request, PictureQuery)
    shot = await _shot(desk, request.path_params["camera"])
    data = await asyncio.to_thread(shot.jpeg, annotated=query.annotated, width=query.width)
    about = {"x-frame": str(shot.result.frame.index), "x-frame-age": f"{shot.age_s:.3f}"}
    return Response(data, media_type="image/jpeg", headers=about)


async def frame(request: Request) -> Response:
    shot = await _shot(request.app.state.desk, request.path_params["camera"])
    return Response(await asyncio.to_thread(shot.record), media_type="application/json")


async def mjpeg(request: Request) -> Response:
    """For everything that knows no better: players, dashboards, ``<img>``. Chromium shows it one frame late."""
    desk: Desk = request.app.state.desk
    camera = request.path_params["camera"]
    query: LiveQuery = query_of(request, LiveQuery)
    await asyncio.to_thread(desk.state, camera)
    place = contextlib.ExitStack()
    place.enter_context(desk.place())

    async def parts() -> AsyncIterator[bytes]:
        with place:
            async for shot in _frames(desk, camera, _pause_s(desk, query)):
                data = await asyncio.to_thread(shot.jpeg, annotated=query.annotated, width=query.width)
                head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (_BOUNDARY, len(data))
                yield head + data + b"\r\n"

    return _Stoppable(parts(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")


class _Stoppable(StreamingResponse):
    """Lets go of a reader that does not take what it asked for."""

    async def stream_response(self, send) -> None:  # type: ignore[no-untyped-def]
        async def in_time(message) -> None:  # type: ignore[no-untyped-def]
            await asyncio.wait_for(send(message), _SLOW_S)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(in_time)


async def _frames(desk: Desk, camera: str, pause_s: float) -> AsyncIterator[Shot]:
    """Each time the newest frame, until the application stops or the camera is removed."""
    arrivals = _arrivals(desk)
    number, clock = 0, asyncio.get_running_loop().time
    while not desk.stopping.is_set():
        shot = await arrivals.newer(camera, number, _STATE_S)
        if shot is None:
            if camera not in {status.name for status in await asyncio.to_thread(desk.station.cameras)}:
                return
            continue
        begun_s = clock()
        number = shot.number
        yield shot
        if (left_s := pause_s - (clock() - begun_s)) > 0:
            await asyncio.sleep(left_s)


async def watch(socket: WebSocket) -> None:
    """One camera, live. Down: binary messages (u32 length of the JSON, little-endian; JSON; JPEG), and text ``{"camera": ...}``
    once a second while there is no picture. Up: text, the number (``seq``) of the frame that was drawn.
    """
    desk: Desk = socket.app.state.desk
    camera = socket.path_params["camera"]
    try:
        query: LiveQuery = query_of(socket, LiveQuery)
        await asyncio.to_thread(desk.state, camera)
        with desk.place():
            await socket.accept()
            await _Viewer(desk, socket, camera, query).run()
    except Refusal as refusal:
        await socket.close(1013 if refusal.status == 503 else 1008, str(refusal)[:120])


class _Viewer:
    """One WebSocket and how far it has got."""

    def __init__(self, desk: Desk, socket: WebSocket, camera: str, query: LiveQuery) -> None:
        self._desk = desk
        self._socket = socket
        self._camera = camera
        self._query = query
        self._under_way: list[int] = []
        self._drawn = asyncio.Event()

    async def run(self) -> None:
        """Until either side has had enough."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._show())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(
                    outcome, WebSocketDisconnect | TimeoutError | RuntimeError | KeyError
                ):
                    raise outcome

    async def _listen(self) -> None:
        while True:
            text = await self._socket.receive_text()
            if text.isascii() and text.isdecimal() and len(text) < 16:
                number = int(text)
                self._under_way = [sent for sent in self._under_way if sent > number]
                self._drawn.set()

    async def _show(self) -> None:
        desk, number = self._desk, 0
        arrivals, clock = _arrivals(desk), asyncio.get_running_loop().time
        pause_s = _pause_s(desk, self._query)
        while not desk.stopping.is_set():
            while len(self._under_way) >= _AHEAD:
                self._drawn.clear()
                await asyncio.wait_for(self._drawn.wait(), _SLOW_S)
            shot = await arrivals.newer(self._camera, number, _STATE_S)
            if shot is None:
                state = await asyncio.to_thread(self._state)
                await self._in_time(self._socket.send_text(state.decode()))
                continue
            begun_s = clock()
            number = shot.number
            data = await asyncio.to_thread(self._message, shot)
            self._under_way.append(number)
            await self._in_time(self._socket.send_bytes(data))
            if (left_s := pause_s - (clock() - begun_s)) > 0:
                await asyncio.sleep(left_s)
        await self._socket.close(1001)

    def _message(self, shot: Shot) -> bytes:
        jpeg = shot.jpeg(annotated=self._query.annotated, width=self._query.width)
        about = b'{"seq":%d,"wh":[%d,%d],"age_s":%.4f,"rules":%d,"record":%s}' % (
            shot.number,
            *shot.result.frame.wh,
            shot.age_s,
            self._desk.revision(self._camera),
            shot.record(),
        )
        return struct.pack("<I", len(about)) + about + jpeg

    def _state(self) -> bytes:
        return msgspec.json.encode({"camera": self._desk.state(self._camera)})

    async def _in_time(self, sending) -> None:  # type: ignore[no-untyped-def]
        await asyncio.wait_for(sending, _SLOW_S)


async def _shot(desk: Desk, camera: str) -> Shot:
    """The newest frame of a camera. Raises Refusal."""
    state = await asyncio.to_thread(desk.state, camera)
    shot = desk.hub.shot(camera)
    if shot is None:
        raise Refusal(503, f"camera '{camera}' is {state.state} and gave no frame yet")
    return shot


def _arrivals(desk: Desk) -> Arrivals:
    if desk.arrivals is None:
        raise Refusal(503, "the service is starting; try again")
    return desk.arrivals


def _pause_s(desk: Desk, query: LiveQuery) -> float:
    """The least time between two frames to one viewer."""
    rates = [rate for rate in (query.fps, desk.config.serve.live_fps) if rate]
    return 1 / min(rates) if rates else 0.0


_BASE = "/cameras/{camera}"

OPERATIONS = (
    Operation(
        "GET",
        f"{_BASE}/snapshot.jpg",
        "Its newest picture",
        "live",
        raw=snapshot,
        query=PictureQuery,
        media="image/jpeg",
        problems=(404, 503),
    ),
    Operation(
        "GET",
        f"{_BASE}/mjpeg",
        "Its pictures without end, as motion JPEG",
        "live",
        raw=mjpeg,
        query=LiveQuery,
        media="multipart/x-mixed-replace",
        problems=(404, 503),
    ),
    Operation(
        "GET",
        f"/api{_BASE}/frame",
        "What was found in its newest frame, as in frames.jsonl",
        "live",
        raw=frame,
        answer=dict[str, Any],
        problems=(404, 503),
    ),
)
