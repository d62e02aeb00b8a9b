"""What one tile costs here: packing and the network, by tile size and by how many are run together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdet.assemble import make_detector, open_source
from streamdet.config import Config, with_values
from streamdet.errors import SourceOpenError, redact
from streamdet.inputspec import InputSpec
from streamdet.places import only_source
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import Frame, Motion, SourceInfo

__all__ = ["Material", "TileSpeed", "look_at"]

_BATCHES = (1, 2, 4, 8, 16)
_SIDES = (320, 640, 1280)  # of any-size networks
_LEAST_S, _ROUNDS = 0.15, 3


@dataclass(frozen=True, slots=True)
class TileSpeed:
    """``ms`` per tile (the best of three rounds) when `batch` tiles of `input_wh` are run together."""

    input_wh: tuple[int, int]
    batch: int
    ms: float

    def to_dict(self) -> dict[str, Any]:
        return {"input_wh": list(self.input_wh), "batch": self.batch, "ms_per_tile": round(self.ms, 3)}


@dataclass(frozen=True, slots=True)
class Material:
    """What is known of clip and network before anything is tried. ``spec`` None: no network."""

    info: SourceInfo
    frame: Frame
    spec: InputSpec | None
    model: str
    labels: tuple[str, ...]
    threshold: float
    speeds: tuple[TileSpeed, ...]


def look_at(config: Config, *, frame: int) -> Material:
    """Open source and network once: a picture (the one numbered `frame`, or the last before it), and the cost of tiles."""
    spec = only_source(config.sources)
    picture: Frame | None = None
    with open_source(spec, config) as source:
        info = source.info
        for picture in source:
            if picture.index >= frame:
                break
    if picture is None:
        raise SourceOpenError(f"cannot use {redact(spec.uri)}: it holds no picture that can be read; give another clip")
    wh = picture.wh
    with make_detector(config) as detector:
        fed = detector.input
        speeds: list[TileSpeed] = []
        if fed is not None:
            sides: list[int | None] = [side for side in _SIDES if fed.wh is None and side <= max(wh)]
            for side in sides or [None]:
                speeds += _speeds(config, detector, fed, picture, side)
        return Material(info, picture, fed, detector.describe(), detector.labels, detector.threshold, tuple(speeds))


def _speeds(config: Config, detector: Any, fed: InputSpec, picture: Frame, side: int | None) -> list[TileSpeed]:
    tile = {"tiles.tile": side} if side else {}
    plan = plan_tiles(
        picture.wh, input_wh=fed.wh, config=with_values(config, tile).tiles, stretch=fed.stretch, stride=fed.stride
    )
    packer, motion = CpuPacker(fed), Motion(picture.picture.luma)
    out = []
    for batch in _BATCHES:
        rows = np.arange(batch) % len(plan)
        tiles = plan[rows]
        best = np.inf
        for _ in range(_ROUNDS):
            started, runs = time.perf_counter(), 0
            while time.perf_counter() - started < _LEAST_S or not runs:
                detector(packer(picture, motion, tiles))
                runs += 1
            best = min(best, (time.perf_counter() - started) / runs / batch)
        out.append(TileSpeed(plan.input_wh, batch, best * 1e3))
    return out
