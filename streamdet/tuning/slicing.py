"""Data sets cut into tiles, with labels that are right: what is whole, what is cut, what is neither, and no leak between splits.

A box belongs to a tile if at least `min_visible` of its area is in it, and is cut to the tile. A lesser fragment is neither
object nor background: it becomes a crowd region in the COCO file (scorers pass over it), and a tile that shows nothing but
fragments and crowds is left out, for it would teach that they are background. Of tiles that show nothing at all a share
is kept. All tiles of a picture are in one split, and so are all pictures of one clip (names that differ in their last
number) and copies of one picture.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdet.config import TilesConfig
from streamdet.errors import ConfigError, UsageError
from streamdet.tiles.plan import plan_tiles
from streamdet.tuning.dataset import DataSet, LabelledPicture

__all__ = ["Slice", "cut_boxes", "groups_of", "keep_classes", "slices_of", "splits_of", "with_negatives"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One tile: ``xyxy`` px in its picture; N ``boxes`` (px of the tile) and their ``label``, then the crowds among them."""

    picture: LabelledPicture
    xyxy: tuple[int, int, int, int]
    boxes: F64
    label: I64
    crowd: NDArray[np.bool_]

    @property
    def wh(self) -> tuple[int, int]:
        x1, y1, x2, y2 = self.xyxy
        return x2 - x1, y2 - y1

    @property
    def objects(self) -> int:
        """How many boxes count."""
        return int((~self.crowd).sum())


def keep_classes(data: DataSet, *, classes: Sequence[str], rename: Mapping[str, str]) -> DataSet:
    """`data` with only `classes` (empty: all) under new names; classes renamed alike become one. Raises UsageError."""
    unknown = sorted({*classes, *rename} - {*data.names})
    if unknown:
        raise UsageError(f"class '{unknown[0]}' is not in the data set; it has {', '.join(data.names)}")
    kept = [name for name in data.names if not classes or name in classes]
    names = list(dict.fromkeys(rename.get(name, name) for name in kept))
    number = np.array([names.index(rename.get(n, n)) if n in kept else -1 for n in data.names] or [-1], np.int64)
    pictures = []
    for picture in data.pictures:
        if len(picture.label) and not 0 <= picture.label.min() <= picture.label.max() < len(data.names):
            raise ConfigError(f"the labels of {picture.path} name class {picture.label.max()} of {len(data.names)}")
        label = number[picture.label]
        rows = label >= 0
        pictures.append(replace(picture, xyxy=picture.xyxy[rows], label=label[rows], crowd=picture.crowd[rows]))
    return DataSet(tuple(names), tuple(pictures), data.kind)


def cut_boxes(
    boxes: F64, tile: Sequence[int], *, min_visible: float
) -> tuple[F64, NDArray[np.bool_], NDArray[np.bool_]]:
    """`boxes` (N,4) cut to `tile`, in px of it; which of them belong to it; which leave but a fragment in it."""
    low, high = np.array(tile[:2], np.float64), np.array(tile[2:], np.float64)
    cut = np.concatenate([boxes[:, :2].clip(low, high) - low, boxes[:, 2:].clip(low, high) - low], axis=1)
    area = np.prod((boxes[:, 2:] - boxes[:, :2]).clip(0), axis=1)
    visible = np.prod(cut[:, 2:] - cut[:, :2], axis=1)
    inside = visible >= np.maximum(min_visible * area, 1e-9) * (1 - 1e-9)
    return cut, inside, (visible > 0) & ~inside


def slices_of(
    picture: LabelledPicture, wh: tuple[int, int], *, tile: int | str, overlap: float, min_visible: float
) -> list[Slice]:
    """Every tile of a picture of `wh` px. Raises ConfigError for sizes without sense."""
    plan = plan_tiles(wh, input_wh=None, config=TilesConfig(tile=tile, overlap=overlap), stride=1)
    boxes = picture.in_px(wh)
    out = []
    for row in plan.xyxy.tolist():
        x1, y1, x2, y2 = row
        cut, inside, fragment = cut_boxes(boxes, row, min_visible=min_visible)
        crowd = (fragment | picture.crowd) & (inside | fragment)
        rows = inside | crowd
        out.append(Slice(picture, (x1, y1, x2, y2), cut[rows], picture.label[rows], crowd[rows]))
    return out


def with_negatives(slices: Sequence[Slice], *, share: float, seed: int) -> list[Slice]:
    """Tiles with objects, and so many empty ones that they are `share` of the result (1: all there are), in order."""
    positive = [n for n, one in enumerate(slices) if one.objects]
    empty = [n for n, one in enumerate(slices) if not len(one.boxes)]
    wanted = len(empty) if share >= 1 or not positive else round(len(positive) * share / (1 - share))
    chosen = np.random.default_rng(seed).permutation(len(empty))[: min(wanted, len(empty))]
    return [slices[n] for n in sorted([*positive, *(empty[n] for n in chosen.tolist())])]


# --------------------------------------------------------------------------------------------------------------- splits


def groups_of(paths: Sequence[Path]) -> list[int]:
    """A number per picture: the same for pictures that may not be in different splits (a clip's frames, copies)."""
    stems = [str(path.parent / re.sub(r"[_\-.]?(frame|img)?[_\-]?\d+$", "", path.stem, flags=re.I)) for path in paths]
    named = [stem if Path(stem).name and stem != str(path.parent) else str(path) for stem, path in zip(stems, paths)]
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    seen: dict[str, str] = {}
    for name, path in zip(named, paths):
        content = _content(path)
        first = seen.setdefault(content, name)
        parent[root(name)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(name), len(numbers)) for name in named]


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha1").hexdigest()
    except OSError:
        return str(path)


def splits_of(paths: Sequence[Path], shares: Mapping[str, float], *, seed: int) -> list[str]:
    """The split of every picture; groups stay together, so shares are met as far as they allow. Raises UsageError."""
    if not shares or min(shares.values()) <= 0:
        raise UsageError("--split needs shares above 0, as in train:0.8,val:0.2")
    groups = np.array(groups_of(paths))
    count = int(groups.max()) + 1 if len(groups) else 0
    sizes = np.bincount(groups, minlength=count)
    order = np.random.default_rng(seed).permutation(count)
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first, while there is room everywhere
    total = sum(shares.values())
    want = {name: share / total * len(groups) for name, share in shares.items()}
    have = dict.fromkeys(shares, 0.0)
    split_of: dict[int, str] = {}
    for group in order.tolist():
        name = max(want, key=lambda key: (want[key] - have[key]) / want[key])
        split_of[group] = name
        have[name] += float(sizes[group])
    return [split_of[group] for group in groups.tolist()]
