"""From clips to crops: the pipeline's own motion model and packer make the planes; they are kept as 8 bit tensors on disk.

A shard is ``<name>.crops.npy`` (n, 6, 176, 176) u8: r, g, b and the three signed differences + 128 (clipped to +-127 grey
levels, which is what `signed_clip` leaves of them anyway); and ``<name>.truth.npy`` (n, MOST, 8) f32, truth rows (see
`engines.footage.ROW`) in crop px.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import CHANNELS, MEAN, STD
from engines.footage import ROW, Footage, tighten
from engines.render import WARM_UP, RenderedClip
from streamdet.config import SourceConfig
from streamdet.inputspec import InputSpec
from streamdet.motion.model import MotionModel
from streamdet.sources.video import VideoSource
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.types import WHY_ALL, Frame, Motion, TilePlan

__all__ = [
    "CROP_PX",
    "MOST",
    "NETWORK_INPUT",
    "Crops",
    "Seen",
    "cut",
    "from_background",
    "from_footage",
    "from_rendered",
    "load",
    "save",
    "unpack",
    "watch",
]

CROP_PX, MOST = 176, 12
NETWORK_INPUT = InputSpec(channels=CHANNELS, mean=(MEAN,), std=(STD,), stride=16)
_LEVELS = InputSpec(channels=CHANNELS, signed_scale=1.0, signed_clip=127.0)  # plain grey levels
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame as the pipeline sees it."""

    frame: Frame
    motion: Motion
    packer: CpuPacker


@dataclass(slots=True)
class Crops:
    """(n, 6, P, P) u8 and (n, MOST, 8) f32, see the module's text."""

    planes: U8
    truth: F32

    def __len__(self) -> int:
        return len(self.planes)


def watch(path: str | Path, *, first: int = 0, spec: InputSpec = _LEVELS) -> Iterator[Seen]:
    """Decode a clip from frame `first` on and look at it through a fresh motion model."""
    model, packer = MotionModel(), CpuPacker(spec)
    with VideoSource(str(path), stream="train", config=SourceConfig()) as source:
        for frame in source:
            if frame.index >= first:
                yield Seen(frame, model(frame), packer)


def unpack(planes: U8) -> F32:
    """Crops as stored -> the network's input, exactly as `NETWORK_INPUT` has it (within rounding to grey levels)."""
    out = planes.astype(np.float32)
    out[:, :3] = (out[:, :3] - np.float32(MEAN)) / np.float32(STD)
    out[:, 3:] = ((out[:, 3:] - 128) / np.float32(NETWORK_INPUT.signed_scale)).clip(-2, 2)
    return out


def cut(seen: Seen, rows: F32, boxes: NDArray[np.int32]) -> Crops:
    """Crops of square `boxes` (n,4) px, scaled to `CROP_PX`, with the truth inside each."""
    scale = (CROP_PX / (boxes[:, 2:] - boxes[:, :2])).astype(np.float32)
    plan = TilePlan(seen.frame.wh, (CROP_PX, CROP_PX), boxes, scale, np.full(len(boxes), WHY_ALL, np.uint8), len(boxes))
    data = seen.packer(seen.frame, seen.motion, plan).data
    planes = np.empty(data.shape, np.uint8)
    planes[:, :3] = np.rint(data[:, :3]).clip(0, 255)
    planes[:, 3:] = np.rint(data[:, 3:]).clip(-127, 127) + 128
    truth = np.zeros((len(boxes), MOST, ROW), np.float32)
    truth[..., 6] = -1
    for k, box in enumerate(boxes):
        local = rows.copy()
        local[:, :2] = (local[:, :2] - box[:2]) * scale[k]
        local[:, 2:6] *= scale[k, 0]
        near = ((local[:, :2] > -30) & (local[:, :2] < CROP_PX + 30)).all(1)
        local = local[near][:MOST]
        truth[k, : len(local)] = local
    return Crops(planes, truth)


def _box_round(centre: NDArray[np.float64], side: int, wh: tuple[int, int]) -> list[int]:
    left, top = (int(np.clip(round(centre[i] - side / 2), 0, wh[i] - side)) for i in (0, 1))
    return [left, top, left + side, top + side]


def _choose(
    rng: np.random.Generator, seen: Seen, rows: F32, *, targets: int, others: int, scale: float = 1.0
) -> NDArray[np.int32]:
    """Boxes with a target somewhere in them, and boxes anywhere: half of those where something moves."""
    wh = seen.frame.wh
    side = min(round(CROP_PX / scale), *wh)
    jitter = side * 0.42
    wanted = rows[(rows[:, 7] > 0) & (rows[:, 0] > 0) & (rows[:, 1] > 0) & (rows[:, 0] < wh[0]) & (rows[:, 1] < wh[1])]
    chosen = rng.permutation(wanted)[:targets]
    boxes = [_box_round(row[:2] + rng.uniform(-jitter, jitter, 2), side, wh) for row in chosen]
    for _ in range(others):
        regions = seen.motion.regions
        centre = rng.uniform(0, 1, 2) * wh
        if len(regions) and rng.random() < 0.6:
            region = regions[rng.integers(len(regions))]
            centre = (region[:2] + region[2:]) / 2 + rng.uniform(-jitter, jitter, 2)
        boxes.append(_box_round(centre, side, wh))
    return np.array(boxes, np.int32).reshape(-1, 4)


def from_footage(
    footage: Footage, rng: np.random.Generator, *, warm_up: int = 24, every: int = 4, keep: int = 5
) -> Iterator[Crops]:
    """Crops of a labelled real clip, from a window at a random place; boxes are tightened."""
    length = warm_up + every * keep
    first = int(rng.integers(0, max(1, footage.frames - length)))
    empty = np.zeros((0, ROW), np.float32)
    for seen in watch(footage.path, first=first):
        age = seen.frame.index - first
        if age >= length or seen.frame.index >= footage.frames:
            return
        if age < warm_up or age % every or seen.motion.state == "repeat":
            continue
        rows = (footage.truth or {}).get(seen.frame.index, empty)
        rows = tighten(seen.motion.luma, seen.motion.background, rows)
        scale = 1.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(np.log(0.7), np.log(1.6))))
        yield cut(seen, rows, _choose(rng, seen, rows, targets=1, others=int(rng.random() < 0.5), scale=scale))


def from_background(footage: Footage, rng: np.random.Generator) -> Iterator[Crops]:
    """Negatives from a clip without targets (rows there only say what to ignore); a short one gives more of each frame."""
    every, each = (1, 12) if footage.frames < 100 else (3, 4)
    empty = np.zeros((0, ROW), np.float32)
    for seen in watch(footage.path):
        if seen.frame.index >= footage.frames:
            return
        rows = (footage.truth or {}).get(seen.frame.index)
        known = rows is not None or not footage.labelled_only
        if seen.frame.index < 8 or seen.frame.index % every or not known or seen.motion.state == "repeat":
            continue
        rows = empty if rows is None else rows
        yield cut(
            seen, rows, _choose(rng, seen, rows, targets=0, others=each, scale=float(np.exp(rng.uniform(-0.7, 0.7))))
        )


def from_rendered(clip: RenderedClip, rng: np.random.Generator) -> Iterator[Crops]:
    """Crops of every second frame of a rendered clip after its warm-up: three with a target in mind and two without."""
    for seen, rows in watch_rendered(clip):
        if seen.frame.index >= WARM_UP and seen.frame.index % 2 == 0:
            yield cut(seen, rows, _choose(rng, seen, rows, targets=3, others=2))


def watch_rendered(clip: RenderedClip) -> Iterator[tuple[Seen, F32]]:
    """Trusted frames of a rendered clip that are no repeats, with their truth (real objects in it tightened)."""
    with tempfile.NamedTemporaryFile(suffix=".mp4", dir=_fast_folder()) as file:
        file.write(clip.encoded)
        file.flush()
        for seen in watch(file.name):
            index = seen.frame.index
            if not clip.trusted[index] or seen.motion.state == "repeat":
                continue
            rows = clip.truth[index].copy()
            real = (rows[:, 2] > 0) & (rows[:, 4] == 0) & (rows[:, 5] == 0)
            if real.any():
                rows[real] = tighten(seen.motion.luma, seen.motion.background, rows[real])
            yield seen, rows


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def save(folder: Path, name: str, parts: list[Crops]) -> int:
    """Write a shard; returns how many crops it holds."""
    planes = np.concatenate([part.planes for part in parts])
    np.save(folder / f"{name}.truth.npy", np.concatenate([part.truth for part in parts]))
    partial = folder / f"{name}.partial.npy"
    np.save(partial, planes)
    partial.rename(folder / f"{name}.crops.npy")  # last, and at once: a shard that has crops is complete
    return len(planes)


def load(folder: Path, pattern: str) -> list[Crops]:
    """Shards that match, memory-mapped."""
    shards = sorted(folder.glob(f"{pattern}.crops.npy"))
    return [Crops(np.load(path, mmap_mode="r"), np.load(str(path).replace(".crops.", ".truth."))) for path in shards]


Maker = Callable[[np.random.Generator], Iterator[Crops]]
