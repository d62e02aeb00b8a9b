"""What is measured on a GPU, one function a section: each takes a Bench and returns a plain dict for the record."""

from __future__ import annotations

import gc
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from composed import composed
from kernel_checks import battery
from scene import film, frames_on_gpu, motions, nv12_pictures

from streamdet.assemble import engines_folder, find_model
from streamdet.config import Config, ModelConfig, TilesConfig, with_values
from streamdet.device import Device
from streamdet.gpu import gpu_detector, gpu_packer
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import TilePlan

__all__ = ["SECTIONS", "Bench"]

UHD = (3840, 2160)
FIVE = InputSpec(
    wh=(640, 640),
    channels=("r", "g", "b", "difference", "background_difference"),
    std=(255.0,),
    dtype="float16",
)


@dataclass(frozen=True, slots=True)
class Bench:
    device: str
    model: str
    backend: str
    quick: bool
    scratch: Path

    @property
    def config(self) -> Config:
        values = {"model.name": self.model, "model.device": self.device, "model.backend": self.backend}
        return with_values(Config(), {**values, "tiles.tile": 640, "tiles.look": "all"})

    def rounds(self, full: int) -> int:
        return max(10, full // 10) if self.quick else full


def plan_4k(spec: InputSpec, tile: int = 640) -> TilePlan:
    return plan_tiles(UHD, input_wh=spec.wh, config=TilesConfig(tile=tile), stride=spec.stride)


def timed_ms(device: Device, work: Callable[[], Any], rounds: int, *, warm: int = 5) -> dict[str, float]:
    """GPU time by events round each repetition; median, p95, least."""
    for _ in range(warm):
        work()
    device.synchronize()
    marks = []
    for _ in range(rounds):
        before = device.mark(timed=True)
        work()
        marks.append((before, device.mark(timed=True)))
    device.synchronize()
    spent = sorted(after.ms_since(before) for before, after in marks)
    return {"median": statistics.median(spent), "p95": spent[int(0.95 * (len(spent) - 1))], "min": spent[0]}


# ---------------------------------------------------------------------------------------------------------- the kernel


def copy_bandwidth(bench: Bench) -> dict[str, Any]:
    """Device to device, bytes read plus written: the ceiling of everything that moves bytes."""
    with Device(bench.device) as device:
        size = 1 << 30
        pairs = [(device.empty((size,), np.uint8), device.empty((size,), np.uint8)) for _ in range(2)]
        for source, _ in pairs:
            device.fill(source, 0x5A)
        turn = iter(range(1 << 30))
        spent = timed_ms(device, lambda: device.copy(*pairs[next(turn) % 2]), bench.rounds(40))
    return {"bytes": 2 * size, "ms": spent, "tb_s": 2 * size / spent["median"] / 1e9}


def correctness(bench: Bench) -> dict[str, Any]:
    """Every channel of 4K tiles, unscaled and scaled, against the CPU packer."""
    worst: dict[str, float] = {}
    with Device(bench.device) as device:
        frames = frames_on_gpu(device, UHD, 3)
        for name, tile in (("unscaled", 640), ("scaled down", 1000), ("scaled up", 400)):
            spec = InputSpec(wh=(640, 640), channels=FIVE.channels, std=(255.0,), dtype="float16")
            plan = plan_4k(spec, tile)
            cpu, gpu = CpuPacker(spec), CudaPacker(spec, device)
            for frame, motion in zip(frames, motions(frames)):
                ours = gpu(frame, motion, plan)
                device.fill(ours.data, 0xFF)  # every element must be written: 0xFFFF is no number
                gpu.launch()
                theirs = np.asarray(cpu(frame, motion, plan).data, np.float32)
                gap = np.abs(device.read(ours.data).astype(np.float32) - theirs)
                worst[name] = max(worst.get(name, 0.0), float(np.nan_to_num(gap, nan=np.inf).max()))
            gpu.close()
    limit = 4e-3  # one grey level of 255, and fp16's rounding near 2
    return {"largest_difference": worst, "limit": limit, "ok": max(worst.values()) <= limit}


def kernel_time(bench: Bench) -> dict[str, Any]:
    """4K, 32 tiles of 640, 5 channels, fp16: one launch, over several frames so that nothing stays in the cache."""
    with Device(bench.device) as device:
        frames, plan = frames_on_gpu(device, UHD, 6), plan_4k(FIVE)
        packer = CudaPacker(FIVE, device)
        spent = []
        for turn in range(bench.rounds(200)):
            index = turn % len(frames)
            packer.prepare(frames[index], motions(frames)[index], plan)
            device.synchronize()
            before = device.mark(timed=True)
            packer.launch()
            after = device.mark(timed=True)
            device.synchronize()
            spent.append(after.ms_since(before))
        spent = sorted(spent[5:])
    least = UHD[0] * UHD[1] * 2.5 + len(plan) * 5 * 640 * 640 * 2  # NV12 and the luma before in, the batch out
    median = statistics.median(spent)
    return {"tiles": len(plan), "ms": {"median": median, "min": spent[0]}, "bytes": least, "tb_s": least / median / 1e9}


def against_composed(bench: Bench) -> dict[str, Any]:
    """The same batch (r, g, b, difference; 32 tiles) made by torch and CuPy operations, on the same card."""
    spec = InputSpec(wh=(640, 640), channels=("r", "g", "b", "difference"), std=(255.0,), dtype="float16")
    record: dict[str, Any] = {}
    with Device(bench.device) as device:
        frames, plan = frames_on_gpu(device, UHD, 2), plan_4k(spec)
        packer = CudaPacker(spec, device)
        packer(frames[0], motions(frames)[0], plan)
        packer.prepare(frames[1], motions(frames)[1], plan)
        record["ours_ms"] = timed_ms(device, packer.launch, bench.rounds(100))
    nv12 = nv12_pictures(UHD, 2)
    boxes = [tuple(int(v) for v in box) for box in plan.xyxy]
    for library in ("torch", "cupy"):
        try:
            make = composed(library, nv12[1], nv12[0], UHD, boxes)  # type: ignore[arg-type]
            record[f"{library}_ms"] = _library_ms(library, make, bench.rounds(50))
            record[f"{library}_over_ours"] = record[f"{library}_ms"]["median"] / record["ours_ms"]["median"]
        except ImportError as error:
            record[f"{library}_ms"] = f"not installed ({error})"
    return record


def _library_ms(library: str, make: Callable[[], Any], rounds: int) -> dict[str, float]:
    """By the library's own events."""
    module: Any = __import__(library)
    event = partial(module.cuda.Event, enable_timing=True) if library == "torch" else module.cuda.Event
    wait = module.cuda.synchronize if library == "torch" else module.cuda.Device().synchronize
    for _ in range(5):
        make()
    spent = []
    for _ in range(rounds):
        before, after = event(), event()
        before.record()
        make()
        after.record()
        wait()
        took = before.elapsed_time(after) if library == "torch" else module.cuda.get_elapsed_time(before, after)
        spent.append(float(took))
    spent.sort()
    return {"median": statistics.median(spent), "min": spent[0]}


def sanitizer(bench: Bench) -> dict[str, Any]:
    """compute-sanitizer over one packed frame of every kind (this file, run as a script)."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not installed"}
    record: dict[str, Any] = {}
    cases = str(Path(__file__).with_name("kernel_checks.py"))
    for check, what in (("memcheck", __file__), ("racecheck", __file__), ("memcheck", cases)):
        words = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, what, bench.device]
        done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
        record[f"{check} {Path(what).stem}"] = {"rc": done.returncode, "ok": done.returncode == 0, "said": tail}
    return record


# -------------------------------------------------------------------------------------------------------- the pipeline


def tile_rate(bench: Bench) -> dict[str, Any]:
    """Tiles a second of pack + network + reading back, over those of the bare network at the same batch, both replayed."""
    config = with_values(bench.config, {"gpu.batch": 32})
    path = find_model(bench.model)
    assert path is not None
    with gpu_detector(config, path, bench.device, engines_folder()) as detector:
        device, packer = detector.device, gpu_packer(detector)
        plan = plan_4k(detector.input)[:32]
        frames = frames_on_gpu(device, UHD, 6)
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
    import streamdet

    clip = film(bench.scratch / "uhd.mp4", UHD, 120 if bench.quick else 300)
    record: dict[str, Any] = {}
    for decoder in ("cuda", "off"):
        for look in ("all", "motion"):
            config = with_values(
                bench.config,
                {"sources": [str(clip)], "source.hwaccel": decoder, "tiles.look": look, "output.frames": "/dev/null"},
            )
            run = streamdet.api.Run(config)
            summary = run.finish()
            (stream,) = summary["streams"]
            record[f"decode {decoder}, look {look}"] = {
                "fps": stream["fps"],
                "frames": stream["frames"],
                "tiles": stream["tiles"],
                "stages_ms": stream["stages_ms"],
            }
    return record


def memory(bench: Bench) -> dict[str, Any]:
    """GPU and host memory while frames go through: flat?"""
    count = 1000 if bench.quick else 10_000
    path = find_model(bench.model)
    assert path is not None
    with gpu_detector(bench.config, path, bench.device, engines_folder()) as detector:
        device, packer = detector.device, gpu_packer(detector)
        frames = frames_on_gpu(device, (1920, 1080), 6)
        looks, rng = motions(frames), np.random.default_rng(0)
        plan = plan_tiles((1920, 1080), input_wh=detector.input.wh, config=TilesConfig(tile=640), stride=32)
        seen = []
        for turn in range(count):
            rows = np.sort(rng.permutation(len(plan))[: 1 + turn % len(plan)])
            detector(packer(frames[turn % 6], looks[turn % 6], plan[rows]))
            if turn in (count // 10, count // 2, count - 1):
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
    scene = with_values(Config(), {"source.demo_size": "1920x1080", "source.demo_seconds": 4})
    record: dict[str, Any] = {}
    for kind in ("fp32", "fp16"):
        config = with_values(bench.config, {"gpu.precision": kind})
        with (
            NetworkDetector(ModelConfig(backend="onnxruntime", device="cpu"), read_model(path)) as model,
            gpu_detector(config, path, bench.device, engines_folder()) as copy,
        ):
            batches = packed(["demo"], model.input, scene, every=6, frames=60 if bench.quick else 120)
            record[kind] = agreement(model, copy, batches, scene).to_dict()
    return record


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "copy_bandwidth": copy_bandwidth,
    "correctness": correctness,
    "batteries": lambda bench: battery(bench.device),  # every case of the kernels' tests
    "kernel_time": kernel_time,
    "against_composed": against_composed,
    "tile_rate": tile_rate,
    "precision": precision,
    "end_to_end": end_to_end,
    "memory": memory,
    "sanitizer": sanitizer,
}


if __name__ == "__main__":  # what the sanitizer watches
    print(correctness(Bench(sys.argv[1], "tiny", "auto", True, Path("."))))
