"""A frame's work recorded by real driver calls (of the double): packed, run and read back as without recording.

The network is played: a copy on the stream, which a graph records; and, for whole runs, onnxruntime on the memory of the double.
"""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Driver
from kernel_battery import SIX
from test_packer_on_double import WH, frame_of, scene

import streamdet.gpu
from streamdet.cli import main
from streamdet.config import MotionConfig, TilesConfig
from streamdet.detectors.onnxruntime_cuda import OnnxRuntimeCudaBackend
from streamdet.device import Device
from streamdet.frame_graph import FrameGraph
from streamdet.inputspec import InputSpec
from streamdet.motion.model import MotionModel
from streamdet.motion.on_device import DeviceMotionModel
from streamdet.tiles.motion_cuda import MotionPass
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.pack_graph import GraphPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import DeviceArray
from tests.dot_network import dots, save_dot_network


def whole(batches: list[Any]) -> DeviceArray:
    first = batches[0].data
    return DeviceArray(first.pointer, (sum(len(b.data) for b in batches), *first.shape[1:]), first.dtype)


@pytest.mark.parametrize("streams", [1, 2])
def test_what_is_replayed_is_what_the_cpu_packs(driver: Driver, streams: int) -> None:
    spec = InputSpec(wh=(64, 64), channels=SIX, std=(255.0,), dtype="float16")
    plan = plan_tiles(WH, input_wh=spec.wh, config=TilesConfig(tile=64))[:5]
    with Device() as device:
        frame = FrameGraph(device, room=16)
        gpu = [GraphPacker(spec, frame, device) for _ in range(streams)]
        cpu = [CpuPacker(spec) for _ in range(streams)]
        models = [MotionModel(MotionConfig()) for _ in range(streams)]
        answer = device.empty((5 * streams, 6, 64, 64), np.float16)
        host = device.pinned(answer.shape, answer.dtype)
        for turn in range(6):
            frames = [frame_of(scene(turn, seed=3 + number), turn) for number in range(streams)]
            looks = [model(each) for model, each in zip(models, frames)]
            batches = [packer(*given, plan) for packer, given in zip(gpu, zip(frames, looks))]
            data = whole(batches)
            assert all(b.data.pointer == data.pointer + n * b.data.nbytes for n, b in enumerate(batches))

            def network(data: DeviceArray = data) -> str:
                device.copy(data, answer)
                device.download(answer, host)
                return "as it was recorded"

            assert frame.run((data.pointer, data.shape), network) == "as it was recorded"
            device.synchronize()
            want = np.concatenate([np.array(p(*given, plan).data) for p, given in zip(cpu, zip(frames, looks))])
            assert np.abs(host.astype(np.float32) - want.astype(np.float32)).max() < 8e-3
        assert frame.replayed >= 3
        assert frame.recorded >= 1
        frame.close()


def test_a_stream_that_ends_gives_its_memory_back(driver: Driver) -> None:
    spec = InputSpec(wh=(64, 64), channels=SIX, std=(255.0,), dtype="float16")
    plan = plan_tiles(WH, input_wh=spec.wh, config=TilesConfig(tile=64))[:5]
    with Device() as device:
        frame, held = FrameGraph(device, room=16), []
        for stream in range(4):
            packer = GraphPacker(spec, frame, device)
            model = DeviceMotionModel(MotionConfig(), packer.scene(), frame.here)
            for turn in range(5):
                given = frame_of(scene(turn, seed=stream), turn)
                batch = packer(given, model(given), plan)
                frame.run((batch.data.pointer, batch.data.shape), lambda: None)
            done = threading.Thread(target=packer.close)
            done.start()
            done.join()
            device.synchronize()
            held.append((device.allocated_bytes, driver.live()["pinned"]))
        assert len(set(held[1:])) == 1, held  # the second began before the first was gone
        frame.close()
        device.trim()
        assert device.allocated_bytes == 0
        assert "pinned" not in driver.live()
    gc.collect()


class Waiting(OnnxRuntimeCudaBackend):
    """onnxruntime works at once; the double's stream, late: they meet here."""

    def run(self, data: DeviceArray) -> Any:
        self._device.synchronize()
        return super().run(data)


def run(out: Path, *words: str) -> list[dict[str, Any]]:
    scene = ["--set", "source.demo_size=480x272", "--set", "source.demo_seconds=0.6", "--quiet", "--no-video"]
    assert main(["run", "demo", "--model", "tiny", "--output", str(out), *scene, *words]) == 0
    return [json.loads(line) for line in (out / "demo.frames.jsonl").read_bytes().splitlines()]


def test_a_still_is_packed_on_the_cpu_and_detected_on_the_gpu(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamdet.detectors.onnxruntime_cuda as door

    monkeypatch.setattr(door, "OnnxRuntimeCudaBackend", lambda *a, **k: Waiting(*a, **k, place="cpu"))
    monkeypatch.setattr(streamdet.gpu, "_runtime", lambda *_: "onnxruntime")
    model = save_dot_network(tmp_path / "dots.onnx")
    places = [(100 + 90 * k, 60 + 70 * k, ("red", "blue")[k % 2], 0.5 + 0.05 * k) for k in range(9)]
    cv2.imwrite(str(tmp_path / "still.png"), dots((900, 700), *places))
    gpu = ["--device", "cuda:0", "--set", f"gpu.plans={tmp_path / 'plans'}", "--set", "gpu.precision=fp32"]
    found = []
    for words in (gpu, ["--device", "cpu", "--backend", "onnxruntime"]):
        out = tmp_path / words[1].replace(":", "")
        told = [
            "run",
            str(tmp_path / "still.png"),
            "--model",
            str(model),
            "--quiet",
            "--conf",
            "0.1",
            "--output",
            str(out),
        ]
        assert main([*told, *words]) == 0
        found.append(json.loads((out / "still.frames.jsonl").read_text().splitlines()[0]))
    ours, theirs = found
    assert ours["tiles"] == theirs["tiles"]
    assert len(ours["objects"]) == len(theirs["objects"]) >= 9
    for a, b in zip(ours["objects"], theirs["objects"], strict=True):
        np.testing.assert_allclose(a["bbox"], b["bbox"], atol=0.3)
        assert abs(a["score"] - b["score"]) < 0.02
    gc.collect()


@pytest.mark.parametrize("look", ["auto", "motion"])
@pytest.mark.parametrize("motion", [True, False], ids=["motion on the gpu", "motion on the cpu"])
def test_a_run_on_the_gpu_writes_what_the_cpu_writes(
    look: str, motion: bool, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamdet.detectors.onnxruntime_cuda as door

    monkeypatch.setattr(door, "OnnxRuntimeCudaBackend", lambda *a, **k: Waiting(*a, **k, place="cpu"))
    monkeypatch.setattr(streamdet.gpu, "_runtime", lambda *_: "onnxruntime")
    words = ["--device", "cuda:0", "--set", f"gpu.plans={tmp_path / 'plans'}", "--set", "gpu.precision=fp32"]
    looks: list[str] = []
    see = MotionPass.see
    monkeypatch.setattr(MotionPass, "see", lambda self, *a, **k: looks.append("") or see(self, *a, **k))
    words += ["--set", f"gpu.motion={str(motion).lower()}", "--look", look]
    ours = run(tmp_path / "gpu", *words, "--set", "source.hwaccel=off")
    assert bool(looks) == motion
    theirs = run(tmp_path / "cpu", "--device", "cpu", "--backend", "onnxruntime", "--look", look)
    assert len(ours) == len(theirs) > 10
    assert sum(len(frame["objects"]) for frame in theirs) > 10
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.get("tiles") == other.get("tiles")
        assert [thing["track"] for thing in mine["objects"]] == [thing["track"] for thing in other["objects"]]
        for a, b in zip(mine["objects"], other["objects"], strict=True):
            np.testing.assert_allclose(a["bbox"], b["bbox"], atol=0.3)
            assert abs(a["score"] - b["score"]) < 0.02
    assert "NVIDIA Double" in json.loads((tmp_path / "gpu/summary.json").read_text())["model"]
