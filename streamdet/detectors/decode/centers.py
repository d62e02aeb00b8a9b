"""Centre heat maps (CenterNet, arXiv 1904.07850): our own tiny-mover networks and their kin.

Three maps of ``h x w`` cells: heat ``(N,C,h,w)``, offset ``(N,2,h,w)`` (x, y of the centre in its cell, 0..1) and size
``(N,2,h,w)`` (w, h as the natural logarithm of px in our files; in cells in CenterNet's ``hm``/``wh``/``reg``). A peak is
a cell not exceeded by its eight neighbours; of equal neighbours the first in reading order counts, once.
"""

from __future__ import annotations

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
    find,
    from_centre,
    guess_activation,
    role,
)

_TOP_K = 1000  # peaks kept per tile
_EARLIER = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))


def recognise(seen: Seen) -> Layout | None:
    maps = {name: array for name, array in seen.sample.items() if array.ndim == 4}
    if len(maps) != 3 or len({array.shape[2:] for array in maps.values()}) != 1:
        return None
    heat = find(maps, r"heat|hm|center|centre|score")
    size = find(maps, r"size|wh")
    offset = find(maps, r"off|reg")
    if heat is None or size is None or offset is None or len({heat, size, offset}) != 3:
        return None
    if maps[size].shape[1] != 2 or maps[offset].shape[1] != 2:
        return None
    stride = seen.wh[0] // maps[heat].shape[3]
    return Layout(
        "centers",
        {"heat": (heat,), "offset": (offset,), "size": (size,)},
        classes=maps[heat].shape[1],
        strides=(stride,),
        activation=guess_activation(maps[heat]),
        size_unit="log_px" if "size" in size.lower() else "cells",
    )


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    heat = activate(role(raw, layout, "heat"), layout.activation)
    tile, label, row, column = peaks(heat, floor)
    score = heat[tile, label, row, column]
    best = strongest(score, tile)
    tile, label, row, column, score = tile[best], label[best], row[best], column[best], score[best]
    cell_px = np.array([wh[0] / heat.shape[3], wh[1] / heat.shape[2]], np.float32)
    cell = np.stack([column, row], axis=1).astype(np.float32)
    centre = (cell + role(raw, layout, "offset")[tile, :, row, column]) * cell_px
    size = role(raw, layout, "size")[tile, :, row, column]
    if layout.size_unit == "log_px":
        with np.errstate(over="ignore"):
            size = np.exp(size)
    elif layout.size_unit == "cells":
        size = size * cell_px
    with np.errstate(invalid="ignore"):
        return Candidates.of(from_centre(centre, size), score, label, tile)


def peaks(
    heat: NDArray[Any], floor: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Tile, class, row, column of the local maxima of (T,C,h,w) not below `floor`; NaN cells are given too."""
    tile, label, row, column = np.nonzero(~(heat < floor))
    value = heat[tile, label, row, column]
    height, width = heat.shape[2:]
    keep = np.ones(len(tile), bool)
    for neighbours, equal_wins in ((_EARLIER, True), (_LATER, False)):
        for dy, dx in neighbours:
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            other = np.where(inside, heat[tile, label, y.clip(0, height - 1), x.clip(0, width - 1)], -np.inf)
            keep &= ~(other >= value) if equal_wins else ~(other > value)
    return tile[keep], label[keep], row[keep], column[keep]


def strongest(score: NDArray[Any], tile: NDArray[Any], limit: int = _TOP_K) -> NDArray[np.intp]:
    """Rows of the `limit` highest scores of every tile, in their order."""
    if len(score) <= limit:
        return np.arange(len(score))
    order = np.lexsort((-score, tile))
    first = np.searchsorted(tile[order], tile[order], side="left")
    return np.sort(order[np.arange(len(order)) - first < limit])


CENTERS = Family(
    "centers",
    "centre heat maps: heat (N,C,h,w), offset (N,2,h,w), size (N,2,h,w)",
    recognise,
    decode,
    nms=False,
    pad=0.0,
    aliases=("centernet", "tinymover"),
)
