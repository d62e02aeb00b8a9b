"""The HTTP service that clients of PaddleX's small object detection know, word for word.

``POST /small-object-detection`` with a JSON object: ``image`` (base64 of a picture file, or its address where that is allowed),
``threshold`` (number, object by class id or name, or null = 0.5), ``visualize`` (null = as configured: true). 200 answers
``{"logId", "errorCode": 0, "errorMsg": "Success", "result": {"detectedObjects": [{"bbox": [xmin, ymin, xmax, ymax], "categoryId",
"categoryName", "score"}], "image": base64 JPEG | null}}``; anything else has the same envelope without ``result``, and the status
as ``errorCode``. ``GET /health`` says ``Healthy``. Source: PaddleX 3, serving schemas and tutorial of the pipeline.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import msgspec
import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamdet.config import PicturesConfig
from streamdet.errors import SourceLostError, UsageError
from streamdet.image_result import ImageResult
from streamdet.predictor import Predictor, thresholds_of
from streamdet.service.intake import Budget, Gate, Refusal, checked, decoded, file_of
from streamdet.service.paddlex_openapi import document

__all__ = ["PATH", "routes"]

T = TypeVar("T")

PATH = "/small-object-detection"
_WORKERS = 24  # threads that decode, wait for the network, draw and encode
_BODIES = 3  # times the largest request: bytes in hand
_PICTURES = 2  # times the largest picture: px in hand
_JPEG_QUALITY = 90


class _Asked(msgspec.Struct):
    """The request's body; keys we do not know are passed over, as PaddleX does."""

    image: str
    threshold: float | dict[str, float] | None = None
    visualize: bool | None = None


class _Object(msgspec.Struct):
    bbox: tuple[float, float, float, float]
    categoryId: int
    categoryName: str
    score: float


class _Result(msgspec.Struct):
    detectedObjects: list[_Object]
    image: str | None


class _Envelope(msgspec.Struct, omit_defaults=True):
    logId: str
    errorCode: int
    errorMsg: str
    result: _Result | None = None


def routes(predictor: Predictor, config: PicturesConfig | None = None) -> list[BaseRoute]:
    """``/small-object-detection``, ``/health`` and ``/openapi.json`` over one open Predictor, which concurrent requests share."""
    settings = config or PicturesConfig()
    service = _Service(predictor, settings)
    openapi = msgspec.json.encode(document(settings))

    async def openapi_json(request: Request) -> Response:
        return Response(openapi, media_type="application/json")

    return [
        Route(PATH, service.answer, methods=["POST"]),
        Route("/health", _health, methods=["GET"]),
        Route("/openapi.json", openapi_json, methods=["GET"]),
    ]


def refused(status: int, said: str) -> Response:
    """An error in PaddleX's envelope."""
    headers = {"retry-after": "1"} if status == 429 else None
    return _response(_Envelope(_log_id(), status, said), status, headers)


async def _health(request: Request) -> Response:
    return _response(_Envelope(_log_id(), 0, "Healthy"), 200)


def _log_id() -> str:
    return str(uuid.uuid4())


def _response(envelope: _Envelope, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(envelope), status, headers, media_type="application/json")


class _Service:
    def __init__(self, predictor: Predictor, config: PicturesConfig) -> None:
        self._predictor = predictor
        self._config = config
        self._threads = ThreadPoolExecutor(_WORKERS, "pictures")
        self._bodies = Budget(_BODIES * config.body_bytes)
        self._pictures = Gate(_PICTURES * config.most_px)
        self._requests = 0

    async def answer(self, request: Request) -> Response:
        if self._requests >= self._config.waiting:
            return refused(429, f"{self._requests} requests are waiting; come again")
        self._requests += 1
        try:
            result = await self._served(request)
            return _response(_Envelope(_log_id(), 0, "Success", result), 200)
        except Refusal as error:
            return refused(error.status, str(error))
        except (UsageError, SourceLostError) as error:
            return refused(422, str(error))
        except TimeoutError:
            return refused(429, f"not done within {self._config.timeout_s:g} s; send a smaller picture, or come again")
        except ClientDisconnect:
            return refused(400, "the client went away")
        finally:
            self._requests -= 1

    async def _served(self, request: Request) -> _Result:
        asked, data = await self._taken_in(request)
        header = checked(data, self._config)
        thresholds_of(asked.threshold, self._predictor.labels)  # a mistake is told before any work is done
        until_s = time.monotonic() + self._config.timeout_s
        async with asyncio.timeout(self._config.timeout_s), contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self._pictures.hold(header.px))
            return await self._on_thread(lambda: self._looked_at(asked, data, until_s))

    async def _taken_in(self, request: Request) -> tuple[_Asked, bytes]:
        """The request and its file. Nothing else of the body is kept."""
        with self._bodies.taker() as take:
            async with _deadline(self._config.timeout_s, Refusal(408, "the request took too long to arrive")):
                body = await self._body(request, take)
            asked = await self._on_thread(functools.partial(_parsed, body))
            del body
            data = await self._on_thread(functools.partial(file_of, asked.image, self._config))
            asked.image = ""
            return asked, data

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytearray:
        most = self._config.body_bytes
        too_large = Refusal(413, f"the request is larger than {most} bytes")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            if len(body) + len(chunk) > most:
                raise too_large
            take(len(chunk))
            body += chunk
        return body

    def _looked_at(self, asked: _Asked, data: bytes, until_s: float) -> _Result:
        picture = decoded(data)
        left_s = max(0.0, until_s - time.monotonic())
        found = self._predictor.result(picture, threshold=asked.threshold, name="picture", timeout_s=left_s)
        drawn = self._config.visualize if asked.visualize is None else asked.visualize
        objects = [
            _Object(tuple(box["coordinate"]), box["cls_id"], box["label"], box["score"]) for box in found["boxes"]
        ]
        return _Result(objects, _jpeg(found) if drawn else None)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """Not given up when the request is: what runs still holds its memory, and so must hold its place."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await future
            raise


@contextlib.asynccontextmanager
async def _deadline(seconds: float, refusal: Refusal) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise refusal from None


def _parsed(body: bytearray) -> _Asked:
    try:
        return msgspec.json.decode(body, type=_Asked, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        text, _, path = str(error).partition(" - at `$.")
        where = f"{path.rstrip('`')}: " if path else ""
        said = f"{where}{text}" if isinstance(error, msgspec.ValidationError) else f"the body is no JSON: {text}"
        raise Refusal(422, said) from None


def _jpeg(found: ImageResult) -> str:
    done, data = cv2.imencode(".jpg", found.annotated(), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise Refusal(422, "the annotated picture cannot be a JPEG; ask with visualize: false")
    return base64.b64encode(np.asarray(data).tobytes()).decode("ascii")
