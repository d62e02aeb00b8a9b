"""One JSON operation of the API: how it is called, what it takes and gives, and the few steps every call goes through."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from streamdet.errors import StreamdetError, UsageError, redact
from streamdet.service.contract import Problem

if TYPE_CHECKING:
    from streamdet.service.desk import Desk

__all__ = ["Ask", "Operation", "Refusal", "endpoint_of", "problem", "query_of"]

log = logging.getLogger(__name__)

_JSON = msgspec.json.Encoder()


class Refusal(Exception):
    """A call that is answered with a status and one sentence."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller wants, already checked against the operation's types."""

    path: Mapping[str, str]
    query: Any = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """`run(desk, ask)` is called on a worker thread and gives an `answer` (None: nothing, 204).

    `raw` takes the request itself instead, for what is no JSON (`media` says what it is); both are documented alike.
    """

    method: str
    path: str
    summary: str
    tag: str
    run: Callable[[Desk, Ask], Any] | None = None
    raw: Callable[[Request], Awaitable[Response]] | None = None
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    status: int = 200
    media: str = "application/json"
    problems: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        called = self.run or self.raw
        assert called is not None
        return called.__name__.strip("_")


def endpoint_of(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """The operation as something Starlette can call; its errors become answers."""

    async def endpoint(request: Request) -> Response:
        try:
            if operation.raw is not None:
                return await operation.raw(request)
            assert operation.run is not None
            query = None if operation.query is None else query_of(request, operation.query)
            body = None if operation.body is None else await _body_of(request, operation.body)
            ask = Ask(request.path_params, query, body)
            answer = await asyncio.to_thread(operation.run, request.app.state.desk, ask)
            if answer is None:
                return Response(status_code=204)
            return Response(_JSON.encode(answer), operation.status, media_type="application/json")
        except Refusal as refusal:
            return problem(refusal.status, str(refusal))
        except UsageError as error:
            return problem(422, str(error))
        except StreamdetError as error:
            return problem(409, str(error))
        except sqlite3.Error as error:
            return problem(503, f"the event store cannot be read: {error}")

    return endpoint


def problem(status: int, error: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    return Response(_JSON.encode(Problem(error=redact(error))), status, headers=headers, media_type="application/json")


def query_of(request: HTTPConnection, wanted: type[Any]) -> Any:
    """The query of an address as `wanted`. Raises Refusal."""
    given: dict[str, Any] = {}
    listed = {field.name for field in msgspec.structs.fields(wanted) if _is_list(field.type)}
    for name, value in request.query_params.multi_items():
        if name in listed:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Refusal(422, f"query: '{name}' is given twice; give it once")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"query: {_plain(error)}") from None


async def _body_of(request: Request, wanted: type[Any]) -> Any:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is '{kind or 'unnamed'}'; send application/json")
    data = await request.body()
    try:
        return msgspec.json.decode(data, type=wanted)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"body: {_plain(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None


def _is_list(kind: Any) -> bool:
    if hasattr(kind, "__metadata__"):  # Annotated
        return _is_list(typing.get_args(kind)[0])
    origin = typing.get_origin(kind)
    return origin is list or (origin is types.UnionType and any(_is_list(part) for part in typing.get_args(kind)))


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec says "Expected `int` - at `$.limit`": in the words of a user."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    text = text.replace("Object contains unknown field", "there is no").replace(
        "Object missing required field", "missing"
    )
    return f"{path}: {text}" if path else text
