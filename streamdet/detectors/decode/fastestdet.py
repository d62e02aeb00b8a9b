"""FastestDet (github.com/dog-qiuqiu/FastestDet): one map ``(N, 5 + C, h, w)`` = objectness, 4 box numbers, classes.

Centre = (column + tanh(x), row + tanh(y)) / map size, size = sigmoid(w, h) of the input; objectness and classes are
already probabilities; score = objectness^0.6 x class^0.4.
"""

from __future__ import annotations

import numpy as np

from streamdet.detectors.decode.layout import Candidates, Family, Layout, Raw, Seen, from_centre, role, sigmoid

_STRIDE = 16


def recognise(seen: Seen) -> Layout | None:
    array = seen.only
    if array is None or array.ndim != 4 or array.shape[1] < 6 or array.dtype.kind != "f":
        return None
    if seen.wh != (array.shape[3] * _STRIDE, array.shape[2] * _STRIDE):
        return None
    if float(np.fmax.reduce(array[:, 0], axis=None)) > 1 or float(np.fmin.reduce(array[:, 0], axis=None)) < 0:
        return None
    return Layout("fastestdet", {"output": tuple(seen.sample)}, array.shape[1] - 5, (_STRIDE,))


def decode(raw: Raw, layout: Layout, wh: tuple[int, int], floor: float) -> Candidates:
    array = role(raw, layout, "output")
    with np.errstate(invalid="ignore"):
        objectness = array[:, 0]
        best = objectness**0.6 * array[:, 5:].max(axis=1) ** 0.4
    tile, row, column = np.nonzero(~(best < floor))
    picked = array[tile, :, row, column]
    size_wh = np.array([array.shape[3], array.shape[2]], np.float32)
    cell = np.stack([column, row], axis=1).astype(np.float32)
    centre = (cell + np.tanh(picked[:, 1:3])) / size_wh * np.array(wh, np.float32)
    size = sigmoid(picked[:, 3:5]) * np.array(wh, np.float32)
    return Candidates.of(from_centre(centre, size), best[tile, row, column], picked[:, 5:].argmax(axis=1), tile)


FASTESTDET = Family(
    "fastestdet",
    "FastestDet: (N, 5+C, h, w)",
    recognise,
    decode,
    channels=("b", "g", "r"),
    stretch=True,
    threshold=0.6,  # the authors draw from 0.65: its scores run high
)
