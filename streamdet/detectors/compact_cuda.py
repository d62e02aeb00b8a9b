"""Reading a network's answers on the GPU: only the boxes not below the threshold cross to the host, a few kB of all heads.

The rows are those of the decoders in `streamdet.detectors.decode`, in their order whatever order the GPU found them in. The
first `SENT` rows come with the frame's one read-back, more of them (a broken threshold, a broken model) are fetched afterwards.
What can be found has room on the GPU up to `MOST` rows; more than that is an error, not a silent loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.centers import strongest
from streamdet.detectors.decode.layout import Candidates, Layout, cells_of
from streamdet.detectors.device_backend import DeviceRaw
from streamdet.detectors.network import moved
from streamdet.detectors.sniff import ModelSpec
from streamdet.device import Device
from streamdet.errors import ModelError
from streamdet.types import DeviceArray

__all__ = ["COMPACT", "FOUND", "CompactReader", "describe", "kernel_of", "reader_for", "rows_of"]

_FATBIN = "detectors/compact"
_BLOCK = 256
_MOST_LEVELS = 8
SENT = 2048  # rows that come with every read-back: 64 kB
MOST = 1 << 20  # rows there is room for at all: 32 MB

FOUND = np.dtype([("xyxy", "f4", 4), ("score", "f4"), ("label", "i4"), ("tile", "i4"), ("key", "i4")])
COMPACT = np.dtype(
    [(name, "u8") for name in ("first", "second", "third", "found", "count")]
    + [(name, "i4") for name in ("half", "tiles", "anchors", "columns", "classes", "height", "width")]
    + [(name, "i4") for name in ("activation", "decoded", "transposed", "box_format", "size_unit", "room")]
    + [("floor", "f4"), ("scale_x", "f4"), ("scale_y", "f4"), ("levels", "i4")]
    + [(name, "i4", _MOST_LEVELS) for name in ("level_first", "level_columns", "level_stride")],
    align=True,
)
_KERNELS = {
    "yolox": "compact_objectness",
    "yolov5": "compact_objectness",
    "yolov8": "compact_classes",
    "centers": "compact_centers",
}
_ACTIVATIONS = {"none": 0, "sigmoid": 1}
_FORMATS = {"xyxy": 0, "yxyx": 1, "cxcywh": 2, "xywh": 3}
_UNITS = {"log_px": 0, "px": 1, "cells": 2}


def kernel_of(layout: Layout) -> str | None:
    """The kernel that reads this layout; None: it is read on the host."""
    if layout.activation not in _ACTIVATIONS or layout.oriented or len(layout.strides) > _MOST_LEVELS:
        return None
    if layout.family == "centers":
        return _KERNELS["centers"] if set(layout.roles) == {"heat", "offset", "size"} else None
    if layout.box_unit is None or set(layout.roles) != {"output"}:  # boxes of a unit told by all values; masks
        return None
    return _KERNELS.get(layout.family)


def reader_for(device: Device, spec: ModelSpec, floor: float) -> CompactReader | None:
    """The reader for this model, or None where its answers are of a kind that is read on the host."""
    return CompactReader(device, spec.layout, floor) if kernel_of(spec.layout) else None


def describe(layout: Layout, shapes: dict[str, tuple[int, ...]], wh: tuple[int, int], floor: float) -> NDArray[Any]:
    """() COMPACT for outputs of these shapes, without its addresses; ``room`` is what can be found at most."""
    job = np.zeros((), COMPACT)
    job["activation"], job["floor"] = _ACTIVATIONS[layout.activation], floor
    job["decoded"], job["transposed"] = layout.decoded, layout.transposed
    job["classes"] = layout.classes
    if layout.family == "centers":
        tiles, classes, height, width = shapes[layout.roles["heat"][0]]
        job["tiles"], job["classes"], job["height"], job["width"] = tiles, classes, height, width
        job["size_unit"] = _UNITS[layout.size_unit]
        job["scale_x"], job["scale_y"] = wh[0] / width, wh[1] / height
        possible = tiles * classes * height * width
    else:
        tiles, rows, columns = shapes[layout.roles["output"][0]]
        if layout.family == "yolov8" and not layout.transposed:
            rows, columns = columns, rows
        job["tiles"], job["anchors"], job["columns"] = tiles, rows, columns
        job["box_format"] = _FORMATS["cxcywh" if layout.family == "yolox" else layout.box_format]
        scale = wh if layout.family != "yolox" and layout.box_unit == "relative" else (1.0, 1.0)
        job["scale_x"], job["scale_y"] = scale
        _levels(job, layout, wh)
        possible = tiles * rows
    job["room"] = min(possible, MOST)
    return job


def _levels(job: NDArray[Any], layout: Layout, wh: tuple[int, int]) -> None:
    first = 0
    job["levels"] = len(layout.strides)
    for level, stride in enumerate(layout.strides):
        columns, rows = cells_of(wh, stride)
        job["level_first"][level], job["level_columns"][level], job["level_stride"][level] = first, columns, stride
        first += columns * rows


def threads_of(job: NDArray[Any]) -> tuple[int, int]:
    """Grid of the launch: every anchor or cell of every tile."""
    each = int(job["anchors"]) or int(job["classes"]) * int(job["height"]) * int(job["width"])
    return -(-each // _BLOCK), int(job["tiles"])


def rows_of(found: NDArray[Any], layout: Layout) -> Candidates:
    """(N,) FOUND in any order -> the decoder's rows in the decoder's order."""
    found = found[np.lexsort((found["key"], found["tile"]))]
    if layout.family == "centers":
        found = found[strongest(found["score"], found["tile"])]
    return Candidates.of(found["xyxy"], found["score"], found["label"], found["tile"])


@dataclass(frozen=True, slots=True)
class _Piece:
    """Buffers of one piece of the batch; recorded graphs hold their addresses."""

    job: DeviceArray
    count: DeviceArray
    found: DeviceArray
    grid: tuple[int, int]
    host_count: NDArray[Any]
    host_found: NDArray[Any]


class CompactReader:
    """`streamdet.detectors.device_detector.Reader`. Its buffers belong to the Device."""

    def __init__(self, device: Device, layout: Layout, floor: float) -> None:
        name = kernel_of(layout)
        if name is None:
            raise ValueError(f"answers of the layout {layout.family} are not read on the GPU")
        self._device = device
        self._layout = layout
        self._floor = floor
        self._kernel = device.kernel(_FATBIN, name)
        self._pieces: dict[Any, _Piece] = {}

    def take(self, raw: DeviceRaw, first: int, rows: int, input_wh: tuple[int, int]) -> Callable[[], Candidates]:
        """Put the reading of `rows` tiles on the stream; the rows are there once it has come by."""
        key = first, input_wh, tuple((name, array.pointer, array.shape) for name, array in sorted(raw.items()))
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = self._new(raw, input_wh)
        self._device.fill(piece.count)
        self._kernel(piece.grid, (_BLOCK, 1, 1), piece.job)
        self._device.download(piece.count, piece.host_count)
        self._device.download(piece.found[: len(piece.host_found)], piece.host_found)
        return functools.partial(self._rows, piece, first, rows)

    def _rows(self, piece: _Piece, first: int, rows: int) -> Candidates:
        count = int(piece.host_count[0])
        if count > len(piece.found):
            raise ModelError(
                f"the network finds {count:,} boxes above its threshold in {rows} tiles, and at most {len(piece.found):,} are "
                "read from the GPU; raise the threshold (--conf), or lower gpu.batch"
            )
        if count <= len(piece.host_found):
            found = np.array(piece.host_found[:count])
        else:
            found = self._device.read(piece.found[:count])
        return moved(rows_of(found[found["tile"] < rows], self._layout), first)  # not what fills up a fixed batch

    def _new(self, raw: DeviceRaw, wh: tuple[int, int]) -> _Piece:
        device, layout = self._device, self._layout
        shapes = {name: array.shape for name, array in raw.items()}
        job = describe(layout, shapes, wh, self._floor)
        room = int(job["room"])
        found, count = device.empty((room,), FOUND), device.empty((1,), np.int32)
        names = ["heat", "offset", "size"] if layout.family == "centers" else ["output"]
        arrays = [raw[layout.roles[name][0]] for name in names]
        if len({array.dtype for array in arrays}) != 1 or arrays[0].dtype not in (np.float32, np.float16):
            raise ValueError(f"answers of the types {[str(array.dtype) for array in arrays]} are not read on the GPU")
        for field, array in zip(("first", "second", "third"), arrays):
            job[field] = array.pointer
        job["half"], job["found"], job["count"] = arrays[0].dtype == np.float16, found.pointer, count.pointer
        sheet = device.pinned((COMPACT.itemsize,), np.uint8)
        sheet.view(COMPACT)[0] = job
        on_device = device.empty(sheet.shape, np.uint8)
        device.upload(sheet, on_device)
        return _Piece(
            on_device,
            count,
            found,
            threads_of(job),
            device.pinned((1,), np.int32),
            device.pinned((min(room, SENT),), FOUND),
        )
