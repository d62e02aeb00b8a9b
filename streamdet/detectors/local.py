"""Whether a network may be given larger inputs than its tiles: then tiles side by side cost no overlap twice.

A network of convolutions answers for a place by what lies round it, wherever that is in its input: an input of 1024x768 px is
as good to it as several of 416x416, and objects at their seams are seen whole. One that averages over its input, or attends to
all of it, is not *local*; so the operators have to be known ones. A file made for one size may have it written into more places
than its ports: it is tried on two drawn scenes beside and above each other, in an input that is a little larger still, and what
it says of each has to be what it says of it alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet import boxes
from streamdet.detectors.backend import Backend, first_answer
from streamdet.detectors.decode.layout import Candidates, Raw
from streamdet.detectors.onnx_bytes import operators
from streamdet.detectors.rounding import drawn_scene, fed
from streamdet.detectors.sniff import ModelSpec
from streamdet.detectors.spec import ModelFile
from streamdet.errors import ModelError

__all__ = ["only_local_operators", "why_not_local"]

_LOCAL = frozenset((
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant", "Conv",
    "ConvTranspose", "DequantizeLinear", "Div", "Elu", "Equal", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Max", "MaxPool", "Min", "Mish", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pad", "QuantizeLinear", "Relu", "Reshape", "Resize", "Round", "Sigmoid", "Slice",
    "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Swish", "Tanh", "Transpose", "Unsqueeze", "Upsample", "Where",
))  # fmt: skip
_LEAST_SCORE = 0.05
_SEAM_PX = 24  # rows that reach so near to the border of their scene see another neighbour now
_SAME_IOU, _SAME_SCORE, _LEAST_SAME = 0.5, 0.15, 0.8


def only_local_operators(file: ModelFile) -> bool:
    """Whether `file` does nothing with a picture that mixes all places. Reads no weights.

    Files for several at a time are left as they are: a few large inputs would seldom fill a batch.
    """
    alone = file.picture.shape[0] in (None, 1) and not file.extra and not file.unbatched
    return alone and file.task in ("", "detect") and operators(file.path) <= _LOCAL


def why_not_local(spec: ModelSpec, backend: Backend) -> str:
    """What speaks against larger inputs, in words; empty if nothing does. `backend`: entered, fed what `spec` says."""
    wh = spec.input.wh
    if not only_local_operators(spec.file):
        return "its operators are not all local"
    if wh is None:
        return _why_not_odd(spec, backend)
    same = of = 0
    for pair, step_xy in enumerate(((wh[0], 0), (0, wh[1]))):
        scenes = [fed(spec.input, wh, 2 * pair + turn) for turn in (0, 1)]
        both, both_wh = _joined(scenes, spec, upright=step_xy[1] > 0)
        try:
            alone = [_rows(spec, first_answer(backend, scene), wh) for scene in scenes]
            together = _rows(spec, first_answer(backend, both), both_wh)
        except (ModelError, ValueError, IndexError) as error:  # the last two from decoders
            return str(error)
        for turn, rows in enumerate(alone):
            rows = _away_from(rows, wh)
            moved = rows.xyxy + np.array(step_xy * 2, np.float32) * turn
            alike = np.asarray(boxes.iou(moved, together.xyxy)) >= _SAME_IOU
            alike &= rows.label[:, None] == together.label
            alike &= np.abs(rows.score[:, None] - together.score) <= _SAME_SCORE
            same += int(alike.any(1).sum())
            of += len(rows)
    drawn_scene.cache_clear()
    if not of:
        return "it finds nothing in drawn scenes, so that nothing can be compared"
    return "" if same >= _LEAST_SAME * of else f"of {of} rows {of - same} are others in a larger input"


def _why_not_odd(spec: ModelSpec, backend: Backend) -> str:
    """Takes any size: any multiple of its stride? Some have coarser levels than they say."""
    wh = 11 * spec.input.stride, 13 * spec.input.stride
    try:
        _rows(spec, first_answer(backend, fed(spec.input, wh, 0)), wh)
    except (ModelError, ValueError, IndexError) as error:
        return str(error)
    return ""


def _joined(scenes: list[NDArray[Any]], spec: ModelSpec, *, upright: bool) -> tuple[NDArray[Any], tuple[int, int]]:
    """Scenes beside (`upright`: above) each other and one stride more: no joined input is twice the usual one."""
    down, across = (1, 2) if spec.input.layout == "nhwc" else (2, 3)
    both = np.concatenate(scenes, axis=down if upright else across)
    more = [(0, spec.input.stride if axis in (down, across) else 0) for axis in range(both.ndim)]
    both = np.ascontiguousarray(np.pad(both, more, mode="edge"))
    return both, (both.shape[across], both.shape[down])


def _rows(spec: ModelSpec, raw: Raw, wh: tuple[int, int]) -> Candidates:
    with np.errstate(over="ignore", invalid="ignore"):
        found = spec.family.decode(raw, spec.layout, wh, _LEAST_SCORE)
    return found[np.isfinite(found.score) & np.isfinite(found.xyxy).all(axis=1) & (found.tile == 0)]


def _away_from(rows: Candidates, wh: tuple[int, int]) -> Candidates:
    """Those away from the border of an input of `wh` px."""
    inner = (rows.xyxy[:, :2] >= _SEAM_PX) & (rows.xyxy[:, 2:] <= np.array(wh) - _SEAM_PX)
    return rows[inner.all(axis=1)]
