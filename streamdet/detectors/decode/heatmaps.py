"""Networks that look at K frames and answer with a heat map, or a grid, per frame: TrackNet, VballNet and their kin.

``heatmaps``: ``(N,K,h,w)`` maps as large as the input; ``ball_grid``: ``(N,3K,rows,columns)`` = score, x, y in cell per
frame. Only the present frame's map is read (``frame``: the last; 0 for networks that know no other order). The blob of
cells at or above the floor gives the box; its centroid, weighted by heat, the middle.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.centers import peaks
from streamdet.detectors.decode.layout import (
    Candidates,
    Family,
    Layout,
    Raw,
    Seen,
    activate,
    from_centre,
    guess_activation,
    role,
)


def recognise(seen: Seen) -> Layout | None:
    array = seen.only
    if array is None or array.ndim != 4 or array.dtype.kind != "f":
        return None
    maps = array.shape[1]
    # K grey, or K colour pictures; some networks see K and answer for the present one only
    if array.shape[2:] != seen.wh[::-1] or (seen.channels not in (maps, 3 * maps) and maps != 1):
        return None
    return Layout("heatmaps", {"output": tuple(seen.sample)}, 1, (1,), guess_activation(array))


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    heat = activate(role(raw, layout, "output")[:, layout.frame], layout.activation)
    cell_px = np.array([wh[0] / heat.shape[2], wh[1] / heat.shape[1]], np.float32)
    rows: list[NDArray[np.float32]] = []
    for tile, picture in enumerate(heat):
        found = _blobs(np.ascontiguousarray(picture, np.float32), floor)
        rows.append(np.column_stack([found, np.full(len(found), tile, np.float32)]))
    table = np.concatenate(rows)
    boxes = from_centre(table[:, :2] * cell_px, table[:, 2:4] * cell_px)
    return Candidates.of(boxes, table[:, 4], np.zeros(len(table)), table[:, 5])


def _blobs(heat: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    """(B,5) centre x, y, width, height in cells and highest score of the blobs not below `floor`."""
    above = ~(heat < floor)
    count, names, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)
    if count == 1:
        return np.zeros((0, 5), np.float32)
    row, column = np.nonzero(above)
    name, value = names[row, column], heat[row, column]
    weight = np.bincount(name, value, count)[1:]
    middle = [np.bincount(name, value * (place + 0.5), count)[1:] / weight for place in (column, row)]
    score = np.full(count, -np.inf, np.float32)
    np.maximum.at(score, name.astype(np.intp), value)
    size = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    return np.column_stack([*middle, size, score[1:]]).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- ball grid


def _recognise_grid(seen: Seen) -> Layout | None:
    array = seen.only
    if array is None or array.ndim != 4 or array.dtype.kind != "f" or array.shape[1] != 3 * seen.channels:
        return None
    stride = seen.wh[0] // array.shape[3]
    if seen.channels < 2 or stride < 2 or seen.wh != (array.shape[3] * stride, array.shape[2] * stride):
        return None
    activation = guess_activation(array[:, ::3])
    return Layout("ball_grid", {"output": tuple(seen.sample)}, 1, (stride,), activation, box_px=float(stride))


def _decode_grid(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    array = role(raw, layout, "output")
    frames = array.reshape(len(array), -1, 3, *array.shape[2:])
    present = frames[:, layout.frame]
    heat = activate(present[:, :1], layout.activation)
    tile, label, row, column = peaks(heat, floor)
    cell = np.stack([column, row], axis=1) + present[tile, 1:3, row, column]
    centre = cell * np.array([wh[0] / array.shape[3], wh[1] / array.shape[2]], np.float32)
    size: NDArray[Any] = np.full_like(centre, layout.box_px)
    return Candidates.of(from_centre(centre, size), heat[tile, label, row, column], label, tile)


HEATMAPS = Family(
    "heatmaps",
    "K frames in, K heat maps out: TrackNet, VballNet",
    recognise,
    decode,
    nms=False,
    channels=("y",),
    pad=0.0,
    stretch=True,
    threshold=0.5,
    aliases=("tracknet", "vballnet", "wasb"),
)
BALL_GRID = Family(
    "ball_grid",
    "K frames in, a score/x/y grid per frame out: VballNetGrid",
    _recognise_grid,
    _decode_grid,
    nms=False,
    channels=("y",),
    pad=0.0,
    stretch=True,
    threshold=0.5,
    aliases=("vballnetgrid",),
)
