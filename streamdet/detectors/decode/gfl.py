"""Heads that give each box side as a distribution (Generalised Focal Loss, arXiv 2006.04388): NanoDet and PicoDet.

``C`` class columns and ``4 x (R + 1)`` distribution columns (left, top, right, bottom; in cells) per grid point, either in
one output ``(N, cells, C + 4(R+1))`` (NanoDet-Plus) or in two outputs per level (NanoDet, PicoDet without
post-processing). Grid points are cell centres, but cell corners in NanoDet-Plus.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.layout import (
    Candidates,
    Family,
    Layout,
    Raw,
    Seen,
    activate,
    cells,
    grid_points,
    guess_activation,
    softmax,
    split,
    strides_of,
)
from streamdet.types import F32

_SIDES = 4
_BINS = (8, 17)  # R + 1 of NanoDet/PicoDet and of the paper


def _single(seen: Seen) -> Layout | None:
    array = seen.only
    if array is None or array.ndim != 3:
        return None
    strides = strides_of(array.shape[1], seen)
    columns = array.shape[2]
    bins = _SIDES * _BINS[0]
    classes = seen.labels or columns - bins
    if not strides or classes < 1 or columns != classes + bins:
        return None
    if seen.labels is None and len(strides) == 3 and columns != 80 + bins:
        return None  # three levels and any width: more likely YOLOX
    activation = guess_activation(array[..., :classes])
    return Layout("nanodet", {"output": tuple(seen.sample)}, classes, strides, activation, centre=0.0)


def _levels(seen: Seen) -> Layout | None:
    """Two outputs per level: pair them by their number of cells, finest first."""
    if len(seen.sample) % 2 or len(seen.sample) < 4 or any(a.ndim != 3 for a in seen.sample.values()):
        return None
    counts = sorted({array.shape[1] for array in seen.sample.values()}, reverse=True)
    strides = strides_of(sum(counts), seen)
    if len(counts) != len(strides) or [cells(seen.wh, [s]) for s in strides] != counts:
        return None
    scores: list[str] = []
    sides: list[str] = []
    for count in counts:
        pair = [name for name, array in seen.sample.items() if array.shape[1] == count]
        if len(pair) != 2:
            return None
        pair.sort(key=lambda name: _looks_like_sides(name, seen))
        scores.append(pair[0])
        sides.append(pair[1])
    classes = {seen.sample[name].shape[2] for name in scores}
    columns = {seen.sample[name].shape[2] for name in sides}
    if len(classes) != 1 or len(columns) != 1 or columns.pop() % _SIDES:
        return None
    sample = np.concatenate([seen.sample[name].ravel() for name in scores])
    family = "picodet" if len(strides) == 4 else "nanodet"
    return Layout(
        family, {"scores": tuple(scores), "sides": tuple(sides)}, classes.pop(), strides, guess_activation(sample)
    )


def _looks_like_sides(name: str, seen: Seen) -> tuple[bool, bool, int]:
    """Sort key: distributions come after scores, by name, by width, by place."""
    named = re.search(r"dis_|dist|reg|bbox|box|loc", name, re.IGNORECASE) is not None
    columns = seen.sample[name].shape[2]
    wide = columns in [_SIDES * bins for bins in _BINS] and columns != seen.labels
    return named, wide, list(seen.sample).index(name)


def _recognise_nanodet(seen: Seen) -> Layout | None:
    layout = _single(seen) or _levels(seen)
    return layout if layout is not None and layout.family == "nanodet" else None


def _recognise_picodet(seen: Seen) -> Layout | None:
    layout = _levels(seen)
    return layout if layout is not None and layout.family == "picodet" else None


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    if "output" in layout.roles:
        whole = raw[layout.roles["output"][0]]
        return _level(whole[..., : layout.classes], whole[..., layout.classes :], layout, wh, floor, layout.strides)
    return Candidates.concat(
        [
            _level(raw[score], raw[side], layout, wh, floor, (stride,))
            for score, side, stride in zip(layout.roles["scores"], layout.roles["sides"], layout.strides)
        ]
    )


def _level(
    scores: NDArray[Any],
    sides: NDArray[Any],
    layout: Layout,
    wh: tuple[int, int],
    floor: float,
    strides: tuple[int, ...],
) -> Candidates:
    tile, anchor, score, label = split(activate(scores, layout.activation), floor)
    cell, stride = grid_points(wh, strides, anchor)
    distance = _expected(sides[tile, anchor]) * stride[:, None]
    point = (cell + layout.centre) * stride[:, None]
    boxes = np.concatenate([point - distance[:, :2], point + distance[:, 2:]], axis=1)
    return Candidates.of(boxes, score, label, tile)


def _expected(sides: NDArray[Any]) -> F32:
    """(N, 4(R+1)) logits -> (N, 4) mean of each distribution, in cells."""
    bins = softmax(sides.reshape(len(sides), _SIDES, sides.shape[1] // _SIDES))
    return np.asarray(bins @ np.arange(bins.shape[2], dtype=np.float32), np.float32)


_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = (57.375, 57.12, 58.395)
NANODET = Family(
    "nanodet",
    "NanoDet (-Plus): class and distribution columns",
    _recognise_nanodet,
    decode,
    channels=("b", "g", "r"),
    mean=_MEAN_BGR,
    std=_STD_BGR,
)
PICODET = Family(
    "picodet",
    "PicoDet without post-processing: two outputs per level",
    _recognise_picodet,
    decode,
    stretch=True,
    mean=_MEAN_BGR[::-1],
    std=_STD_BGR[::-1],
)
