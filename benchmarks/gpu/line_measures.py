"""What the whole line is measured by on a GPU: motion, rate, precision, films, memory. As in `measures`, a dict a section."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measures import Bench, timed_ms
from scene import film, frames_on_gpu, motions

from streamdet.assemble import engines_folder, find_model
from streamdet.config import Config, ModelConfig, MotionConfig, TilesConfig, with_values
from streamdet.device import Device
from streamdet.gpu import gpu_detector, gpu_motion, gpu_packer
from streamdet.motion.model import MotionModel
from streamdet.motion.on_device import DeviceMotionModel
from streamdet.tiles.gpu_pictures import GpuPictures
from streamdet.tiles.motion_cuda import MotionPass
from streamdet.tiles.plan import plan_tiles

__all__ = ["end_to_end", "memory", "motion", "precision", "tile_rate"]


def motion(bench: Bench) -> dict[str, Any]:
    """The motion model on the GPU against the one on the CPU: the same regions in every frame, and what either takes."""
    with Device(bench.device) as device:
        frames, pictures = frames_on_gpu(device, bench.wh, 6), GpuPictures(device)
        eye = MotionPass(device, pictures)
        law, ours = MotionModel(MotionConfig()), DeviceMotionModel(MotionConfig(), eye)
        spent: dict[str, list[float]] = {"cpu": [], "gpu": []}
        differ = regions = 0
        for turn in range(bench.rounds(60)):
            frame = replace(frames[turn % 6], index=turn, pts_s=turn / 30)
            looks = {}
            for name, model in (("cpu", law), ("gpu", ours)):
                began = time.perf_counter()
                looks[name] = model(frame)
                spent[name].append((time.perf_counter() - began) * 1e3)
            mine, other = looks["gpu"], looks["cpu"]
            same = mine.state == other.state and np.array_equal(mine.regions, other.regions)
            differ += not (same and np.array_equal(mine.strength, other.strength))
            regions += len(other.regions)
        room = eye._room
        assert room is not None
        kernels = timed_ms(device, lambda: eye._launch(room, heals=0), bench.rounds(100))
    read = bench.wh[0] * bench.wh[1] * 3  # this frame, the one before, the background
    return {
        "frames": len(spent["gpu"]),
        "regions": regions,
        "differing_frames": differ,
        "ok": differ == 0,
        "ms": {name: statistics.median(each[2:]) for name, each in spent.items()},
        "kernels_ms": kernels,
        "bytes_read": read,
    }


def tile_rate(bench: Bench) -> dict[str, Any]:
    """Tiles a second of pack + network + reading back, over those of the bare network at the same batch, both replayed."""
    config = with_values(bench.config, {"gpu.batch": 32})
    path = find_model(bench.model)
    assert path is not None
    with gpu_detector(config, path, bench.device, engines_folder()) as detector:
        device, packer = detector.device, gpu_packer(detector)
        plan = bench.plan(detector.input)[:32]
        frames = frames_on_gpu(device, bench.wh, 6)
        looks = motions(frames)
        batch = packer(frames[0], looks[0], plan)
        detector(batch)
        runs: Any = detector._runs  # the bare network is not for users
        runs.run(batch.data)
        device.synchronize()
        bare = partial(runs.run, batch.data)
        if runs.recordable:
            with device.capture() as graph:
                runs.run(batch.data)
            bare = graph.launch

        def alone() -> None:
            bare()
            device.synchronize()

        def line(turn: int) -> None:
            index = turn % len(frames)
            detector(packer(frames[index], looks[index], plan))

        rounds = bench.rounds(300)
        seconds: dict[str, list[float]] = {"bare": [], "line": []}
        for turn in range(rounds + 10):  # alternating, so that the clocks of the card meet both alike
            for name, work in (("bare", alone), ("line", partial(line, turn))):
                began = time.perf_counter()
                work()
                if turn >= 10:
                    seconds[name].append(time.perf_counter() - began)
        rates = {name: len(plan) / statistics.median(spent) for name, spent in seconds.items()}
        return {
            "model": detector.describe(),
            "tiles": len(plan),
            "tiles_s": rates,
            "share": rates["line"] / rates["bare"],
            "graphs": {"recorded": detector.frame.recorded, "replayed": detector.frame.replayed},
        }


def end_to_end(bench: Bench) -> dict[str, Any]:
    """A 4K film from file to JSON lines: decoded by the GPU and by the CPU, all tiles and those with motion; per stage."""
    from streamdet.api import Run

    clip = film(bench.scratch / "uhd.mp4", bench.wh, 12 if bench.small else 120 if bench.quick else 300)
    record: dict[str, Any] = {}
    for decoder, look, motion in (
        ("cuda", "all", "gpu"), ("cuda", "motion", "gpu"), ("cuda", "motion", "cpu"), ("off", "all", "gpu"),
        ("off", "motion", "gpu"), ("off", "motion", "cpu"),
    ):  # fmt: skip
        values = {"source.hwaccel": decoder, "tiles.look": look, "gpu.motion": motion == "gpu"}
        config = with_values(bench.config, {**values, "sources": [str(clip)], "output.frames": os.devnull})
        run = Run(config)
        summary = run.finish()
        (stream,) = summary["streams"]
        record[f"decode {decoder}, look {look}, motion {motion}"] = {
            "fps": stream["fps"],
            "frames": stream["frames"],
            "tiles": stream["tiles"],
            "stages_ms": stream["stages_ms"],
        }
    return record


def memory(bench: Bench) -> dict[str, Any]:
    """GPU and host memory while frames go through: flat?"""
    wh = bench.wh if bench.small else (1920, 1080)
    count = 90 if bench.small else 1000 if bench.quick else 10_000
    path = find_model(bench.model)
    assert path is not None
    with gpu_detector(bench.config, path, bench.device, engines_folder()) as detector:
        device, packer = detector.device, gpu_packer(detector)
        frames = frames_on_gpu(device, wh, 6)
        rng = np.random.default_rng(0)
        motion_model = gpu_motion(bench.config, packer)
        assert motion_model is not None
        plan = plan_tiles(
            wh, input_wh=detector.input.wh, config=TilesConfig(tile=160 if bench.small else 640), stride=32
        )
        seen = []
        for turn in range(count):
            rows = np.sort(rng.permutation(len(plan))[: 1 + turn % len(plan)])
            frame = replace(frames[turn % 6], index=turn, pts_s=turn / 30)
            detector(packer(frame, motion_model(frame), plan[rows]))
            if turn in (max(count // 10, 3 * len(plan)), count // 2 + 2 * len(plan), count - 1):
                gc.collect()
                seen.append({"frame": turn + 1, "gpu_mib": device.allocated_bytes / 2**20, "host_mib": _resident_mib()})
    grown = {key: seen[-1][key] - seen[0][key] for key in ("gpu_mib", "host_mib")}
    return {"frames": count, "seen": seen, "grown": grown, "ok": grown["gpu_mib"] < 1 and grown["host_mib"] < 16}


def _resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def precision(bench: Bench) -> dict[str, Any]:
    """Objects of the demo scene: the GPU in fp16 and in fp32 against the model on the CPU."""
    from streamdet.detectors.network import NetworkDetector
    from streamdet.detectors.spec import read_model
    from streamdet.precision import agreement, packed

    path = find_model(bench.model)
    assert path is not None
    scene = with_values(
        Config(), {"source.demo_size": "480x272" if bench.small else "1920x1080", "source.demo_seconds": 4}
    )
    record: dict[str, Any] = {}
    for kind in ("fp32", "fp16"):
        config = with_values(bench.config, {"gpu.precision": kind})
        with (
            NetworkDetector(ModelConfig(backend="onnxruntime", device="cpu"), read_model(path)) as model,
            gpu_detector(config, path, bench.device, engines_folder()) as copy,
        ):
            batches = packed(
                ["demo"], model.input, scene, every=6, frames=24 if bench.small else 60 if bench.quick else 120
            )
            record[kind] = agreement(model, copy, batches, scene).to_dict()
    return record
