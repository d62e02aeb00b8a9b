"""The fp16 and int8 copies of a finished model: ``python -m engines.copies engines/tiny.onnx --data DATA``.

Run it again whenever the model changes; it needs onnx, onnxruntime (and OpenVINO to check there), no PyTorch.

- ``<name>_fp16.onnx``: weights and arithmetic in fp16 from the first convolution to the last; inputs, outputs and the picking
  of peaks stay fp32. For GPUs: a CPU without fp16 arithmetic converts to and fro and is slower.
- ``<name>_int8.onnx``: static quantization (QDQ, one scale per channel of weights) calibrated on rendered clips, held-in air
  clips and the first part of the tennis clip; the last convolution stays fp32. Kept only if the mean F1 of the validation
  clips (`engines.operating`) stays within 0.01 of the model's.

Each gets its own manifest; what was measured goes to benchmarks/results/model_copies.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.harness import machine
from engines.data import NETWORK_INPUT, watch, watch_rendered
from engines.footage import Footage, air_clips, background_clips
from engines.operating import mean_f1, score_at, validation
from engines.render import render_clip
from streamdet.config import ModelConfig
from streamdet.detectors.network import open_detector
from streamdet.detectors.onnxruntime_half import to_half
from streamdet.detectors.onnxruntime_int8 import to_int8
from streamdet.detectors.openvino_backend import installed
from streamdet.types import WEAK_SHARE, WHY_ALL, TilePlan

__all__ = ["calibration_tiles", "to_half", "to_int8", "worst_gap", "write_manifest"]

_RESULT = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "model_copies.json"
_TILE_PX = 320
_F1_MAY_FALL = 0.01
_CALIBRATION_AIR, _CALIBRATION_RENDERED = 16, 4
F32 = NDArray[np.float32]
Record = dict[str, Any]


def calibration_tiles(root: Path, *, seed: int = 5) -> Iterator[F32]:
    """Tiles of material the model was trained with, through the pipeline's own motion model and packer."""
    rng = np.random.default_rng(seed)
    air, backgrounds = air_clips(root, held_out=False), background_clips(root)
    for _ in range(_CALIBRATION_RENDERED):
        for seen, _ in watch_rendered(render_clip(rng, air, backgrounds=backgrounds)):
            if seen.frame.index >= 10 and seen.frame.index % 6 == 0:
                yield _cut(rng, seen)
    chosen = [air[k] for k in rng.choice(len(air), min(_CALIBRATION_AIR, len(air)), replace=False)]
    for footage in [*backgrounds, *chosen]:
        yield from _of_footage(rng, footage)


def _of_footage(rng: np.random.Generator, footage: Footage) -> Iterator[F32]:
    for seen in watch(footage.path, spec=NETWORK_INPUT):
        if seen.frame.index >= min(60, footage.frames):
            return
        if seen.frame.index >= 20 and seen.frame.index % 10 == 0 and seen.motion.state != "repeat":
            yield _cut(rng, seen)


def _cut(rng: np.random.Generator, seen: Any) -> F32:
    """Two tiles at random places."""
    packer = type(seen.packer)(NETWORK_INPUT)
    side = min(_TILE_PX, *(value // 16 * 16 for value in seen.frame.wh))
    corner = np.array([[rng.integers(0, seen.frame.wh[axis] - side + 1) for axis in (0, 1)] for _ in range(2)])
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.int32)
    scale, why = np.ones((2, 2), np.float32), np.full(2, WHY_ALL, np.uint8)
    plan = TilePlan(seen.frame.wh, (side, side), boxes, scale, why, 2)
    return np.array(packer(seen.frame, seen.motion, plan).data, np.float32)


# ------------------------------------------------------------------------------------------------------- what they are worth


def worst_gap(source: Path, copy: Path, tiles: F32, *, floor: float = 0.1) -> Record:
    """Peaks above `floor` of either in the same cell: share that both have, and how far their boxes and scores differ."""
    ours, theirs = (_session(path).run(None, {"picture": tiles}) for path in (source, copy))
    (heat, offset, size), (heat2, offset2, size2) = ours, theirs
    both = (heat > floor) & (heat2 > floor)
    either = (heat > floor) | (heat2 > floor)
    sample, _, row, column = np.nonzero(both)
    cells = (sample, slice(None), row, column)
    shift = np.abs(offset[cells] - offset2[cells]) * 4
    grown = np.abs(np.exp(size[cells]) - np.exp(size2[cells]))
    return {
        "peaks": int(either.sum()),
        "in_both": round(float(both.sum() / max(either.sum(), 1)), 4),
        "score_median": round(float(np.median(np.abs(heat[both] - heat2[both]))), 5) if both.any() else None,
        "centre_px_median": round(float(np.median(shift)), 4) if both.any() else None,
        "centre_px_p99": round(float(np.percentile(shift, 99)), 4) if both.any() else None,
        "size_px_median": round(float(np.median(grown)), 4) if both.any() else None,
    }


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def time_ratios(paths: list[Path], *, rounds: int = 12) -> dict[str, float]:
    """Time of a call of four 320 px tiles relative to the first file's, one thread of onnxruntime, taking turns."""
    tiles = np.random.default_rng(0).normal(0, 1, (4, len(NETWORK_INPUT.channels), _TILE_PX, _TILE_PX))
    feed = {"picture": tiles.astype(np.float32)}
    sessions = {path: _session(path) for path in paths}
    spent: dict[Path, list[float]] = {path: [] for path in paths}
    for turn in range(rounds + 2):
        for path, session in sessions.items():
            began = time.perf_counter()
            session.run(None, feed)
            if turn >= 2:
                spent[path].append(time.perf_counter() - began)
    first = spent[paths[0]]
    return {path.stem: round(statistics.median(t / f for t, f in zip(spent[path], first)), 3) for path in paths}


def validated(path: Path, root: Path) -> dict[str, dict[str, float]]:
    """Scores of the tracked output on the validation clips at the threshold in the file."""
    config = ModelConfig(name=str(path), backend="onnxruntime", threads=1)
    with open_detector(config, path) as detector:
        threshold = detector.threshold
    with open_detector(ModelConfig(backend="onnxruntime", threads=1, conf=WEAK_SHARE * threshold), path) as detector:
        return score_at(validation(detector, root, halls=0), threshold)


def loads_everywhere(path: Path) -> list[str]:
    """The runtimes that take it, of those installed."""
    backends: list[Literal["onnxruntime", "openvino"]] = ["onnxruntime", "openvino"] if installed() else ["onnxruntime"]
    for backend in backends:
        with open_detector(ModelConfig(backend=backend, threads=1), path):
            pass
    return [*backends]


def write_manifest(model: Path, summary: str, numbers: str) -> None:
    """``<name>.toml`` beside the file."""
    lines = [
        'licence = "Apache-2.0"',
        "",
        "[card]",
        f"summary = {json.dumps(summary)}",
        f"numbers = {json.dumps(numbers)}",
        "",
    ]
    model.with_suffix(".toml").write_text("\n".join(lines))


def make(source: Path, root: Path, folder: Path) -> Record:
    """Both copies of `source` in `folder`, judged; what is not kept is removed."""
    name = source.stem
    half, small = folder / f"{name}_fp16.onnx", folder / f"{name}_int8.onnx"
    to_half(source, half)
    to_int8(source, small, calibration_tiles(root))
    tiles = np.concatenate([tiles for tiles in calibration_tiles(root, seed=6) if tiles.shape[-1] == _TILE_PX])
    scores = {path.stem: validated(path, root) for path in (source, half, small)}
    f1 = {stem: round(mean_f1(score), 4) for stem, score in scores.items()}
    times = time_ratios([source, half, small])
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    record: Record = {"model": name, "sha256": sha256, "copies": {}, "f1": f1, "time": times, "validation": scores}
    for path, summary in (
        (half, f"{name} with fp16 weights and arithmetic, for GPUs (a CPU gains nothing)"),
        (small, f"{name} in 8 bits: two thirds of the time on CPUs with int8 instructions, slightly less accurate"),
    ):
        kept = f1[path.stem] >= f1[name] - _F1_MAY_FALL
        backends = loads_everywhere(path)
        gap = worst_gap(source, path, tiles)
        record["copies"][path.stem] = {"kept": kept, "bytes": path.stat().st_size, "loads_in": backends, "gap": gap}
        said = (
            f"mean F1 on validation clips {f1[path.stem]:.3f}, of {name} itself {f1[name]:.3f}; time of a call on one "
        )
        said += f"processor thread (onnxruntime) {times[path.stem]:.2f} of {name}'s"
        write_manifest(path, summary, f"{said}; peaks in both {gap['in_both']:.1%}")
        print(f"{path.name}: {said}; {'kept' if kept else 'NOT kept'}", flush=True)
        if not kept:
            print(f"take {path.stem} out of pyproject.toml (force-include)")
            path.unlink()
            path.with_suffix(".toml").unlink()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m engines.copies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_air and clips")
    parser.add_argument("--folder", type=Path, help="where the copies go (default: beside the model)")
    parser.add_argument("--output", type=Path, default=_RESULT)
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    record = make(given.model, given.data, given.folder or given.model.parent)
    given.output.write_text(json.dumps({"benchmark": "model_copies", "machine": machine(), **record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
