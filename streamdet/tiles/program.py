"""What the GPU packer is told: memory layouts of `kernel.cu`, and the little program made from a network's input description.

The kernel samples planes into three registers a, b, c and mixes each channel from them. :func:`compile_rows` says which plane
goes where and with which factors, so that every number of `streamdet.tiles.pack_cpu` comes out; nothing here touches a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import colour_rows, luma_row
from streamdet.tiles.sample import by_area
from streamdet.types import Matrix, TilePlan

__all__ = ["JOB", "PLANE", "ROW", "TILE", "PlaneRef", "Source", "compile_rows", "is_same_size", "tile_rows"]

MOST_PLANES = MOST_ROWS = 64
RUN = 8

# as `struct Plane`, `Tile`, `Row`, `Job` of kernel.cu; addresses are u8
PLANE = np.dtype([("data", "u8"), ("pitch", "i4"), ("step", "i4"), ("wide", "i4"), ("half", "i4")])
TILE = np.dtype([(name, "i4") for name in ("x1", "y1", "x2", "y2", "ow", "oh", "area", "half_area")])
ROW = np.dtype(
    [
        ("load", "i4", 3),
        ("slot", "i4"),
        ("k", "f4", 3),
        ("k0", "f4"),
        ("low", "f4"),
        ("high", "f4"),
        ("pad", "f4"),
        ("pair", "i4"),
    ]
)
JOB = np.dtype(
    [
        ("out", "u8"),
        ("tiles", "u8"),
        ("picked", "u8"),
        ("count", "u8"),
        ("width", "i4"),
        ("height", "i4"),
        ("channels", "i4"),
        ("rows", "i4"),
        ("nhwc", "i4"),
        ("reserved", "i4"),
        ("plane", PLANE, MOST_PLANES),
        ("row", ROW, MOST_ROWS),
    ]
)

What = Literal["y", "u", "v", "b", "g", "r", "previous", "before_previous", "background"]
PlaneRef = tuple[What, int]
"""A plane and how many frames back its picture is (0 or negative; planes of the motion model: 0)."""
_MOTION: dict[str, tuple[PlaneRef, PlaneRef]] = {
    "difference": (("y", 0), ("previous", 0)),
    "previous_difference": (("previous", 0), ("before_previous", 0)),
    "background_difference": (("y", 0), ("background", 0)),
}
_SLOT: dict[What, int] = {
    "y": 0,
    "b": 0,
    "u": 1,
    "g": 1,
    "previous": 1,
    "v": 2,
    "r": 2,
    "before_previous": 2,
    "background": 2,
}


@dataclass(frozen=True, slots=True)
class Source:
    """How the planes of a picture become colours. `yuv` False: b, g, r and, apart, luma. `pair`: u and v are interleaved."""

    yuv: bool
    matrix: Matrix = "bt601"
    full_range: bool = False
    pair: bool = False


class _Rows:
    """Rows under construction; knows what the registers hold."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.planes: list[PlaneRef] = []
        self._held: list[PlaneRef | None] = [None, None, None]

    def add(
        self,
        slot: int,
        wanted: Sequence[PlaneRef],
        factors: Sequence[float],
        *,
        k0: float,
        low: float,
        high: float,
        pad: float,
        pair: bool = False,
    ) -> None:
        load, k = [-1, -1, -1], [0.0, 0.0, 0.0]
        for plane, factor in zip(wanted, factors, strict=True):
            register = _SLOT[plane[0]]
            k[register] = factor
            if self._held[register] != plane:
                load[register] = self._index(plane)
                self._held[register] = plane
        self.rows.append((load, slot, k, k0, low, high, pad, int(pair)))

    def _index(self, plane: PlaneRef) -> int:
        if plane not in self.planes:
            self.planes.append(plane)
        return self.planes.index(plane)


def compile_rows(
    spec: InputSpec, source_of: Callable[[int], Source], present: Callable[[PlaneRef], bool]
) -> tuple[NDArray[Any], list[PlaneRef]]:
    """(R,) ROW and the planes its ``load`` numbers mean.

    `source_of`: by frame offset. `present`: whether a plane exists; a difference that lacks one is 0, as `pack_cpu` has it.

    Raises:
        ModelError: more channels or planes than the kernel's table holds.
    """
    rows = _Rows()
    channels = list(enumerate(spec.parsed))
    colours = sorted((c for c in channels if not c[1].signed), key=lambda c: (c[1].offset, c[1].what == "y"))
    for index, channel in colours:
        _colour(rows, spec, index, source_of(channel.offset))
    for index, channel in sorted((c for c in channels if c[1].signed), key=lambda c: c[1].what):
        gain, limit = 1 / spec.signed_scale, spec.signed_clip
        wanted = _MOTION[channel.what]
        if not all(present(plane) for plane in wanted):
            rows.add(index, (), (), k0=0.0, low=0.0, high=0.0, pad=0.0)
        else:
            rows.add(index, wanted, (gain, -gain), k0=0.0, low=-limit, high=limit, pad=0.0)
    if len(rows.rows) > MOST_ROWS or len(rows.planes) > MOST_PLANES:
        raise ModelError(
            f"a network input of {len(rows.rows)} channels from {len(rows.planes)} planes is more than the GPU packer takes "
            f"({MOST_ROWS} and {MOST_PLANES}); use --device cpu"
        )
    return np.array(rows.rows, ROW), rows.planes


def _colour(rows: _Rows, spec: InputSpec, index: int, source: Source) -> None:
    channel = spec.parsed[index]
    gain, offset = spec.affine(index)
    back = channel.offset
    low, high = sorted((offset, gain * 255 + offset))
    pad = gain * spec.pad_value + offset
    slope, black = luma_row(source.full_range) if source.yuv else (1.0, 0.0)
    shift = offset - slope * black * gain
    if channel.what == "y":
        rows.add(index, [("y", back)], [slope * gain], k0=shift, low=low, high=high, pad=pad)
    elif source.yuv:
        for_u, for_v = colour_rows(source.matrix, source.full_range)[channel.what]
        planes: list[PlaneRef] = [("y", back), ("u", back), ("v", back)]
        k0 = shift - 128 * (for_u + for_v) * gain
        factors = [slope * gain, for_u * gain, for_v * gain]
        rows.add(index, planes, factors, k0=k0, low=low, high=high, pad=pad, pair=source.pair)
    else:
        planes = [("b", back), ("g", back), ("r", back)]
        factors = [gain if plane[0] == channel.what else 0.0 for plane in planes]
        rows.add(index, planes, factors, k0=shift, low=low, high=high, pad=pad)


def tile_rows(tiles: TilePlan) -> NDArray[Any]:
    """(T,) TILE: what a plan says, with the sizes in the output and whether planes are averaged."""
    rows = np.zeros(len(tiles), TILE)
    for row, (box, scale) in enumerate(zip(tiles.xyxy.tolist(), tiles.scale.astype(np.float64).tolist(), strict=True)):
        width, height = box[2] - box[0], box[3] - box[1]
        out_wh = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
        real = out_wh[0] / width, out_wh[1] / height
        rows[row] = (*box, *out_wh, by_area(real), by_area((real[0] * 2, real[1] * 2)))
    return rows


def is_same_size(tiles: NDArray[Any], planes: NDArray[Any]) -> bool:
    """Whether ``pack_*_same`` may run: nothing is scaled, whole runs fit, chroma begins even, samples lie side by side."""
    unscaled = (tiles["ow"] == tiles["x2"] - tiles["x1"]) & (tiles["oh"] == tiles["y2"] - tiles["y1"])
    whole = tiles["ow"] % RUN == 0
    even = (tiles["x1"] % 2 == 0) | ~np.any(planes["half"])
    bytes_each = np.where(planes["wide"] != 0, 2, 1)
    beside = (planes["step"] == bytes_each) | ((planes["half"] != 0) & (planes["step"] == 2 * bytes_each))
    return bool((unscaled & whole & even).all() and beside.all())
