"""Events: asked for with filters and pages, counted, and told as they come (Server-Sent Events, WebSocket)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamdet.service.contract import CountQuery, Counts, EventList, EventQuery, FeedQuery
from streamdet.service.desk import Desk
from streamdet.service.operation import Ask, Operation, Refusal, query_of
from streamdet.types import Event

if TYPE_CHECKING:
    from streamdet.sinks.store import EventStore
    from streamdet.types import StoredEvent

__all__ = ["OPERATIONS", "Feed", "news"]

_QUIET_S = 10.0  # a sign of life at least this often
_STATES_S = 1.0
_SLOW_S = 10.0  # who takes longer than this for one message has lost it


def find_events(desk: Desk, ask: Ask) -> dict[str, Any]:
    query: EventQuery = ask.query
    store = store_of(desk)
    oldest_first = query.after is not None
    try:
        rows = store.query(
            stream=query.stream or None,
            type=query.type or None,
            label=query.label or None,
            zone=query.zone or None,
            line=query.line or None,
            track=None if query.track is msgspec.UNSET else query.track,
            since=query.since,
            until=query.until,
            after_id=query.after,
            before_id=query.before,
            limit=query.limit + 1,
            newest_first=not oldest_first,
        )
    except (ValueError, OverflowError):
        raise Refusal(422, "query: since and until are times such as 2026-11-25T13:30:00Z") from None
    page, more = rows[: query.limit], len(rows) > query.limit
    answer: dict[str, Any] = {"events": [msgspec.Raw(row.json) for row in page]}
    return {**answer, "next": page[-1].id} if more else answer


def get_event(desk: Desk, ask: Ask) -> msgspec.Raw:
    row = store_of(desk).get(ask.path["event"])
    if row is None:
        raise Refusal(404, f"there is no event '{ask.path['event']}' (any more)")
    return msgspec.Raw(row.json)


def count_events(desk: Desk, ask: Ask) -> Counts:
    query: CountQuery = ask.query
    try:
        counts = store_of(desk).counts(
            query.by,
            stream=query.stream or None,
            type=query.type or None,
            label=query.label or None,
            zone=query.zone or None,
            since=query.since,
            until=query.until,
            step_s=query.step_s,
        )
    except (ValueError, OverflowError):
        raise Refusal(422, "query: since and until are times such as 2026-11-25T13:30:00Z") from None
    return Counts(counts=counts)


def store_of(desk: Desk) -> EventStore:
    store = desk.station.store
    if store is None:
        raise Refusal(503, "no event store is open")
    return store


# ----------------------------------------------------------------------------------------------------------- as they come


class Feed:
    """The events after one id, then each as it comes, for one reader on the event loop. Close it."""

    def __init__(self, desk: Desk, query: FeedQuery, after: str | None) -> None:
        loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._query = query

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._more.set)

        self._subscription = store_of(desk).subscribe(after, wake=wake)

    async def next(self, timeout_s: float) -> list[StoredEvent]:
        """The next events that match; empty after about `timeout_s`."""
        rows = await self._poll()
        if not rows:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout_s)
            self._more.clear()
            rows = await self._poll()
        return [row for row in rows if self._wanted(row)]

    def close(self) -> None:
        self._subscription.close()

    async def _poll(self) -> list[StoredEvent]:
        try:
            return await asyncio.to_thread(self._subscription.poll, 200)
        except sqlite3.Error as error:  # the station has stopped, or its disk has
            raise Refusal(503, f"the event store cannot be read: {error}") from None

    def _wanted(self, row: StoredEvent) -> bool:
        query = self._query
        return _in(row.stream, query.stream) and _in(row.type, query.type) and _in(row.label, query.label)


def _in(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or name in wanted


async def stream_events(request: Request) -> Response:
    """Server-Sent Events; a browser that comes back says `Last-Event-ID` and misses nothing."""
    desk: Desk = request.app.state.desk
    query: FeedQuery = query_of(request, FeedQuery)
    after = request.headers.get("last-event-id") or query.after
    if after is not None and len(after) > 100:
        raise Refusal(422, "Last-Event-ID is no id of an event")
    place = contextlib.ExitStack()
    place.enter_context(desk.place())
    feed = Feed(desk, query, after)
    place.callback(feed.close)

    async def told() -> AsyncIterator[bytes]:
        with place, contextlib.suppress(Refusal):
            yield b"retry: 2000\n\n"
            clock = asyncio.get_running_loop().time
            spoke_s = clock()
            while not desk.stopping.is_set():
                rows = await feed.next(1.0)
                if rows or clock() - spoke_s > _QUIET_S:
                    spoke_s = clock()
                    yield b"".join(_as_sse(row) for row in rows) or b": still here\n\n"

    return StreamingResponse(told(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _as_sse(row: StoredEvent) -> bytes:
    return f"id: {row.id}\nevent: {row.type}\ndata: ".encode() + row.json + b"\n\n"


async def news(socket: WebSocket) -> None:
    """The page's one line to the station: ``{"event": ...}`` as they come, ``{"cameras": [...]}`` every second."""
    desk: Desk = socket.app.state.desk
    try:
        query: FeedQuery = query_of(socket, FeedQuery)
        with desk.place(), contextlib.closing(Feed(desk, query, query.after)) as feed:
            await socket.accept()
            await _until_gone(socket, asyncio.create_task(_tell(desk, socket, feed)))
    except Refusal as refusal:
        await socket.close(1013 if refusal.status == 503 else 1008, str(refusal)[:120])


async def _tell(desk: Desk, socket: WebSocket, feed: Feed) -> None:
    while not desk.stopping.is_set():
        states = await asyncio.to_thread(desk.states)
        await _send(socket, msgspec.json.encode({"cameras": states}))
        until = asyncio.get_running_loop().time() + _STATES_S
        while (left := until - asyncio.get_running_loop().time()) > 0:
            for row in await feed.next(left):
                await _send(socket, b'{"event":' + row.json + b"}")
    await socket.close(1001)


async def _send(socket: WebSocket, data: bytes) -> None:
    await asyncio.wait_for(socket.send_text(data.decode()), _SLOW_S)


async def _until_gone(socket: WebSocket, telling: asyncio.Task[None]) -> None:
    """Until the other side leaves or the telling ends; whatever it says is not listened to."""

    async def leaving() -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()

    left = asyncio.create_task(leaving())
    try:
        await asyncio.wait({telling, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (telling, left):
            task.cancel()
        for outcome in await asyncio.gather(telling, left, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(
                outcome, WebSocketDisconnect | TimeoutError | RuntimeError | KeyError
            ):
                raise outcome


OPERATIONS = (
    Operation(
        "GET",
        "/api/events",
        "Events that match, newest first; with `after` oldest first",
        "events",
        find_events,
        query=EventQuery,
        answer=EventList,
        problems=(503,),
    ),
    Operation(
        "GET",
        "/api/events/counts",
        "How many events match, by one of their columns or by time",
        "events",
        count_events,
        query=CountQuery,
        answer=Counts,
        problems=(503,),
    ),
    Operation(
        "GET",
        "/api/events/stream",
        "Events as they come (Server-Sent Events); Last-Event-ID or `after` goes on where one was",
        "events",
        raw=stream_events,
        query=FeedQuery,
        media="text/event-stream",
        problems=(503,),
    ),
    Operation("GET", "/api/events/{event}", "One event", "events", get_event, answer=Event, problems=(404, 503)),
)
