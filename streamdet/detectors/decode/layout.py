"""What every decoder shares: the description of an output layout, the rows it yields, and a little array maths.

A decoder is a pure function ``decode(raw, layout, wh, floor) -> Candidates``. It keeps every row whose score is *not
below* `floor`, so rows holding NaN survive and are counted and dropped in one place (`streamdet.detectors.network`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdet.types import F32, I32

__all__ = [
    "Activation",
    "BoxFormat",
    "BoxUnit",
    "Candidates",
    "Family",
    "Layout",
    "Raw",
    "Seen",
    "SizeUnit",
    "activate",
    "cells",
    "cells_of",
    "find",
    "from_centre",
    "grid_points",
    "guess_activation",
    "ids",
    "role",
    "sigmoid",
    "softmax",
    "split",
    "strides_of",
    "to_xyxy",
]

Raw = Mapping[str, NDArray[Any]]
Activation = Literal["none", "sigmoid", "softmax"]
BoxFormat = Literal["xyxy", "yxyx", "cxcywh", "xywh"]
BoxUnit = Literal["px", "relative"]
SizeUnit = Literal["log_px", "px", "cells"]

PYRAMIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16, 32, 64, 128), (4, 8, 16))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the outputs of one file are to be read.

    Attributes:
        roles: what each output is ("output", "boxes", "scores", "labels", "count", ...) -> its name or names in order.
        classes: class columns in the output; 0 if the layout holds bare class ids.
        strides: px per cell, one per level, finest first.
        activation: still to be applied to scores.
        decoded: False: boxes are offsets of grid cells. transposed: (N, cells, columns). oriented: last column is an angle.
        box_format, box_unit: unit None = decided per inference (all values <= 2: relative to the input's size).
        first_label: class id of the first label in the file (1 where 0 means background).
        size_unit: of a centre network's size map. frame: which of several heat maps is the present frame's.
        box_px: side of the boxes of networks that give points only.
        centre: where in its cell a grid point lies (0.5: the middle).
    """

    family: str
    roles: Mapping[str, tuple[str, ...]]
    classes: int = 0
    strides: tuple[int, ...] = ()
    activation: Activation = "none"
    decoded: bool = True
    transposed: bool = False
    oriented: bool = False
    box_format: BoxFormat = "xyxy"
    box_unit: BoxUnit | None = "px"
    first_label: int = 0
    size_unit: SizeUnit = "log_px"
    frame: int = -1
    box_px: float = 0.0
    centre: float = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What a family may look at to recognise itself.

    ``sample``: the outputs of one inference on noise, so every size is a number, though values mean little. ``wh`` px and
    ``channels`` of that input. ``labels``: how many class names the file or manifest gives (None: none). ``strides``:
    given by the manifest. ``extra``: names of further inputs. ``task``: as Ultralytics files say it.
    """

    sample: Raw
    wh: tuple[int, int]
    channels: int = 3
    labels: int | None = None
    strides: tuple[int, ...] = ()
    extra: tuple[str, ...] = ()
    nhwc: bool = False
    task: str = ""

    @property
    def only(self) -> NDArray[Any] | None:
        """The single output, if there is just one."""
        return next(iter(self.sample.values())) if len(self.sample) == 1 else None


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N rows in input px, not yet suppressed: ``xyxy`` (N,4), ``score``, ``label`` (ids of the file), ``tile`` row.

    ``mixed`` (N,): what their masks are made of (`streamdet.detectors.decode.prototypes`); None: boxes only.
    """

    xyxy: F32
    score: F32
    label: I32
    tile: I32
    mixed: NDArray[Any] | None = None

    @staticmethod
    def of(xyxy: Any, score: Any, label: Any, tile: Any, mixed: NDArray[Any] | None = None) -> Candidates:
        return Candidates(
            np.asarray(xyxy, np.float32).reshape(-1, 4),
            np.asarray(score, np.float32),
            np.asarray(label, np.int32),
            np.asarray(tile, np.int32),
            mixed,
        )

    @staticmethod
    def concat(parts: Sequence[Candidates]) -> Candidates:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Candidates.of(np.zeros((0, 4)), [], [], [])
        masked = any(part.mixed is not None for part in parts)
        mixed = [np.full(len(part), None) if part.mixed is None else part.mixed for part in parts]
        return Candidates(
            np.concatenate([part.xyxy for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.tile for part in parts]),
            np.concatenate(mixed) if masked else None,
        )

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: Any) -> Candidates:
        mixed = None if self.mixed is None else self.mixed[rows]
        return Candidates(self.xyxy[rows], self.score[rows], self.label[rows], self.tile[rows], mixed)


@dataclass(frozen=True, slots=True)
class Family:
    """One output layout: how to know it, how to read it, and what its networks want to be fed unless the file says otherwise.

    ``recognise`` returns None if it is another layout. ``nms``: copies of one object come out and must be suppressed.
    """

    name: str
    about: str
    recognise: Callable[[Seen], Layout | None]
    decode: Callable[[Raw, Layout, tuple[int, int], float], Candidates]
    nms: bool = True
    channels: tuple[str, ...] = ("r", "g", "b")
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    pad: float = 114.0
    stretch: bool = False
    threshold: float = 0.25
    aliases: tuple[str, ...] = field(default=())


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)


def softmax(x: NDArray[Any]) -> NDArray[Any]:
    """Over the last axis."""
    with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN and is dropped as such
        power = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(power / power.sum(axis=-1, keepdims=True), np.float32)


def guess_activation(scores: NDArray[Any]) -> Activation:
    """Values outside 0..1 cannot be probabilities, so they are logits."""
    return "sigmoid" if bool((scores < 0).any() or (scores > 1).any()) else "none"


def activate(scores: NDArray[Any], activation: Activation) -> NDArray[Any]:
    if activation == "sigmoid":
        return sigmoid(scores)
    return softmax(scores) if activation == "softmax" else scores


def find(sample: Raw, pattern: str, *, ndim: int | None = None, kind: str = "f") -> str | None:
    """The one output whose name matches `pattern` (case aside); None if there is none or more than one."""
    names = [
        name
        for name, array in sample.items()
        if re.search(pattern, name, re.IGNORECASE) and array.dtype.kind in kind and ndim in (None, array.ndim)
    ]
    return names[0] if len(names) == 1 else None


def ids(column: NDArray[Any]) -> I32:
    """Class ids or rows written as any kind of number; what is not finite becomes -1."""
    if column.dtype.kind != "f":
        return column.astype(np.int32)
    return np.where(np.isfinite(column), np.rint(np.nan_to_num(column)), -1).astype(np.int32)


def role(raw: Raw, layout: Layout, name: str) -> NDArray[Any]:
    """The output that plays the part `name`."""
    return raw[layout.roles[name][0]]


def cells_of(wh: tuple[int, int], stride: int) -> tuple[int, int]:
    """Columns and rows of a level."""
    return -(-wh[0] // stride), -(-wh[1] // stride)


def cells(wh: tuple[int, int], strides: Sequence[int]) -> int:
    """Cells of all levels together."""
    return sum(columns * rows for columns, rows in (cells_of(wh, stride) for stride in strides))


def strides_of(count: int, seen: Seen) -> tuple[int, ...]:
    """The levels that have `count` cells at this input size; () if none known does."""
    for strides in (seen.strides, *PYRAMIDS) if seen.strides else PYRAMIDS:
        if cells(seen.wh, strides) == count:
            return strides
    return ()


def grid_points(wh: tuple[int, int], strides: Sequence[int], index: NDArray[Any]) -> tuple[F32, F32]:
    """Cell (column, row) and stride of flat cell numbers `index`: ((N,2) cells, (N,) px)."""
    index = np.asarray(index)
    cell = np.zeros((len(index), 2), np.float32)
    scale = np.zeros(len(index), np.float32)
    first = 0
    for stride in strides:
        columns, rows = cells_of(wh, stride)
        here = (index >= first) & (index < first + columns * rows)
        local = index[here] - first
        cell[here, 0], cell[here, 1] = local % columns, local // columns
        scale[here] = stride
        first += columns * rows
    return cell, scale


def from_centre(centre: NDArray[Any], size: NDArray[Any]) -> F32:
    """(N,2) centres and (N,2) sizes -> (N,4) xyxy."""
    half = size / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32, copy=False)


def to_xyxy(boxes: NDArray[Any], box_format: BoxFormat, unit: BoxUnit | None, wh: tuple[int, int]) -> F32:
    """(N,4) boxes of any format and unit -> xyxy in input px."""
    boxes = boxes.astype(np.float32, copy=False)
    if unit is None:
        finite = boxes[np.isfinite(boxes)]
        unit = "relative" if len(finite) == 0 or float(np.abs(finite).max()) <= 2.0 else "px"
    if box_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif box_format == "cxcywh":
        boxes = from_centre(boxes[:, :2], boxes[:, 2:])
    elif box_format == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return boxes * np.array([*wh, *wh], np.float32) if unit == "relative" else boxes


def split(scores: NDArray[Any], floor: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Best class of (T, A, C) scores where it is not below `floor`: tile, anchor, score, label (each (N,))."""
    best = scores.max(axis=2)
    tile, anchor = np.nonzero(~(best < floor))
    return tile, anchor, best[tile, anchor], scores[tile, anchor].argmax(axis=1)
