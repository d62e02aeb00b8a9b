"""Pictures from strangers: what is looked at before anything is decoded, and how much may be in hand at once.

A few bytes can ask for gigabytes (a header that promises 60,000 x 60,000 px), for minutes (a JPEG of a thousand scans) or for our
own network (an address). Each is refused by what it says of itself, with a 4xx; what passes takes its turn by its size.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from streamdet.config import PicturesConfig
from streamdet.errors import SourceOpenError
from streamdet.sources.fetch import ForbiddenAddress, TooLarge, fetch, is_web_address
from streamdet.sources.header import Header, header_of
from streamdet.sources.stills import stills_of_bytes
from streamdet.types import Picture

__all__ = ["Budget", "Gate", "Refusal", "checked", "decoded", "file_of"]

_MOST_SCANS = 100  # of a JPEG: a progressive one has ten or so, and each is a pass over the whole picture
_FETCH_S = 20.0


class Refusal(Exception):
    """The request is not served. ``status``: 4xx."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def file_of(image: str, config: PicturesConfig) -> bytes:
    """The file that ``image`` stands for: an address (if allowed) or base64, as a data URI too. Raises Refusal."""
    if is_web_address(image):
        if not config.urls:
            raise Refusal(
                403, "addresses are not fetched here; send the picture itself in base64 (or serve with --urls)"
            )
        try:
            seconds = min(_FETCH_S, config.timeout_s)
            return fetch(image, max_bytes=config.body_bytes, timeout_s=seconds, private=False)
        except ForbiddenAddress as error:
            raise Refusal(403, str(error)) from None
        except TooLarge as error:
            raise Refusal(413, str(error)) from None
        except SourceOpenError as error:
            raise Refusal(422, str(error)) from None
    if image.startswith("data:"):
        image = image.partition(",")[2]
    try:
        return base64.b64decode(image)  # lines and spaces are passed over, as PaddleX's own server does
    except (binascii.Error, ValueError):
        raise Refusal(422, "image: neither an address nor base64 of a picture file") from None


def checked(data: bytes, config: PicturesConfig) -> Header:
    """What the file says of itself. Raises Refusal for what is no picture, or too much of one."""
    header = header_of(data)
    if header is None:
        raise Refusal(422, "image: no JPEG, PNG, WebP, TIFF, BMP, GIF or PNM file")
    if header.kind == "pdf":
        raise Refusal(422, "image: a PDF is no picture; draw its pages first, or use `streamdet run FILE.pdf`")
    if header.px > config.most_px:
        raise Refusal(413, f"image: {header.wh[0]}x{header.wh[1]} px; at most {config.most_px} px are taken here")
    if header.kind == "jpeg" and data.count(b"\xff\xda") > _MOST_SCANS:
        raise Refusal(413, f"image: a JPEG of more than {_MOST_SCANS} scans")
    return header


def decoded(data: bytes) -> Picture:
    """Raises Refusal for a damaged file."""
    try:
        return next(stills_of_bytes(data, dpi=72)).picture
    except ValueError as error:
        raise Refusal(422, f"image: {error}") from None


class Budget:
    """Bytes of requests in hand: those that come when it is used up are told to come again."""

    def __init__(self, total: int) -> None:
        self._left = total

    @contextlib.contextmanager
    def taker(self) -> Iterator[Callable[[int], None]]:
        taken = 0

        def take(amount: int) -> None:
            nonlocal taken
            if amount > self._left:
                raise Refusal(429, "too many large requests at once; come again")
            taken += amount
            self._left -= amount

        try:
            yield take
        finally:
            self._left += taken


class Gate:
    """At most `total` px in hand. Who asks waits in line: a large one is not overtaken for ever by small ones."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        amount = min(amount, self._total)
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((amount, ticket))
        self._let_in()
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():
                self._free += amount
            self._let_in()
            raise
        try:
            yield
        finally:
            self._free += amount
            self._let_in()

    def _let_in(self) -> None:
        while self._line:
            amount, ticket = self._line[0]
            if ticket.cancelled():
                self._line.popleft()
            elif amount <= self._free:
                self._line.popleft()
                self._free -= amount
                ticket.set_result(None)
            else:
                return
