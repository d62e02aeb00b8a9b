"""`streamdet run --device cuda:0` from end to end on a GPU that is played by the host: what it writes is what the CPU writes.

Real: choosing, preparing the file, binding addresses, frames recorded and replayed, reading back, everything after it. Tiles are
packed on the host here; with the GPU's packer see tests/gpu/on_double.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamdet.assemble
import streamdet.device
import streamdet.gpu
import streamdet.looking
from streamdet.cli import main

sys.path.append(str(Path(__file__).parents[1] / "detectors"))
from host_device import HostDevice, PlayedTensorRt

from streamdet.detectors import compact_cuda, onnxruntime_cuda, tensorrt_backend
from streamdet.detectors.tensorrt_plans import Key
from streamdet.tiles.pack_cpu import CpuPacker

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
SCENE = ["--set", "source.demo_size=640x360", "--set", "source.demo_seconds=0.8", "--quiet", "--no-video"]


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def played(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[HostDevice]:
    devices: list[HostDevice] = []

    def opened(name: str) -> HostDevice:
        devices.append(HostDevice())
        return devices[-1]

    def imported() -> PlayedTensorRt:
        return PlayedTensorRt(devices[-1])

    def compiled(trt: Any, file: Any, profile: Any, **_: Any) -> tuple[bytes, Key]:
        return PlayedTensorRt.HEADER + file.path.read_bytes(), Key(*"abcdefg")

    on_host = functools.partial(onnxruntime_cuda.OnnxRuntimeCudaBackend, place="cpu")
    monkeypatch.setattr(streamdet.device, "Device", opened)
    monkeypatch.setattr(streamdet.looking, "_make_packer", lambda config, detector, spec, wh: CpuPacker(spec))
    monkeypatch.setattr(streamdet.gpu, "_device_of", lambda *_: "cuda:0")
    monkeypatch.setattr(streamdet.gpu, "_runtime", lambda *_: request.param)
    monkeypatch.setattr(onnxruntime_cuda, "OnnxRuntimeCudaBackend", on_host)
    monkeypatch.setattr(tensorrt_backend, "import_trt", imported)
    monkeypatch.setattr(tensorrt_backend, "compiled", compiled)
    monkeypatch.setattr(tensorrt_backend, "logger_of", lambda trt: None)
    monkeypatch.setattr(
        compact_cuda, "kernel_of", lambda layout: None
    )  # no kernels run here: answers are read on the host
    return devices


def run(out: Path, *words: str) -> list[dict[str, Any]]:
    assert main(["run", "demo", "--model", "tiny", "--output", str(out), *SCENE, *words]) == 0
    return [json.loads(line) for line in (out / "demo.frames.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_is_written_is_what_the_cpu_writes(
    played: list[HostDevice], tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--set", f"gpu.plans={tmp_path / 'plans'}", "--set", f"gpu.precision={precision}"]
    ours = run(tmp_path / "gpu", *words)
    (device,) = played
    assert device.waits > len(ours) / 2
    assert not device.entered
    monkeypatch.undo()
    theirs = run(tmp_path / "cpu", "--device", "cpu", "--backend", "onnxruntime")
    assert len(ours) == len(theirs) > 10
    assert sum(len(frame["objects"]) for frame in theirs) > 20
    off = 1e-3 if precision == "fp32" else 0.5
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["tiles"] == other["tiles"]
        assert [thing["track"] for thing in mine["objects"]] == [thing["track"] for thing in other["objects"]]
        for a, b in zip(mine["objects"], other["objects"], strict=True):
            np.testing.assert_allclose(a["bbox"], b["bbox"], atol=off + 0.01)
            assert abs(a["score"] - b["score"]) < 0.02
    summary = json.loads((tmp_path / "gpu/summary.json").read_text())
    assert "on Host 1" in summary["model"]


def test_a_detector_that_fails_to_start_leaves_the_gpu(
    played: list[HostDevice], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", f"gpu.plans={tmp_path / 'plans'}", "--set", "gpu.precision=int8"]
    assert main(["run", "demo", "--model", "tiny", "--output", str(tmp_path / "out"), *SCENE, *words]) == 3
    assert "has to be calibrated once" in capsys.readouterr().err
    assert not played[0].entered
