"""The noun Picture: planes on the host, rectangles of what is too large to be held, planes and arrays on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from streamdet.arrays import U8

__all__ = ["DeviceArray", "DevicePlane", "DevicePlanes", "Matrix", "MotionPlanes", "Picture", "Windows"]

Matrix = Literal["bt601", "bt709", "bt2020"]


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """Contiguous memory on the GPU: its address, and what lies there. Owned by whoever made it (`streamdet.device`)."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Lets CuPy, torch and pycuda look at it without a copy."""
        return {"version": 3, "data": (self.pointer, False), "shape": self.shape, "typestr": self.dtype.str}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        """Some rows: the same memory."""
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("only neighbouring rows of a DeviceArray can be taken")
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self.pointer + first * row, (max(0, last - first), *self.shape[1:]), self.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class DevicePlanes:
    """A 4:2:0 picture the decoder left on the GPU: NV12 (`bits` 8) or P010 (10, in the upper bits of 16).

    `luma`, `chroma`: device addresses (u and v interleaved). `pitch`: bytes from row to row of each. `owner`: whatever must stay
    alive while they are used; the decoder may still be writing until our stream has waited for the default stream.
    """

    luma: int
    chroma: int
    pitch: tuple[int, int]
    bits: int = 8
    owner: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DevicePlane:
    """One plane of grey levels on the GPU: address, bytes from row to row; `wide`: the upper 8 of 16 bits."""

    pointer: int
    pitch: int
    wide: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MotionPlanes:
    """The planes of a Motion that was measured on the GPU and left there; None as in Motion.

    `owner`: whatever must stay alive until the GPU has read them.
    """

    previous: DevicePlane | None
    before_previous: DevicePlane | None
    background: DevicePlane | None
    owner: Any = field(default=None, repr=False)


class Windows(Protocol):
    """A picture too large to be held, which gives rectangles of itself. Asked row of tiles by row of tiles it decodes once.

    ``read``: (h, w, 3) u8 BGR of an int box inside the picture, valid until the next call. ``overview``: (h, w, 3) u8 BGR of all
    of it, shrunk by area to a few thousand px; whole after the last row was read (what is missing is read when it is asked for).
    Both may raise SourceLostError (damaged further down).
    """

    @property
    def wh(self) -> tuple[int, int]: ...
    def read(self, xyxy: Sequence[int]) -> U8: ...
    def overview(self) -> U8: ...


class Picture:
    """One upright picture with square pixels, of one of three kinds:

    - *YUV*: ``luma`` (H,W) u8 and ``chroma`` = (u, v), each (ceil(H/2), ceil(W/2)) u8, with ``matrix`` and
      ``full_range`` saying how they turn into RGB. ``bgr`` is made on first access by `make_bgr` and kept.
    - *BGR*: ``chroma`` is None and ``bgr`` (H,W,3) u8 is what was given; ``luma`` is full-range BT.601 of it.
    - *windowed*: ``windows`` reads rectangles of a still too large to be held; ``luma`` and ``bgr`` are refused. Whoever looks
      at a rectangle asks :meth:`bgr_of`, which serves all kinds.

    Planes may be non-contiguous views (rotated video). Thread-safe: making ``bgr`` twice in a race yields equal arrays.
    ``on_device``: where the same YUV picture lies on the GPU, upright, if the decoder left it there.
    """

    __slots__ = ("_bgr", "_luma", "_make_bgr", "_wh", "chroma", "full_range", "matrix", "on_device", "windows")

    def __init__(
        self,
        luma: U8 | None = None,
        chroma: tuple[U8, U8] | None = None,
        *,
        bgr: U8 | None = None,
        make_bgr: Callable[[], U8] | None = None,
        windows: Windows | None = None,
        matrix: Matrix = "bt601",
        full_range: bool = False,
        on_device: DevicePlanes | None = None,
    ) -> None:
        if windows is None:
            _check_planes(luma, chroma, bgr)
            if bgr is None and make_bgr is None:
                raise ValueError("a Picture needs bgr, make_bgr or windows")
            assert luma is not None
            self._wh = luma.shape[1], luma.shape[0]
        else:
            self._wh = windows.wh
        self.windows = windows
        self._luma = luma
        self.chroma = chroma
        self.matrix: Matrix = matrix
        self.full_range = full_range
        self.on_device = on_device
        self._bgr = bgr
        self._make_bgr = make_bgr

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height in px."""
        return self._wh

    @property
    def luma(self) -> U8:
        """(H, W) u8."""
        if self._luma is None:
            raise ValueError(f"{self!r} is not held whole: ask for rectangles")
        return self._luma

    @property
    def bgr(self) -> U8:
        """(H, W, 3) u8, full range. Made once; do not write into it (``.copy()`` first)."""
        if self._bgr is None:
            if self._make_bgr is None:
                raise ValueError(f"{self!r} is not held whole: ask for rectangles")
            self._bgr = self._make_bgr()
        return self._bgr

    def bgr_of(self, xyxy: Sequence[int]) -> U8:
        """(h, w, 3) u8 BGR of an int box inside the picture; a view where the picture is held."""
        if self.windows is not None:
            return self.windows.read(xyxy)
        x1, y1, x2, y2 = xyxy
        return self.bgr[y1:y2, x1:x2]

    def sampled(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """Luma, u and v u8 of a YUV picture at the px (x, y), int arrays of any shapes that fit each other."""
        assert self.chroma is not None
        u, v = self.chroma
        return self.luma[y, x], u[y // 2, x // 2], v[y // 2, x // 2]

    @property
    def is_yuv(self) -> bool:
        """Whether it has chroma planes, wherever they lie."""
        return self.on_device is not None or self.chroma is not None

    @property
    def fetched(self) -> bool:
        """Whether its planes are on the host; asking for them fetches them."""
        return True

    def __repr__(self) -> str:
        yuv = f"YUV420 {self.matrix} {'full' if self.full_range else 'limited'}"
        kind = "windowed" if self.windows is not None else "BGR" if self.chroma is None else yuv
        return f"Picture({self.wh[0]}x{self.wh[1]} {kind})"


def _check_planes(luma: U8 | None, chroma: tuple[U8, U8] | None, bgr: U8 | None) -> None:
    if luma is None or luma.ndim != 2 or luma.dtype != np.uint8:
        raise ValueError(f"luma must be (H, W) uint8, got {None if luma is None else (luma.shape, luma.dtype)}")
    height, width = luma.shape
    if chroma is not None:
        want = ((height + 1) // 2, (width + 1) // 2)
        if chroma[0].shape != want or chroma[1].shape != want:
            raise ValueError(f"chroma planes must be {want}, got {chroma[0].shape} and {chroma[1].shape}")
    if bgr is not None and bgr.shape != (height, width, 3):
        raise ValueError(f"bgr must be {(height, width, 3)}, got {bgr.shape}")
