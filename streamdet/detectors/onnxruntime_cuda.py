"""ONNX Runtime on the GPU: bound to our device addresses and our stream, for machines without TensorRT.

Where the sizes of the outputs are known, they are our own buffers; a network whose rows vary leaves them to the runtime. A run
does not wait: what follows goes onto the same stream. Its runs cannot be recorded into a graph of ours (it allocates while it
runs).

The same code runs with the CPU provider on host memory: that is how it is tested where there is no GPU.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime

from streamdet.config import GpuConfig
from streamdet.detectors.backend import refused
from streamdet.detectors.device_backend import DeviceRaw, constants, input_wh_of
from streamdet.detectors.onnx_bytes import without_weight_inputs
from streamdet.detectors.sniff import input_shape
from streamdet.detectors.spec import ModelFile
from streamdet.device import Device
from streamdet.errors import DependencyError
from streamdet.types import DeviceArray

__all__ = ["OnnxRuntimeCudaBackend", "why_not"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_BOTH = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def why_not() -> str | None:
    """Why ONNX Runtime cannot use a GPU here, as a sentence with the remedy; None if it can. Loads no CUDA library."""
    if _CUDA in onnxruntime.get_available_providers():
        return None
    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return f"the GPU build of onnxruntime is not installed; run `{_BOTH}`, or use --backend tensorrt"
    return f"onnxruntime hides onnxruntime-gpu, both are installed; run `{_BOTH}`"


class OnnxRuntimeCudaBackend:
    """`file` is prepared (`detectors.prepared`). `place`: "cuda", or "cpu" for tests. See `DeviceBackend`."""

    def __init__(self, file: ModelFile, *, device: Device, config: GpuConfig, place: str = "cuda") -> None:
        self._file = file
        self._device = device
        self._config = config
        self._place = place
        self._session: Any = None
        self._options: Any = None
        self._binding: Any = None
        self._beside: dict[str, DeviceArray] = {}
        self._shape: tuple[int, ...] = ()
        self._number = 0
        self._fixed: dict[str, DeviceArray] = {}  # outputs in our own buffers, for `most` tiles
        self._lent: list[Any] = []  # outputs that belong to the runtime
        self._kinds: dict[str, Any] = {}
        batch = input_shape(file)[0]
        self._least, self._most = batch or 1, batch or config.batch

    @property
    def about(self) -> str:
        return f"onnxruntime {onnxruntime.__version__} {self._config.precision} on {self._device.gpu.name}"

    @property
    def least(self) -> int:
        return self._least

    @property
    def most(self) -> int:
        return self._most

    @property
    def recordable(self) -> bool:
        return False

    def __enter__(self) -> Self:
        self._session = self._open()
        self._options = onnxruntime.RunOptions()
        if self._place == "cuda":
            # the run ends when its work is on the stream, not when it is done
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._kinds = {port.name: _DTYPES.get(port.type) for port in self._session.get_outputs()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):
                self._device.synchronize()  # it may still read and write our buffers
        self._unbind()
        self._binding = self._session = self._options = None

    def bind(self, shape: tuple[int, ...]) -> int:
        if shape == self._shape:
            return self._number
        self._device.synchronize()
        self._unbind()
        self._binding = self._session.io_binding()
        self._beside = constants(self._device, self._file, input_wh_of(self._file, shape), self._most)
        self._shape = shape
        self._own_outputs(shape)
        self._number += 1
        return self._number

    def run(self, data: DeviceArray) -> DeviceRaw:
        tiles = len(data)
        self._bind_input(self._file.picture.name, data)
        for name, array in self._beside.items():
            self._bind_input(name, array[:tiles] if array.shape[0] == self._most else array)
        for name in self._kinds:
            if name in self._fixed:
                array = self._fixed[name][:tiles]
                self._binding.bind_output(name, *self._where, array.dtype.type, array.shape, array.pointer)
            else:
                self._binding.bind_output(name, *self._where)
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # its exception classes share no base but Exception
            raise refused(self._file.path.name, "onnxruntime", error) from None
        return self._answers(tiles)

    # ---------------------------------------------------------------------------------------------------------- binding

    @property
    def _where(self) -> tuple[str, int]:
        return self._place, self._device.gpu.index

    def _open(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers: list[Any] = [_CPU]
        if self._place == "cuda":
            reason = why_not()
            if reason is not None:
                raise DependencyError(reason)
            with contextlib.suppress(
                Exception
            ):  # from the nvidia-* packages, where those are installed; else the system's
                onnxruntime.preload_dlls()
            providers.insert(0, (_CUDA, self._settings()))
        try:
            source = without_weight_inputs(self._file.path) or str(self._file.path)
            session = onnxruntime.InferenceSession(source, options, providers=providers)
        except Exception as error:
            raise refused(self._file.path.name, "onnxruntime", error) from None
        if self._place == "cuda" and session.get_providers()[0] != _CUDA:
            raise DependencyError(
                "onnxruntime cannot load its CUDA libraries (cuDNN 9 and CUDA 13 are needed); run "
                "`pip install 'onnxruntime-gpu[cuda,cudnn]'`, or use --backend tensorrt"
            )
        return session

    def _settings(self) -> dict[str, str]:
        return {
            "device_id": str(self._device.gpu.index),
            "user_compute_stream": str(self._device.stream),
            "do_copy_in_default_stream": "1",
            "arena_extend_strategy": "kSameAsRequested",  # no more than is needed: TensorRT and the packer want memory too
            "cudnn_conv_algo_search": "HEURISTIC",  # every number of tiles is a new shape: none is searched for long
        }

    def _own_outputs(self, shape: tuple[int, ...]) -> None:
        """One run on as many tiles as there may be: outputs whose first size follows are given buffers of ours."""
        data = self._device.empty((self._most, *shape), np.dtype(_NUMPY[self._file.picture.dtype]))
        self._device.fill(data)
        try:
            answers = self.run(data)
            self._device.synchronize()
            fixed = {port.name for port in self._file.outputs if None not in port.shape[1:]}
            sizes = {name: (array.shape, array.dtype) for name, array in answers.items()}
        finally:
            self._lent.clear()
            self._device.release(data)
        for name, (sizes_out, dtype) in sizes.items():
            if (name in fixed or self._follows(name, shape)) and sizes_out and sizes_out[0] == self._most:
                self._fixed[name] = self._device.empty(sizes_out, dtype)

    def _follows(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a free output is a map over a free picture: its sizes follow from the input's, not from what is seen."""
        port = next(port for port in self._file.outputs if port.name == name)
        free_picture = None in self._file.picture.shape[1:]
        return free_picture and len(port.shape) == 4

    def _bind_input(self, name: str, array: DeviceArray) -> None:
        self._binding.bind_input(name, *self._where, array.dtype.type, array.shape, array.pointer)

    def _answers(self, tiles: int) -> dict[str, DeviceArray]:
        values = dict(zip(self._kinds, self._binding.get_outputs(), strict=True))
        self._lent = [value for name, value in values.items() if name not in self._fixed]  # alive until the next run
        answers = {}
        for name, value in values.items():
            if name in self._fixed:
                answers[name] = self._fixed[name][:tiles]
            else:
                kind = np.dtype(self._kinds[name] or np.float32)
                answers[name] = DeviceArray(value.data_ptr(), tuple(value.shape()), kind)
        return answers

    def _unbind(self) -> None:
        self._lent.clear()
        if self._binding is not None:
            self._binding.clear_binding_inputs()
            self._binding.clear_binding_outputs()
        for array in (*self._fixed.values(), *self._beside.values()):
            self._device.release(array)
        self._fixed, self._beside, self._shape = {}, {}, ()


_NUMPY = {"float32": "float32", "float16": "float16", "uint8": "uint8"}
