"""What the packing kernel is measured by on a GPU, one function a section: each takes a Bench and returns a plain dict."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from composed import composed
from scene import frames_on_gpu, motions, nv12_pictures

from streamdet.config import Config, TilesConfig, with_values
from streamdet.device import Device
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import TilePlan

__all__ = ["FIVE", "UHD", "Bench", "against_composed", "copy_bandwidth", "correctness", "kernel_time", "timed_ms"]

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
    small: bool = False  # a rehearsal: what it measures means nothing
    limit_s: float = 300.0

    @property
    def wh(self) -> tuple[int, int]:
        return (512, 288) if self.small else UHD

    @property
    def five(self) -> InputSpec:
        """Five channels in fp16: the input the kernel is judged by."""
        return replace(FIVE, wh=(128, 128)) if self.small else FIVE

    @property
    def config(self) -> Config:
        values = {"model.name": self.model, "model.device": self.device, "model.backend": self.backend}
        return with_values(Config(), {**values, "tiles.tile": 160 if self.small else 640, "tiles.look": "all"})

    def rounds(self, full: int) -> int:
        return 6 if self.small else max(10, full // 10) if self.quick else full

    def plan(self, spec: InputSpec, tile: int = 640) -> TilePlan:
        side = tile // 5 if self.small else tile
        return plan_tiles(self.wh, input_wh=spec.wh, config=TilesConfig(tile=side), stride=spec.stride)


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
        size = 1 << (20 if bench.small else 30)
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
        frames = frames_on_gpu(device, bench.wh, 3)
        for name, tile in (("unscaled", 640), ("scaled down", 1000), ("scaled up", 400)):
            spec, plan = bench.five, bench.plan(bench.five, tile)
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
        frames, plan = frames_on_gpu(device, bench.wh, 6), bench.plan(bench.five)
        packer = CudaPacker(bench.five, device)
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
        spent = sorted(spent[5:] or spent)
    least = (
        bench.wh[0] * bench.wh[1] * 2.5 + len(plan) * 5 * bench.five.wh[0] * bench.five.wh[1] * 2
    )  # NV12 and the luma before in, the batch out
    median = statistics.median(spent)
    return {"tiles": len(plan), "ms": {"median": median, "min": spent[0]}, "bytes": least, "tb_s": least / median / 1e9}


def against_composed(bench: Bench) -> dict[str, Any]:
    """The same batch (r, g, b, difference; 32 tiles) made by torch and CuPy operations, on the same card."""
    spec = replace(bench.five, channels=("r", "g", "b", "difference"))
    record: dict[str, Any] = {}
    with Device(bench.device) as device:
        frames, plan = frames_on_gpu(device, bench.wh, 2), bench.plan(spec)
        packer = CudaPacker(spec, device)
        packer(frames[0], motions(frames)[0], plan)
        packer.prepare(frames[1], motions(frames)[1], plan)
        record["ours_ms"] = timed_ms(device, packer.launch, bench.rounds(100))
    nv12 = nv12_pictures(bench.wh, 2)
    boxes = [tuple(int(v) for v in box) for box in plan.xyxy]
    for library in ("torch", "cupy"):
        try:
            make = composed(library, nv12[1], nv12[0], bench.wh, boxes)  # type: ignore[arg-type]
            record[f"{library}_ms"] = _library_ms(library, make, bench.rounds(50))
            record[f"{library}_over_ours"] = record[f"{library}_ms"]["median"] / record["ours_ms"]["median"]
        except ImportError as error:
            record[f"{library}_ms"] = f"not installed ({error})"
        except Exception as error:  # each library has its own way to say that it finds no GPU
            record[f"{library}_ms"] = f"cannot be used ({str(error).splitlines()[0][:160]})"
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
