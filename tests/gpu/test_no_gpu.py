"""A machine without a GPU: one sentence, exit code 3, nothing heavy touched. And the other ways a driver can be of no use."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamdet.errors import DependencyError, UsageError
from streamdet.libcuda import Gpu, NoGpu, device_index, probe


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamdet", *arguments], capture_output=True, text=True, timeout=110, check=False
    )


def real_gpu() -> bool:
    """Whether this very machine has one: then there is nothing to refuse."""
    return Path("/proc/driver/nvidia/version").exists()


@pytest.mark.skipif(real_gpu(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda:0", "cuda", "cuda:3"])
def test_a_run_on_a_gpu_that_is_not_there_is_refused_in_one_sentence(device: str, tmp_path: Path) -> None:
    done = run("run", "demo", "--device", device, "--model", "auto", "--output", str(tmp_path / "out"))
    assert done.returncode == 3
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == 1
    assert f"device '{device}' cannot be used: this machine has no NVIDIA driver" in said[0]
    assert said[0].endswith("use --device cpu or auto")
    assert done.stdout == ""


@pytest.mark.parametrize(("asked", "used"), [("auto", "fp16"), ("fp32", "fp32")])
def test_precision_fp32_holds_for_gpus_too(
    asked: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamdet.gpu
    from streamdet.config import Config, with_values
    from streamdet.detectors import device_detector
    from tests.dot_network import save_dot_network

    given: dict[str, str] = {}
    monkeypatch.setattr(streamdet.gpu, "_runtime", lambda *_: "onnxruntime")
    monkeypatch.setattr(
        device_detector, "DeviceDetector", lambda *_, gpu, **__: given.setdefault("precision", gpu.precision)
    )
    config = with_values(Config(), {"model.precision": asked})
    streamdet.gpu.gpu_detector(config, save_dot_network(tmp_path / "m.onnx"), "cuda:0", tmp_path)
    assert given == {"precision": used}


def test_a_device_nobody_knows_is_a_mistake_of_the_user() -> None:
    done = run("run", "demo", "--device", "tpu", "--model", "auto")
    assert done.returncode == 2
    assert "device 'tpu' is none we know" in done.stderr


@pytest.mark.skipif(real_gpu(), reason="this machine has an NVIDIA driver")
def test_info_says_why_not() -> None:
    done = run("info")
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("GPU "))
    assert "not used: this machine has no NVIDIA driver (libcuda.so.1 is not there)" in line


@pytest.mark.parametrize(
    ("word", "index"), [("cuda", 0), ("cuda:0", 0), ("CUDA:12", 12), ("gpu:1", 1), (" cuda:2 ", 2)]
)
def test_names_of_devices(word: str, index: int) -> None:
    assert device_index(word) == index


@pytest.mark.parametrize("word", ["", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "cuda0"])
def test_names_that_are_none(word: str) -> None:
    with pytest.raises(UsageError, match="is none we know"):
        device_index(word)


def test_a_driver_library_that_cannot_be_loaded_is_told_apart(tmp_path: Path) -> None:
    broken = tmp_path / "libcuda.so.1"
    broken.write_bytes(b"\x7fELF nothing")
    found = probe(open_library=lambda: ctypes.CDLL(str(broken)))
    assert isinstance(found, NoGpu)
    assert "cannot be loaded" in found.reason
    assert "libcuda.so.1" in found.reason


@pytest.mark.parametrize(
    ("capability", "installed", "words"),
    [
        ((9, 0), ("tensorrt_rtx",), "TensorRT-RTX does not know this GPU, and nothing else"),
        ((9, 0), (), "neither TensorRT nor the GPU build of onnxruntime is installed"),
    ],
)
def test_what_is_missing_beside_the_gpu_is_told(
    capability: tuple[int, int], installed: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamdet.detectors.onnxruntime_cuda as second
    import streamdet.detectors.tensorrt_import as first
    import streamdet.gpu as gpu

    card = Gpu(0, "NVIDIA H100", capability, (13, 0), "580.1", 1 << 36, 132)
    monkeypatch.setattr(gpu, "probe", lambda *_: card)
    monkeypatch.setattr(first, "installed", lambda: installed)
    monkeypatch.setattr(second, "why_not", lambda: "not there")
    with pytest.raises(DependencyError, match=words):
        gpu._runtime("auto")
    assert words in str(gpu._missing("auto")) or "pycuda is missing" in str(gpu._missing("auto"))


DRIVER = r"""
extern "C" {
#include <string.h>
int cuInit(unsigned) { return INIT; }
int cuGetErrorName(int code, const char** text) { *text = code == 100 ? "CUDA_ERROR_NO_DEVICE" : 0; return code != 100; }
int cuDeviceGetCount(int* n) { *n = COUNT; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetName(char* name, int, int) { strcpy(name, "NVIDIA Test"); return 0; }
int cuDeviceTotalMem_v2(unsigned long* bytes, int) { *bytes = 8ul << 30; return 0; }
int cuDeviceGetAttribute(int* value, int what, int) { *value = what == 75 ? CAP / 10 : what == 76 ? CAP % 10 : 40; return READ; }
int cuDriverGetVersion(int* version) { *version = CUDA; return 0; }
}
"""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"INIT": 100}, "sees no GPU (cuInit: CUDA_ERROR_NO_DEVICE)"),
        ({"INIT": 803}, "of different versions: reboot, or install one driver (cuInit: CUDA error 803)"),
        ({"INIT": 34}, "a stub for linking"),
        ({"INIT": 5}, "refuses to start (cuInit: CUDA error 5)"),
        ({"COUNT": 0}, "no GPU number 0: it sees no GPU"),
        ({"READ": 999}, "does not answer (cuDeviceGetAttribute: CUDA error 999)"),
        ({"CAP": 61}, "NVIDIA Test has compute capability 6.1 and 7.5 (Turing) or newer is needed"),
        ({"CUDA": 12080}, "speaks CUDA 12.8 and 13.0 is needed: install driver 580 or newer"),
        ({}, ""),
    ],
    ids=lambda value: next(iter(value), "fine") if isinstance(value, dict) else "",
)
def test_every_way_a_driver_is_of_no_use(values: dict[str, int], words: str, tmp_path: Path) -> None:
    """Real shared libraries called through the real ctypes code."""
    defines = {"INIT": 0, "COUNT": 1, "READ": 0, "CAP": 90, "CUDA": 13000} | values
    source = tmp_path / "driver.cpp"
    source.write_text(DRIVER)
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["g++", "-w", "-shared", "-fPIC", *flags, "-o", str(library), str(source)], check=True, timeout=100)
    found = probe(open_library=lambda: ctypes.CDLL(str(library), mode=os.RTLD_LOCAL))
    if words:
        assert isinstance(found, NoGpu)
        assert words in found.reason
    else:
        assert isinstance(found, Gpu)
        assert found.describe().startswith("cuda:0 NVIDIA Test, 8 GB, compute capability 9.0, ")
        assert found.describe().endswith("CUDA 13.0")
        missing = probe(3, open_library=lambda: ctypes.CDLL(str(library), mode=os.RTLD_LOCAL))
        assert isinstance(missing, NoGpu)
        assert "no GPU number 3: it has cuda:0" in missing.reason
