"""Whether a network runs on a GPU, with what, and the parts for it. `assemble` asks here; nothing heavy is loaded on a CPU.

``--device auto`` uses a GPU where all is there for it, and says with -v what is missing where it is not; ``--device cuda:N``
insists.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from streamdet.config import Config
from streamdet.errors import DependencyError, StartupError, UsageError
from streamdet.libcuda import NoGpu, device_index, probe, require

if TYPE_CHECKING:
    from streamdet.detectors.device_backend import DeviceBackend
    from streamdet.detectors.device_detector import DeviceDetector
    from streamdet.detectors.spec import ModelFile
    from streamdet.device import Device
    from streamdet.protocols import MotionModel, Packer

__all__ = ["device_of", "gpu_detector", "gpu_freeing", "gpu_motion", "gpu_packer", "why_cpu"]

_LOG = logging.getLogger(__name__)
Runtime = Literal["tensorrt", "onnxruntime"]
_NOT_RTX = {(9, 0), (10, 0), (10, 3), (11, 0)}  # GPUs of data centres and cars: not in the list of TensorRT-RTX 1.7
_PYCUDA = "pycuda is missing, which drives the GPU; run `pip install 'streamdet[cuda]'`"
_RTX_ONLY = (
    "TensorRT-RTX does not know this GPU, and nothing else that runs networks on it is installed; run "
    "`pip install 'streamdet[tensorrt]'`, or `pip uninstall -y onnxruntime && pip install onnxruntime-gpu`"
)
_RUNTIMES = (
    "neither TensorRT nor the GPU build of onnxruntime is installed; run `pip install 'streamdet[tensorrt]'`, or "
    "`pip uninstall -y onnxruntime && pip install onnxruntime-gpu`"
)


def device_of(config: Config) -> str:
    """``cpu``, or the GPU the network runs on. Raises UsageError and StartupError for what was asked for and cannot be."""
    model = config.model
    return _device_of(model.device, model.backend, model.name == "motion")


@functools.cache
def _device_of(device: str, backend: str, motion: bool) -> str:
    word = device.strip().lower()
    if word == "cpu" or (motion and word == "auto"):
        if backend == "tensorrt":
            raise UsageError("--backend tensorrt runs on a GPU, not with --device cpu; leave one of the two away")
        return "cpu"
    if word == "auto" and backend == "openvino":
        return "cpu"
    if word == "auto" and backend != "tensorrt":
        missing = _missing(backend)
        if missing is None:
            return "cuda:0"
        _LOG.info("the network runs on the CPU: %s", missing)
        return "cpu"
    index = 0 if word == "auto" else device_index(device)
    if motion:
        raise StartupError(f"device '{device}': `motion` runs on the CPU; use --device cpu or auto")
    if backend == "openvino":
        raise UsageError(f"--backend openvino runs on the CPU, not on {device}; use --backend tensorrt or onnxruntime")
    if word == "auto":
        found = probe(0)
        if isinstance(found, NoGpu):
            raise StartupError(
                f"--backend tensorrt needs a GPU, and {found.reason}; leave --backend away to use the CPU"
            )
    else:
        require(device)
    return f"cuda:{index}"


def why_cpu() -> str | None:
    """What keeps ``--device auto`` on the CPU of this machine; None if it uses a GPU."""
    return _missing("auto")


def _missing(backend: str) -> str | None:
    """What `auto` lacks for a GPU; None if nothing."""
    found = probe(0)
    if isinstance(found, NoGpu):
        return found.reason
    if importlib.util.find_spec("pycuda") is None:
        return f"there is a GPU, but {_PYCUDA}"
    try:
        _runtime(backend)
    except DependencyError as error:
        return f"there is a GPU, but {error}"
    return None


def _runtime(backend: str, index: int = 0) -> Runtime:
    """TensorRT if it is there for GPU `index`, else onnxruntime's CUDA. Raises DependencyError."""
    from streamdet.detectors.tensorrt_import import installed

    flavours = installed()
    if backend == "tensorrt" or (backend == "auto" and _serves(flavours, index)):
        return "tensorrt"
    from streamdet.detectors.onnxruntime_cuda import why_not

    reason = why_not()
    if reason is None:
        return "onnxruntime"
    raise DependencyError(reason if backend != "auto" else _RTX_ONLY if flavours else _RUNTIMES)


def _serves(flavours: tuple[str, ...], index: int) -> bool:
    if flavours != ("tensorrt_rtx",):
        return bool(flavours)
    found = probe(index)
    known = isinstance(found, NoGpu) or found.capability not in _NOT_RTX
    if not known:
        _LOG.info("TensorRT-RTX does not know this GPU; `tensorrt` does")
    return known


def gpu_detector(config: Config, path: Path, device: str, engines: Path) -> DeviceDetector:
    """The detector for the ONNX file at `path` on `device`, not entered yet. Raises DependencyError."""
    from streamdet.detectors.compact_cuda import reader_for
    from streamdet.detectors.device_detector import DeviceDetector
    from streamdet.detectors.tensorrt_plans import PlanCache, plan_folder
    from streamdet.device import Device

    runtime = _runtime(config.model.backend, device_index(device))
    folder = plan_folder(config.gpu.plans, engines)
    gpu = config.gpu
    if config.model.precision == "fp32":
        gpu = msgspec.structs.replace(gpu, precision="fp32")

    def make(file: ModelFile, opened: Device) -> DeviceBackend:
        if runtime == "tensorrt":
            from streamdet.detectors.tensorrt_backend import TensorRtBackend

            return TensorRtBackend(file, name=path.name, device=opened, config=gpu, cache=PlanCache(folder))
        from streamdet.detectors.onnxruntime_cuda import OnnxRuntimeCudaBackend

        return OnnxRuntimeCudaBackend(file, device=opened, config=gpu)

    return DeviceDetector(
        config.model,
        path,
        device=Device(device),
        gpu=gpu,
        folder=folder,
        make_backend=make,
        make_reader=reader_for,
    )


def gpu_packer(detector: DeviceDetector) -> Packer:
    """A packer for one stream, whose batches `detector` (entered) is given."""
    from streamdet.tiles.pack_graph import GraphPacker

    return GraphPacker(detector.input, detector.frame, detector.device)


def gpu_motion(config: Config, packer: Packer) -> MotionModel | None:
    """The motion model for the stream of `packer`, on the packer's GPU; None where that works on the CPU."""
    from streamdet.tiles.pack_graph import GraphPacker

    if not isinstance(packer, GraphPacker) or not config.gpu.motion:
        return None
    from streamdet.motion.on_device import DeviceMotionModel

    return DeviceMotionModel(config.motion, packer.scene(), packer.frame.here)


def gpu_freeing(packer: Packer) -> Callable[[], None] | None:
    """What gives back all that the stream of `packer` holds on a GPU, from whatever thread; None if nothing."""
    from streamdet.tiles.pack_graph import GraphPacker

    return packer.close if isinstance(packer, GraphPacker) else None
