"""How fast, decode to result: ``streamdet bench --look motion`` on a 720p and a 4K clip, models alternating."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["measure"]

_ROOT = Path(__file__).resolve().parent.parent
_FRAMES, _REPEATS = 120, 3


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
    return {
        "fps": statistics.median(one["fps"] for one in rounds),
        "fps_all": [one["fps"] for one in rounds],
        "times_real_time": statistics.median(one["times_real_time"] for one in rounds),
        "frame_wh": rounds[0]["frame_wh"],
        "tiles_per_frame": round(rounds[0]["tiles"]["run"] / rounds[0]["frames"], 2),
        "tiles_of": round(rounds[0]["tiles"]["of"] / rounds[0]["frames"], 2),
    }
