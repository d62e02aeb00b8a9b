"""`demo`: the built-in rendered scene as a source, with its truth at hand."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

from streamdet.config import SourceConfig
from streamdet.errors import ConfigError, SourceOpenError
from streamdet.sources.demo_scene import Scene
from streamdet.types import Frame, SourceInfo

__all__ = ["DemoSource"]

_DEFAULT_FPS = 30.0


class DemoSource:
    """Frames of `Scene`, as fast as they are taken. ``source.scene`` (valid once entered) knows the truth.

    Uses `config.demo_size`, `demo_seconds`, `demo_movers`, `seed`, `fps` (None: 30) and `max_frames`.
    Raises ConfigError for a size that is not WIDTHxHEIGHT.
    """

    def __init__(self, *, stream: str, config: SourceConfig) -> None:
        self.counts = {"decoded": 0, "damaged": 0, "skipped": 0}
        self.warnings: list[str] = []
        self._stream = stream
        self._config = config
        self._frame_wh = _parse_size(config.demo_size)
        self._rate = _exact_rate(config.fps or _DEFAULT_FPS)
        self._scene: Scene | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        config = self._config
        self._scene = Scene(
            self._frame_wh,
            fps=float(self._rate),
            seconds=config.demo_seconds,
            movers=config.demo_movers,
            seed=config.seed,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()

    @property
    def scene(self) -> Scene:
        if self._scene is None:
            raise SourceOpenError("the demo scene is not open yet; use it inside a `with` block")
        return self._scene

    @property
    def info(self) -> SourceInfo:
        count = self._frame_count
        return SourceInfo(
            stream=self._stream,
            uri="demo",
            frame_wh=self._frame_wh,
            fps=self.scene.fps,
            frame_count=count,
            duration_s=count / self.scene.fps,
        )

    @property
    def _frame_count(self) -> int:
        count = self.scene.frame_count
        return min(count, self._config.max_frames) if self._config.max_frames else count

    def __iter__(self) -> Iterator[Frame]:
        scene = self.scene
        time_base = 1 / self._rate
        for index in range(self._frame_count):
            if self._closed.is_set():
                return
            picture = scene.picture(index)
            self.counts["decoded"] += 1
            yield Frame(
                stream=self._stream,
                index=index,
                pts_s=float(index * time_base),
                picture=picture,
                captured_s=time.monotonic(),
                pts=index,
                time_base=time_base,
            )


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*", text)
    if match is None:
        raise ConfigError(f"source.demo_size must be WIDTHxHEIGHT, got '{text}'; for example 1920x1080")
    return int(match[1]), int(match[2])


def _exact_rate(fps: float) -> Fraction:
    """29.97 is meant as 30000/1001, and its like; anything else as it is."""
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    return ntsc if abs(float(ntsc) - fps) < 5e-4 * fps else Fraction(fps).limit_denominator(100_000)
