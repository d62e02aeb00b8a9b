"""What `streamdet info` prints: what this machine can do, and why not."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from streamdet.errors import StartupError, StreamdetError

__all__ = ["machine_report"]

_PACKAGES = (
    ("numpy", ""),
    ("opencv-python", ""),
    ("av", ""),
    ("onnxruntime", ""),
    ("openvino", "optional, often faster on Intel and AVX-512 machines: pip install 'streamdet[openvino]'"),
)
_GPU_PACKAGES = (
    ("pycuda", "packs tiles on the GPU: pip install 'streamdet[cuda]'"),
    ("tensorrt", "runs models on the GPU, fastest: pip install 'streamdet[tensorrt]'"),
    ("tensorrt-rtx", "the same for GeForce RTX, smaller: pip install 'streamdet[tensorrt-rtx]'"),
    ("onnxruntime-gpu", "runs models on the GPU: pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
)


def machine_report() -> str:
    """Versions, processor, which backends can run and why the others cannot: some lines for people."""
    version, system = importlib.metadata.version("streamdet"), platform.platform()
    lines = [f"streamdet {version}, Python {platform.python_version()}, {system}"]
    lines.append(f"processor: {os.cpu_count()} cores, {platform.machine()}")
    lines += [_version_of(package, remedy, 14) for package, remedy in _PACKAGES]
    lines += _arithmetic_report()
    return "\n".join([*lines, *_gpu_report()])


def _version_of(package: str, remedy: str, width: int) -> str:
    try:
        said = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        said = f"not installed{f' ({remedy})' if remedy else ''}"
    return f"{package:<{width}} {said}"


def _arithmetic_report() -> list[str]:
    """In which numbers networks are run on this processor."""
    from streamdet.detectors.openvino_backend import arithmetic_here, installed

    if not installed():
        return []
    try:
        bf16 = arithmetic_here() == "bf16"
    except StreamdetError as error:
        return [f"{'precision':<14} {error}"]
    if not bf16:
        return [f"{'precision':<14} fp32; this processor does not multiply bf16"]
    return [
        f"{'precision':<14} openvino: bf16 for networks whose boxes stay where they are, else fp32 (always: --precision fp32)"
    ]


def _gpu_report() -> list[str]:
    """The GPUs, what of our GPU path is installed, and the exact reason for what cannot run."""
    from streamdet import fatbin
    from streamdet.gpu import why_cpu
    from streamdet.libcuda import NoGpu, probe

    lines, index, count = [], 0, 1
    while index < count:
        gpu = probe(index)
        if isinstance(gpu, NoGpu):
            lines.append(f"{'GPU':<14} not used: {gpu.reason}")
        else:
            count = gpu.count
            lines.append(f"{'GPU':<14} {gpu.describe()}")
        index += 1
    lines += [_version_of(package, remedy, 15) for package, remedy in _GPU_PACKAGES]
    for name in fatbin.KERNELS:
        try:
            said = f"{len(fatbin.read_fatbin(name)) // 1024} kB, for GPUs from Turing on"
        except StartupError as error:
            said = str(error)
        lines.append(f"{'GPU kernels':<14} {name}: {said}")
    lines.append(
        f"{'on a GPU':<14} decoding, motion, packing, network, reading of its answers; on the CPU all the same: packing"
    )
    lines.append(f"{'':<14} of stills and of --upscale, motion while the camera moves, merging, tracking, drawing")
    reason = why_cpu()
    lines.append(f"{'--device auto':<14} {'uses cuda:0' if reason is None else f'uses the CPU: {reason}'}")
    return lines
