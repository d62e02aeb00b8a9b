"""Our CUDA sources as C++ on the host: compiled with g++ and `cuda_shim.h`, called on guarded memory."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamdet
from streamdet.inputspec import InputSpec
from streamdet.tiles.program import JOB, PLANE, PlaneRef, Source, compile_rows, is_same_size, tile_rows
from streamdet.types import TilePlan

HERE = Path(__file__).resolve().parent
PACKAGE = Path(streamdet.__file__).resolve().parent
SUFFIX = {"float32": "f32", "float16": "f16", "uint8": "u8"}
_libc = ctypes.CDLL(None, use_errno=True)


class Shim:
    """A ``.cu`` file of the package (or `text` instead of it) as a shared library."""

    def __init__(self, name: str, folder: Path, *, text: str | None = None, optimise: str = "-O2") -> None:
        source = PACKAGE / f"{name}.cu"
        if text is not None:
            source = folder / "mutant.cu"
            source.write_text(text)
        library = folder / f"{Path(name).name}.so"
        flags = [
            "-std=c++17",
            optimise,
            "-fPIC",
            "-shared",
            "-ffp-contract=off",
            "-w",
            f"-I{HERE}",
            f"-I{PACKAGE / Path(name).parent}",
        ]
        subprocess.run(["g++", "-x", "c++", *flags, "-o", str(library), str(source)], check=True, timeout=110)
        self._library = ctypes.CDLL(str(library))

    def launch(self, kernel: str, grid: tuple[int, int, int], block: int, *arrays: NDArray[Any]) -> None:
        """Run a kernel whose arguments are the addresses of `arrays`."""
        dim3 = ctypes.c_uint * 3

        class Dim(ctypes.Structure):
            _fields_ = (("of", dim3),)

        function = ctypes.cast(getattr(self._library, kernel), ctypes.c_void_p)
        addresses = (ctypes.c_uint64 * 4)(*(array.ctypes.data for array in arrays))
        self._library.shim_launch(function, Dim(dim3(*grid)), Dim(dim3(block, 1, 1)), addresses, len(arrays))


_kept: list[mmap.mmap] = []


def _before_forbidden(size: int, align: int) -> NDArray[np.uint8]:
    page = mmap.PAGESIZE
    size_up = -(-size // align) * align
    pages = -(-size_up // page) + 1
    memory = mmap.mmap(-1, pages * page)
    _kept.append(memory)
    whole = np.frombuffer(memory, np.uint8)
    assert _libc.mprotect(ctypes.c_void_p(whole.ctypes.data + (pages - 1) * page), ctypes.c_size_t(page), 0) == 0
    start = (pages - 1) * page - size_up
    return whole[start : start + size]


allocator: Callable[[int, int], NDArray[np.uint8]] = _before_forbidden
"""Where all that kernels touch is put; on a real card page-locked memory (benchmarks/gpu/kernel_checks.py)."""


def guarded(size: int, *, align: int = 16) -> NDArray[np.uint8]:
    """(size,) u8 that ends where forbidden memory begins (less what `align` asks for); poisoned. Reading beyond it is a crash."""
    piece = allocator(size, align)
    piece[:] = 0xCD
    return piece


def placed(array: NDArray[Any]) -> NDArray[Any]:
    """`array` where kernels can reach it."""
    copy = guarded(max(array.nbytes, 1))[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class OnHost:
    """Pictures and motion planes in guarded memory as the kernel reads them."""

    def __init__(self, *, pitch_extra: int = 16, align: int = 16, wide: bool = False, pair: bool = True) -> None:
        self.pitch_extra, self.align, self.wide, self.pair = pitch_extra, align, wide, pair
        self.fields: dict[PlaneRef, tuple[int, int, int, int, int]] = {}
        self._kept: list[Any] = []

    def put(self, ref: PlaneRef, plane: NDArray[Any], *, half: int = 0) -> None:
        """One plane of samples side by side (u16: wide)."""
        self._lay([ref], [plane], half, 1)

    def picture(self, picture: Any, back: int = 0) -> None:
        """A Picture (or something with the same planes, of u16 for P010)."""
        self.put(("y", back), picture.luma)
        if picture.chroma is None:
            bgr = picture.bgr
            self._lay([("b", back), ("g", back), ("r", back)], [bgr[..., i] for i in range(3)], 0, 3)
        elif self.pair:
            self._lay([("u", back), ("v", back)], list(picture.chroma), 1, 2)
        else:
            self.put(("u", back), picture.chroma[0], half=1)
            self.put(("v", back), picture.chroma[1], half=1)

    def _lay(self, refs: list[Any], planes: list[NDArray[Any]], half: int, together: int) -> None:
        height, width = planes[0].shape
        each = planes[0].dtype.itemsize
        row = width * each * together
        pitch = -(-(row + self.pitch_extra) // max(self.align, 1)) * max(self.align, 1) if height > 1 else row
        memory = guarded((height - 1) * pitch + row, align=self.align)
        for i, plane in enumerate(planes):
            view = np.ndarray(
                (height, width), plane.dtype, buffer=memory, offset=i * each, strides=(pitch, each * together)
            )
            view[:] = plane
            self.fields[refs[i]] = memory.ctypes.data + i * each, pitch, each * together, int(each == 2), half
        self._kept.append(memory)


def pack_on_host(
    shim: Shim,
    spec: InputSpec,
    planes: OnHost,
    sources: dict[int, Source],
    tiles: TilePlan,
    *,
    kernel: str | None = None,
) -> NDArray[Any]:
    """What the GPU packer would put into its batch. `kernel` None: the one the packer would choose."""
    rows, refs = compile_rows(spec, lambda offset: sources[offset], lambda ref: ref in planes.fields)
    table = np.array([planes.fields[ref] for ref in refs], PLANE)
    tile_table = placed(tile_rows(tiles))
    shape = spec.shape(len(tiles), tiles.input_wh)
    raw = guarded(int(np.prod(shape)) * np.dtype(spec.dtype).itemsize)
    job = placed(np.zeros((), JOB))
    job["out"], job["tiles"] = raw.ctypes.data, tile_table.ctypes.data
    job["width"], job["height"] = tiles.input_wh
    job["channels"], job["rows"], job["nhwc"] = len(spec.channels), len(rows), spec.layout == "nhwc"
    job["plane"][: len(table)], job["row"][: len(rows)] = table, rows
    if kernel is None:
        kernel = "_same" if is_same_size(tile_table, table) else ""
    groups = -(-tiles.input_wh[0] // 8) * tiles.input_wh[1]
    shim.launch(f"pack_{SUFFIX[spec.dtype]}{kernel}", (-(-groups // 256), len(tiles), 1), 256, job)
    return raw.view(spec.dtype).reshape(shape)
