"""How fast: ``streamdet bench --look motion`` on a 720p and a 4K clip, decode to result; and what a network alone costs."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

__all__ = ["cost", "measure"]

_ROOT = Path(__file__).resolve().parent.parent
_FRAMES, _REPEATS = 120, 3
_AREA_PX, _ROUNDS = 320, 40


def _clips() -> dict[str, Path]:
    sys.path.insert(0, str(_ROOT / "benchmarks"))  # its scripts import each other by plain names
    shared = importlib.import_module("harness").shared_data()
    enlarged = importlib.import_module("enlarged").enlarged
    return {
        "720p": shared / "clips" / "badminton" / "00022.mp4",
        "4K": enlarged("tennis_amateur/clip.mp4", (3840, 2160), _FRAMES),
    }


def measure(words: dict[str, list[str]]) -> dict[str, dict[str, dict[str, Any]]]:
    """size -> contender -> medians of `_REPEATS` rounds: fps, times_real_time, tiles run / of. Contenders take turns."""
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for size, clip in _clips().items():
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in words}
        for turn in range(_REPEATS):
            for name, options in words.items():
                rounds[name].append(_bench(clip, options))
                print(f"{size} {name} round {turn + 1}: {rounds[name][-1]['fps']} fps", flush=True)
        out[size] = {name: _medians(some) for name, some in rounds.items()}
    return out


def _bench(clip: Path, options: list[str]) -> dict[str, Any]:
    words = ["bench", str(clip), "--look", "motion", "--max-frames", str(_FRAMES), "-q", "--json", "-", *options]
    done = subprocess.run([sys.executable, "-m", "streamdet", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"streamdet {' '.join(words)} failed ({done.returncode}): {done.stderr[-2000:]}")
    record: dict[str, Any] = json.loads(done.stdout)["streams"][0]
    return record


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    tiles = rounds[0]["tiles"]  # None without a network
    return {
        "fps": statistics.median(one["fps"] for one in rounds),
        "fps_all": [one["fps"] for one in rounds],
        "times_real_time": statistics.median(one["times_real_time"] for one in rounds),
        "frame_wh": rounds[0]["frame_wh"],
        "tiles_per_frame": tiles and round(tiles["run"] / rounds[0]["frames"], 2),
        "tiles_of": tiles and round(tiles["of"] / rounds[0]["frames"], 2),
    }


def cost(paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Median ms of one call of onnxruntime, and per 320x320 px of input, by threads; the networks take turns.

    A network that takes any size is given one tile of 320x320 px.
    """
    out: dict[str, dict[str, Any]] = {name: {} for name in paths}
    for threads in (1, 2):
        sessions = {name: _session(path, threads) for name, path in paths.items()}
        feeds = {name: _feed(session) for name, session in sessions.items()}
        spent: dict[str, list[float]] = {name: [] for name in paths}
        for turn in range(_ROUNDS + 3):
            for name, session in sessions.items():
                began = time.perf_counter()
                session.run(None, feeds[name])
                if turn >= 3:
                    spent[name].append((time.perf_counter() - began) * 1e3)
        for name, values in spent.items():
            area = next(iter(feeds[name].values())).shape
            call_ms = statistics.median(values)
            per_area = call_ms * _AREA_PX**2 / (area[0] * area[2] * area[3])
            out[name][f"threads_{threads}"] = {"call_ms": round(call_ms, 3), "area_ms": round(per_area, 3)}
    return out


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feed(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    port = session.get_inputs()[0]
    usual = (1, 3, _AREA_PX, _AREA_PX)
    shape = [size if isinstance(size, int) else usual[axis] for axis, size in enumerate(port.shape)]
    return {port.name: np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
