"""The NVIDIA driver by ctypes: is there a GPU we can use, and if not, exactly why; and the graph calls pycuda lacks.

Every NVIDIA library must stay untouched until :func:`probe` has said yes: without a driver they fail in six different ways,
one of them a segfault. Asking costs a millisecond and creates no context.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdet.errors import StartupError, UsageError

__all__ = [
    "MIN_CAPABILITY",
    "MIN_CUDA",
    "DriverError",
    "Gpu",
    "NoGpu",
    "call",
    "device_index",
    "load",
    "probe",
    "require",
]

LIBRARY = "libcuda.so.1"
MIN_CAPABILITY = (7, 5)  # Turing: the oldest our kernels, CUDA 13 and TensorRT know
MIN_CUDA = (13, 0)  # what the kernels in the wheel were built with: driver 580 or newer
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16  # CU_DEVICE_ATTRIBUTE_*
# what cuInit answers when there is nothing to use, in words (cuda.h, CUresult)
_WHY = {
    34: "libcuda.so.1 is a stub for linking, not a driver",
    100: "an NVIDIA driver is installed but it sees no GPU",
    101: "the GPU is not one CUDA can use",
    802: "the GPU is not ready: its fabric manager is not running or still starts",
    803: "the NVIDIA kernel module and libcuda.so.1 are of different versions: reboot, or install one driver",
    804: "the NVIDIA kernel module is too old for this libcuda.so.1: install a newer driver",
    999: "the NVIDIA driver cannot be started: is its kernel module loaded and are /dev/nvidia* there and readable?",
}


class DriverError(Exception):
    """A driver call failed; says which, and the driver's name of the error."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU we can use. `capability`: (major, minor). `cuda`: newest CUDA the driver speaks. `driver`: its version or ""."""

    index: int
    name: str
    capability: tuple[int, int]
    cuda: tuple[int, int]
    driver: str
    memory_bytes: int
    multiprocessors: int
    count: int = 1

    def describe(self) -> str:
        """One line: name, memory, capability, driver."""
        major, minor = self.capability
        driver = f"driver {self.driver}, " if self.driver else ""
        return (
            f"cuda:{self.index} {self.name}, {self.memory_bytes / 2**30:.0f} GB, compute capability {major}.{minor}, "
            f"{driver}CUDA {self.cuda[0]}.{self.cuda[1]}"
        )


@dataclass(frozen=True, slots=True)
class NoGpu:
    """Why there is no GPU to use, as the end of a sentence."""

    reason: str


def load(library: str = LIBRARY) -> ctypes.CDLL:
    """The driver's library. Raises OSError."""
    return ctypes.CDLL(library)


def call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a driver function. Raises DriverError with the driver's own name of the error."""
    code = int(getattr(driver, name)(*arguments))
    if code:
        raise DriverError(f"{name}: {error_name(driver, code)}")


def error_name(driver: ctypes.CDLL, code: int) -> str:
    """``CUDA_ERROR_...`` of a CUresult."""
    text = ctypes.c_char_p()
    if driver.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value:
        return text.value.decode("ascii", "replace")
    return f"CUDA error {code}"


def device_index(device: str) -> int:
    """The number in ``cuda`` or ``cuda:N``. Raises UsageError."""
    match = re.fullmatch(r"(?:cuda|gpu)(?::(\d{1,3}))?", device.strip().lower())
    if match is None:
        raise UsageError(f"device '{device}' is none we know; use auto, cpu, cuda or cuda:N")
    return int(match[1] or 0)


def require(device: str) -> Gpu:
    """The GPU called `device` (``cuda:0``). Raises StartupError with the exact reason, UsageError for another word."""
    found = probe(device_index(device))
    if isinstance(found, NoGpu):
        raise StartupError(f"device '{device}' cannot be used: {found.reason}; use --device cpu or auto")
    return found


def probe(index: int = 0, *, open_library: Callable[[], ctypes.CDLL] = load) -> Gpu | NoGpu:
    """GPU number `index`, or why it cannot be used. Never raises, loads nothing but libcuda, makes no context."""
    try:
        driver = open_library()
    except OSError as error:
        if "cannot open shared object" in str(error) and LIBRARY in str(error):
            return NoGpu(f"this machine has no NVIDIA driver ({LIBRARY} is not there)")
        return NoGpu(f"the NVIDIA driver library cannot be loaded ({error})")
    code = int(driver.cuInit(0))
    if code:
        why = _WHY.get(code, "the NVIDIA driver refuses to start")
        return NoGpu(f"{why} (cuInit: {error_name(driver, code)})")
    try:
        return _read(driver, index)
    except DriverError as error:
        return NoGpu(f"the NVIDIA driver does not answer ({error})")


def _read(driver: ctypes.CDLL, index: int) -> Gpu | NoGpu:
    count, handle, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if not 0 <= index < count.value:
        have = (
            "it sees no GPU"
            if not count.value
            else f"it has cuda:0{f' to cuda:{count.value - 1}' if count.value > 1 else ''}"
        )
        return NoGpu(f"this machine has no GPU number {index}: {have}")
    call(driver, "cuDeviceGet", ctypes.byref(handle), ctypes.c_int(index))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    call(driver, "cuDeviceGetName", name, ctypes.c_int(256), handle)
    call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    call(driver, "cuDriverGetVersion", ctypes.byref(version))

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        call(driver, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), handle)
        return value.value

    gpu = Gpu(
        index=index,
        name=name.value.decode("utf-8", "replace"),
        capability=(attribute(_MAJOR), attribute(_MINOR)),
        cuda=(version.value // 1000, version.value % 1000 // 10),
        driver=_driver_version(),
        memory_bytes=memory.value,
        multiprocessors=attribute(_MULTIPROCESSORS),
        count=count.value,
    )
    return _usable(gpu)


def _usable(gpu: Gpu) -> Gpu | NoGpu:
    if gpu.capability < MIN_CAPABILITY:
        have, want = (".".join(map(str, pair)) for pair in (gpu.capability, MIN_CAPABILITY))
        return NoGpu(f"{gpu.name} has compute capability {have} and {want} (Turing) or newer is needed")
    if gpu.cuda < MIN_CUDA:
        have, want = (".".join(map(str, pair)) for pair in (gpu.cuda, MIN_CUDA))
        return NoGpu(f"the NVIDIA driver speaks CUDA {have} and {want} is needed: install driver 580 or newer")
    return gpu


def _driver_version() -> str:
    """As ``nvidia-smi`` shows it; "" where the kernel module does not say (containers, WSL)."""
    try:
        match = re.search(r"\b(\d{3}(?:\.\d+){1,2})\b", _DRIVER_FILE.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return match[1] if match else ""
