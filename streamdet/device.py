"""One GPU, brought up and taken down whole: context, stream, memory, events, kernels, graphs. The only importer of pycuda.

Everything a :class:`Device` hands out belongs to it and is freed when it is left, also when that is by an exception. Work goes
to *one* stream in order; nothing here waits except where it says so. One thread at a time may use a Device (the one that
entered it, or another inside ``with device.on_this_thread():``).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamdet import libcuda
from streamdet.errors import DependencyError, StartupError
from streamdet.fatbin import read_fatbin
from streamdet.launches import Event, Graph, Kernel, told
from streamdet.libcuda import Gpu, NoGpu, probe, require
from streamdet.types import DeviceArray

__all__ = ["Device", "DeviceArray", "Event", "Gpu", "Graph", "Kernel", "NoGpu", "probe", "require"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: a stream that may be captured and waits for no other
_BLOCKING = 4  # CU_CTX_SCHED_BLOCKING_SYNC
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: decoder threads may go on calling CUDA meanwhile
_GRAIN = 512  # bytes; larger buffers are rounded to whole 64 kB
_PAGE = 1 << 16


class Device:
    """GPU `name` (``cuda``, ``cuda:1``). Nothing is touched before ``__enter__``.

    Raises:
        StartupError: there is no such GPU, with the reason; or the GPU failed, with the driver's name of the error.
        DependencyError: pycuda is missing.
    """

    def __init__(self, name: str = "cuda:0") -> None:
        self.name = name
        self._cuda: Any = None
        self._context: Any = None
        self._gpu: Gpu | None = None
        self._driver: ctypes.CDLL | None = None
        self._stream: Any = None
        self._clear()

    def _clear(self) -> None:
        self._live: dict[int, tuple[Any, int]] = {}  # pointer -> allocation, bytes
        self._free: dict[int, list[int]] = {}  # bytes -> pointers
        self._pinned: list[Any] = []
        self._events: weakref.WeakSet[Event] = weakref.WeakSet()
        self._graphs: list[Graph] = []
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], Kernel] = {}

    # ------------------------------------------------------------------------------------------------------- life

    def __enter__(self) -> Self:
        self._gpu = require(self.name)
        self._driver = libcuda.load()
        self._cuda = _import_pycuda()
        try:
            with told("creating its context"):
                self._cuda.init()
                self._share_with_ffmpeg(self._gpu.index)
                self._context = self._cuda.Device(self._gpu.index).retain_primary_context()
                self._context.push()
            with told("creating its stream"):
                self._stream = self._cuda.Stream(_NON_BLOCKING)
        except BaseException:
            self.close()
            raise
        return self

    def _share_with_ffmpeg(self, index: int) -> None:
        """FFmpeg's decoder joins the primary context only if it has the flags FFmpeg would give it (blocking waits, which also
        leave the core to others). Where another library was first, it stays as it is and `sources.hardware` finds a way."""
        with contextlib.suppress(libcuda.DriverError):
            libcuda.call(self.libcuda, "cuDevicePrimaryCtxSetFlags_v2", ctypes.c_int(index), ctypes.c_uint(_BLOCKING))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free everything and give the context back. Never raises: a GPU that failed cannot be tidied up."""
        if self._context is None:
            return
        if self._stream is not None:
            with contextlib.suppress(Exception):
                self._stream.synchronize()
        owned: list[Graph | Event | Kernel] = [*self._graphs, *self._events, *self._kernels.values()]
        for item in owned:
            with contextlib.suppress(Exception):
                item.close()
        for allocation in [*(pair[0] for pair in self._live.values()), *(array.base for array in self._pinned)]:
            with contextlib.suppress(Exception):
                allocation.free()
        self._clear()
        self._stream = None
        context, self._context = self._context, None
        with contextlib.suppress(Exception):
            self._cuda.Context.pop()
        with contextlib.suppress(Exception):
            context.detach()
            # pycuda 2026.1 makes a primary context current to detach it and leaves it so, thinking that pops it
            self.libcuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    @contextlib.contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Make the context current on a thread other than the one that entered the Device."""
        self._open.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    @property
    def _open(self) -> Any:
        if self._context is None:
            raise RuntimeError("the device is not entered, or closed")
        return self._context

    @property
    def gpu(self) -> Gpu:
        if self._gpu is None:
            raise RuntimeError("the device is not entered yet")
        return self._gpu

    @property
    def libcuda(self) -> ctypes.CDLL:
        if self._driver is None:
            raise RuntimeError("the device is not entered yet")
        return self._driver

    @property
    def stream(self) -> int:
        """The CUstream handle, for other libraries (TensorRT, ONNX Runtime)."""
        return int(self.pycuda_stream.handle)

    @property
    def pycuda_stream(self) -> Any:
        if self._stream is None:
            raise RuntimeError("the device is not entered, or closed")
        return self._stream

    # ----------------------------------------------------------------------------------------------------- memory

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """A buffer from the pool, its content undefined, aligned to 256 bytes. Yours until :meth:`release`."""
        array_type = np.dtype(dtype)
        wanted = max(1, math.prod(shape) * array_type.itemsize)
        grain = _PAGE if wanted >= _PAGE else _GRAIN
        size = -(-wanted // grain) * grain
        waiting = self._free.get(size)
        if waiting:
            return DeviceArray(waiting.pop(), shape, array_type)
        allocation = self._allocate(size)
        pointer = int(allocation)
        self._live[pointer] = allocation, size
        return DeviceArray(pointer, shape, array_type)

    def release(self, array: DeviceArray) -> None:
        """Give a buffer back to the pool. Work already on the stream may still use it: the next user queues behind."""
        size = self._live[array.pointer][1]
        waiting = self._free.setdefault(size, [])
        if array.pointer in waiting:
            raise RuntimeError(f"buffer {array} is released twice")
        waiting.append(array.pointer)

    def trim(self) -> None:
        """Give the memory that waits in the pool back to the GPU, after waiting for the stream."""
        self.synchronize()
        for pointer in [pointer for waiting in self._free.values() for pointer in waiting]:
            self._live.pop(pointer)[0].free()
        self._free.clear()

    @property
    def allocated_bytes(self) -> int:
        """Held on the GPU by this Device, waiting in the pool or not."""
        return sum(size for _, size in self._live.values())

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked host memory, which copies run from and to beside everything else. Freed with the Device only."""
        self._open  # noqa: B018  # says so if it is not
        with told(f"pinning {math.prod(shape) * np.dtype(dtype).itemsize} bytes of host memory"):
            array: NDArray[Any] = self._cuda.pagelocked_empty(shape, dtype)
        self._pinned.append(array)
        return array

    def unpin(self, array: NDArray[Any]) -> None:
        """Free page-locked memory early. No copy from or to it may be on its way."""
        for index, held in enumerate(self._pinned):
            if held is array:
                self._pinned.pop(index).base.free()
                return
        raise RuntimeError("this array is not page-locked memory of the device")

    def upload(self, host: NDArray[Any], to: DeviceArray) -> None:
        """Put a copy onto the stream. `host` (contiguous, best pinned) must not change before the stream has come by."""
        _same_size(host, to)
        with told("copying to it"):
            self._cuda.memcpy_htod_async(to.pointer, host, self.pycuda_stream)

    def download(self, array: DeviceArray, to: NDArray[Any]) -> None:
        """Put a copy onto the stream; `to` holds it once the stream has come by (:meth:`synchronize`, :meth:`mark`)."""
        _same_size(to, array)
        with told("copying from it"):
            self._cuda.memcpy_dtoh_async(to, array.pointer, self.pycuda_stream)

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        """Device to device, on the stream."""
        with told("copying on it"):
            self._cuda.memcpy_dtod_async(to.pointer, source.pointer, min(source.nbytes, to.nbytes), self.pycuda_stream)

    def fill(self, array: DeviceArray, byte: int = 0) -> None:
        """Set every byte, on the stream."""
        with told("filling its memory"):
            self._cuda.memset_d8_async(array.pointer, byte, array.nbytes, self.pycuda_stream)

    def read(self, array: DeviceArray) -> NDArray[Any]:
        """A copy on the host. Waits for the stream: for tests and small things."""
        host = np.empty(array.shape, array.dtype)
        self.download(array, host)
        self.synchronize()
        return host

    def _allocate(self, size: int) -> Any:
        self._open  # noqa: B018
        with told("allocating memory"):
            for emptied in (False, True):
                try:
                    return self._cuda.mem_alloc(size)
                except self._cuda.MemoryError:
                    if not emptied:
                        self.trim()
            free, total = self._cuda.mem_get_info()
            raise StartupError(
                f"the GPU {self.name} has {free / 2**20:.0f} of its {total / 2**20:.0f} MB free and {size / 2**20:.0f} MB "
                "are needed; close other programs on it, or use a smaller model or --tile with fewer tiles"
            )

    # ------------------------------------------------------------------------------------------------------ order

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        with told("running its work"):
            self.pycuda_stream.synchronize()

    def mark(self, *, timed: bool = False) -> Event:
        """A point in the stream, here and now."""
        event = self._event(timed)
        with told("marking its stream"):
            event.record(self.pycuda_stream)
        mark = Event(event)
        self._events.add(mark)
        return mark

    def after_default_stream(self) -> None:
        """Let our stream wait for what other libraries (NVDEC through FFmpeg) have put on the default stream so far."""
        event = self._event(False)
        with told("ordering its streams"):
            event.record()
            self.pycuda_stream.wait_for_event(event)

    def _event(self, timed: bool) -> Any:
        self._open  # noqa: B018
        return self._cuda.Event(0 if timed else self._cuda.event_flags.DISABLE_TIMING)

    @contextlib.contextmanager
    def capture(self) -> Iterator[Graph]:
        """Record what the body puts on the stream instead of running it. No allocation and no waiting inside.

        All addresses, also of host memory, are those of the recording: refill the same buffers before each launch.
        """
        graph, handle = Graph(self), ctypes.c_void_p()
        stream = ctypes.c_void_p(self.stream)
        with told("recording a graph"):
            libcuda.call(self.libcuda, "cuStreamBeginCapture_v2", stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            yield graph
        except BaseException:
            if self.libcuda.cuStreamEndCapture(stream, ctypes.byref(handle)) == 0 and handle:
                self.libcuda.cuGraphDestroy(handle)
            raise
        with told("recording a graph"):
            libcuda.call(self.libcuda, "cuStreamEndCapture", stream, ctypes.byref(handle))
            graph.take(handle)
        self._graphs.append(graph)

    def forget(self, graph: Graph) -> None:
        """Close a graph that is not needed any more, after its last launch has run."""
        self.synchronize()
        self._graphs.remove(graph)
        graph.close()

    # ---------------------------------------------------------------------------------------------------- kernels

    def kernel(self, fatbin: str, name: str) -> Kernel:
        """Function `name` of a fatbin in our package (``"tiles/kernel"``), loaded once."""
        self._open  # noqa: B018
        if fatbin not in self._modules:
            image = read_fatbin(fatbin)
            with told(f"loading the kernels {fatbin}.fatbin"):
                self._modules[fatbin] = self._cuda.module_from_buffer(image)
        if (fatbin, name) not in self._kernels:
            with told(f"looking up the kernel {name}"):
                self._kernels[fatbin, name] = Kernel(self, self._modules[fatbin].get_function(name), name)
        return self._kernels[fatbin, name]


def _import_pycuda() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:
        if error.name in ("pycuda", "pytools"):
            raise DependencyError("the GPU path needs pycuda; install it with: pip install 'streamdet[cuda]'") from None
        raise DependencyError(
            f"pycuda is installed but cannot be loaded ({error}); build it again for this driver"
        ) from None
    return pycuda.driver


def _same_size(host: NDArray[Any], device: DeviceArray) -> None:
    if host.nbytes != device.nbytes:
        raise ValueError(f"host array of {host.nbytes} bytes and {device} differ in size")
