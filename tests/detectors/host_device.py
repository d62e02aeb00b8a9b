"""A Device whose memory is the host's, and a TensorRT that answers with onnxruntime: the real binding code runs on both.

What a GPU does is played honestly where our code depends on it: addresses are real ones, released memory is given out again and
poisoned meanwhile, and while a graph is captured nothing happens until it is launched.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

from streamdet.libcuda import Gpu
from streamdet.types import DeviceArray

GPU = Gpu(0, "Host 1", (9, 0), (13, 0), "580.1", 8 << 30, 4)
POISON = 0xA5
_ALLOCATED: dict[int, int] = {}  # address -> bytes, of all devices


def at(array: DeviceArray) -> NDArray[Any]:
    """The host array that lies where `array` points."""
    for start, size in _ALLOCATED.items():  # what a runtime lends us lies in none of them
        if start <= array.pointer < start + size:
            assert array.pointer + array.nbytes <= start + size, f"{array} reaches beyond what was allocated"
    raw = (ctypes.c_uint8 * max(array.nbytes, 1)).from_address(array.pointer)
    return np.frombuffer(raw, np.uint8)[: array.nbytes].view(array.dtype).reshape(array.shape)


class HostGraph:
    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self.work: list[Callable[[], None]] = []
        self.closed = False

    def launch(self) -> None:
        assert not self.closed
        assert self._device.recording is None, "a graph is launched while another is captured"
        for each in self.work:
            each()


class HostDevice:
    """As `streamdet.device.Device`."""

    def __init__(self) -> None:
        self.gpu = GPU
        self.stream = id(self)
        self.entered = False
        self.recording: HostGraph | None = None
        self.may_capture = True
        self.waits = 0
        self._live: dict[int, tuple[NDArray[np.uint8], int]] = {}
        self._free: dict[int, list[int]] = {}

    def __enter__(self) -> HostDevice:
        self.entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self.entered = False
        for pointer in self._live:
            del _ALLOCATED[pointer]
        self._live, self._free = {}, {}

    def do(self, work: Callable[[], None]) -> None:
        """Put work on the stream."""
        assert self.entered
        if self.recording is not None:
            self.recording.work.append(work)
        else:
            work()

    @property
    def held(self) -> int:
        """Buffers given out and not back."""
        return len(self._live) - sum(len(waiting) for waiting in self._free.values())

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        assert self.recording is None, "memory is allocated while a graph is captured"
        kind = np.dtype(dtype)
        size = max(64, -(-math.prod(shape) * kind.itemsize // 64) * 64)
        waiting = self._free.get(size)
        pointer = waiting.pop() if waiting else self._new(size)
        return DeviceArray(pointer, shape, kind)

    def _new(self, size: int) -> int:
        memory = np.full(size, POISON, np.uint8)
        self._live[memory.ctypes.data] = memory, size
        _ALLOCATED[memory.ctypes.data] = size
        return memory.ctypes.data

    def release(self, array: DeviceArray) -> None:
        memory, size = self._live[array.pointer]
        memory[:] = POISON
        waiting = self._free.setdefault(size, [])
        assert array.pointer not in waiting, "released twice"
        waiting.append(array.pointer)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        return np.full(math.prod(shape) * np.dtype(dtype).itemsize, POISON, np.uint8).view(dtype).reshape(shape)

    def upload(self, host: NDArray[Any], to: DeviceArray) -> None:
        assert host.nbytes == to.nbytes
        self.do(lambda: np.copyto(at(to).view(np.uint8), host.view(np.uint8).reshape(at(to).view(np.uint8).shape)))

    def download(self, array: DeviceArray, to: NDArray[Any]) -> None:
        assert to.nbytes == array.nbytes
        self.do(lambda: np.copyto(to, at(array).reshape(to.shape)))

    def fill(self, array: DeviceArray, byte: int = 0) -> None:
        self.do(lambda: at(array).view(np.uint8).fill(byte))

    def read(self, array: DeviceArray) -> NDArray[Any]:
        return at(array).copy()

    def synchronize(self) -> None:
        assert self.recording is None, "waited while a graph is captured"
        self.waits += 1

    def on_this_thread(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def capture(self) -> Iterator[HostGraph]:
        from streamdet.errors import StartupError

        if not self.may_capture:
            raise StartupError("the GPU failed while recording a graph: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        self.recording = HostGraph(self)
        try:
            yield self.recording
        finally:
            self.recording = None

    def forget(self, graph: HostGraph) -> None:
        graph.closed = True


# ------------------------------------------------------------------------------------------------------------ TensorRT


class PlayedTensorRt:
    """The part of TensorRT that runs engines, on host memory. A plan is an ONNX file behind a header; `refuse`: so many plans."""

    HEADER = b"played plan "

    def __init__(self, device: HostDevice) -> None:
        self.device = device
        self.refuse = 0
        self.enqueued: list[int] = []  # tiles
        self.module = SimpleNamespace(
            Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=self._engine),
            TensorIOMode=SimpleNamespace(INPUT=1, OUTPUT=2),
            ExecutionContextAllocationStrategy=SimpleNamespace(STATIC=0, USER_MANAGED=2),
        )
        self.rtx = False
        self.about = "TensorRT 0"

    def _engine(self, plan: bytes) -> PlayedEngine | None:
        if self.refuse:
            self.refuse -= 1
            return None
        assert plan.startswith(self.HEADER)
        return PlayedEngine(self, plan.removeprefix(self.HEADER))


_KINDS = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}
_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32}


class PlayedEngine:
    def __init__(self, trt: PlayedTensorRt, model: bytes) -> None:
        self.trt = trt
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.inputs = {port.name: port for port in self.session.get_inputs()}
        self.outputs = {port.name: port for port in self.session.get_outputs()}
        self._names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, number: int) -> str:
        return self._names[number]

    def get_tensor_mode(self, name: str) -> int:
        return 1 if name in self.inputs else 2

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_KINDS[{**self.inputs, **self.outputs}[name].type])

    device_memory_size_v2 = 4096

    def create_execution_context(self, strategy: int) -> PlayedContext:
        assert strategy == self.trt.module.ExecutionContextAllocationStrategy.USER_MANAGED
        assert self.trt.device.recording is None, "a context is made while a graph is captured"
        return PlayedContext(self)


class PlayedContext:
    def __init__(self, engine: PlayedEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._answers: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self._recorded = False
        self._working = 0

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._working = pointer

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self._recorded, "a graph was recorded from this context: it may not be changed any more"
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        assert not self._recorded, "a graph was recorded from this context: it may not be changed any more"
        self._addresses[name] = pointer
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """By running zeros of the shapes set, as TensorRT knows it by its arithmetic."""
        if name in self._shapes:
            return self._shapes[name]
        key = tuple(sorted(self._shapes.items()))
        if key not in self._answers:
            zeros = {
                port: np.zeros(shape, _TYPES[_KINDS[self._engine.inputs[port].type]])
                for port, shape in self._shapes.items()
            }
            values = self._engine.session.run(None, zeros)
            self._answers[key] = {port: value.shape for port, value in zip(self._engine.outputs, values)}
        return self._answers[key][name]

    def execute_async_v3(self, stream: int) -> bool:
        device = self._engine.trt.device
        assert stream == device.stream
        assert self._working, "the context has no working memory"
        self._recorded = self._recorded or device.recording is not None
        shapes, addresses = dict(self._shapes), dict(self._addresses)

        def work() -> None:
            feed = {
                name: at(DeviceArray(addresses[name], shape, np.dtype(_TYPES[_KINDS[self._engine.inputs[name].type]])))
                for name, shape in shapes.items()
            }
            self._engine.trt.enqueued.append(len(next(iter(feed.values()))))
            for name, value in zip(self._engine.outputs, self._engine.session.run(None, feed)):
                at(DeviceArray(addresses[name], value.shape, value.dtype))[...] = value

        device.do(work)
        return True


def plan_of_file(path: Path) -> bytes:
    return PlayedTensorRt.HEADER + path.read_bytes()
