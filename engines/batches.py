"""Random batches of crops, augmented, with the maps the network should answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import STRIDE
from engines.data import Crops, load, unpack
from engines.footage import ROW

__all__ = ["Batch", "Pool", "targets"]

F32 = NDArray[np.float32]
_SHARES = {"rendered": 0.45, "air": 0.25, "background": 0.10, "hard": 0.20}
_NEAR, _SLACK = 0.6, 0.12  # cells; share of a streak's length
_MOST_WEIGHT = {
    "rendered": 6.0,
    "hard": 6.0,
    "background": 4.0,
    "air": 1.5,
}  # real labels are not flawless: do not chase them


@dataclass(frozen=True, slots=True)
class Batch:
    """``picture`` (n,6,P,P); ``heat``, ``counts`` (n,1,h,w): what is wanted, and 0 where nothing is judged; ``rows`` (k,8):
    truth rows inside, ``place`` (k,3) i64: sample, cell row and column of each; ``where``: group, shard and row of samples."""

    picture: F32
    heat: F32
    counts: F32
    rows: F32
    place: NDArray[np.int64]
    where: list[tuple[str, int, int]]


@dataclass(slots=True)
class _Group:
    shards: list[Crops]
    weights: list[F32]


class Pool:
    """All shards of a folder; what is hard is drawn more often."""

    def __init__(self, folder: Path, *, shares: dict[str, float] | None = None) -> None:
        self._folder, self._shares = folder, shares or _SHARES
        self._groups: dict[str, _Group] = {}
        self.reload()

    def reload(self) -> int:
        """Look for new shards; returns how many crops there are."""
        for name in self._shares:
            group = self._groups.setdefault(name, _Group([], []))
            group.shards = load(self._folder, f"{name}_*")
            for shard in group.shards[len(group.weights) :]:
                group.weights.append(np.ones(len(shard), np.float32))
            if len(group.shards) != len(group.weights) or any(
                len(s) != len(w) for s, w in zip(group.shards, group.weights)
            ):
                group.weights = [np.ones(len(shard), np.float32) for shard in group.shards]  # a shard came in between
        return sum(len(shard) for group in self._groups.values() for shard in group.shards)

    def draw(self, rng: np.random.Generator, count: int, side: int) -> Batch:
        """`count` augmented samples of `side` px."""
        names = [name for name in self._shares if self._groups[name].shards]
        share = np.array([self._shares[name] for name in names])
        planes, truth, where = [], [], []
        for name in rng.choice(names, count, p=share / share.sum()):
            group = self._groups[name]
            total = np.array([weights.sum() for weights in group.weights])
            shard = int(rng.choice(len(total), p=total / total.sum()))
            weights = group.weights[shard]
            row = int(rng.choice(len(weights), p=weights / weights.sum()))
            crop, rows = _window(rng, group.shards[shard].planes[row], group.shards[shard].truth[row], side)
            planes.append(crop)
            truth.append(rows)
            where.append((str(name), shard, row))
        picture = _recolour(rng, unpack(np.stack(planes)))
        heat, counts, rows, place = targets(np.stack(truth), side)
        return Batch(picture, heat, counts, rows, place, where)

    def judged(self, where: list[tuple[str, int, int]], loss: F32) -> None:
        """What was hard comes again: weight 0.3 .. most, by loss relative to 1."""
        for (name, shard, row), value in zip(where, loss):
            self._groups[name].weights[shard][row] = 0.3 + min(float(value), _MOST_WEIGHT[name])


def _window(
    rng: np.random.Generator, planes: NDArray[np.uint8], truth: F32, side: int
) -> tuple[NDArray[np.uint8], F32]:
    room = planes.shape[-1] - side
    x, y = rng.integers(0, room + 1, 2)
    planes = np.array(planes[:, y : y + side, x : x + side])
    rows = truth.copy()
    rows[:, 0] -= x
    rows[:, 1] -= y
    if rng.random() < 0.5:
        planes = planes[:, :, ::-1]
        rows[:, 0] = side - rows[:, 0]
        rows[:, 4] *= -1
    if rng.random() < 0.15:
        planes = planes[:, ::-1]
        rows[:, 1] = side - rows[:, 1]
        rows[:, 5] *= -1
    return planes, rows


def _recolour(rng: np.random.Generator, picture: F32) -> F32:
    """Gain, offset, swapped or lost colours, negatives; now and then the motion is unknown, as in a first frame."""
    for sample in picture:
        gain = np.float32(rng.uniform(0.7, 1.35))
        sample *= gain
        sample[:3] += np.float32(rng.normal(0, 0.25))
        chance = rng.random()
        if chance < 0.15:
            sample[:3] = sample[rng.permutation(3)]
        elif chance < 0.30:
            sample[:3] = sample[:3].mean(0)
        if rng.random() < 0.08:
            sample *= -1
        if rng.random() < 0.03:
            sample[3:] = 0
    np.clip(picture[:, 3:], -2, 2, out=picture[:, 3:])
    return picture


def targets(truth: F32, side: int) -> tuple[F32, F32, F32, NDArray[np.int64]]:
    """Truth rows (n, MOST, 8) -> heat and weight maps, the rows that are inside, and their cells.

    Every cell whose middle is close to the centre counts as one, along a streak some more of them, and its offset leads to the
    same point. With a single cell, the score would be the chance that it is *that* cell: low for a streak, whose middle is vague,
    and for anything on the border of two cells, however plain it is.
    """
    count, cells = len(truth), side // STRIDE
    heat = np.zeros((count, 1, cells, cells), np.float32)
    counts = np.ones_like(heat)
    yy, xx = np.mgrid[0:cells, 0:cells].astype(np.float32) + np.float32(0.5)
    kept, place = [], []
    for sample, rows in enumerate(truth):
        for row in rows:
            cx, cy, w, h, dx, dy, label, wanted = row
            if label < 0 and w == 0:
                continue
            u, v = xx - cx / STRIDE, yy - cy / STRIDE
            inside = 0 <= cx < side and 0 <= cy < side
            if wanted == 0 or not inside:
                reach = max(w, h, 6) / 2 + 5
                counts[sample, 0][(np.abs(u) * STRIDE < reach) & (np.abs(v) * STRIDE < reach)] = 0
                continue
            length = float(np.hypot(dx, dy))
            along = (u * dx + v * dy) / length if length > 1 else u
            across = (-u * dy + v * dx) / length if length > 1 else v
            base = max(1.0, 0.18 * min(max(w, 1), max(h, 1)) / STRIDE)
            spread = base + 0.12 * length / STRIDE
            bump = np.exp(-0.5 * ((along / spread) ** 2 + (across / base) ** 2))
            slack = min(_SLACK * length / STRIDE, 2.0)
            centres = (np.abs(along) <= _NEAR + slack) & (np.abs(across) <= _NEAR)
            centres[int(cy // STRIDE), int(cx // STRIDE)] = True
            bump[centres] = 1
            np.maximum(heat[sample, 0], bump, out=heat[sample, 0])
            for row_cell, column in zip(*np.nonzero(centres)):
                kept.append(row)
                place.append((sample, int(row_cell), int(column)))
    for sample, row_cell, column in place:
        counts[sample, 0, row_cell, column] = 1
    return heat, counts, np.array(kept, np.float32).reshape(-1, ROW), np.array(place, np.int64).reshape(-1, 3)
