"""How fast: ``streamdet bench --look motion`` on a 720p and a 4K clip, decode to result; and what a network alone costs."""

from __future__ import annotations

import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdet.config import ModelConfig
from streamdet.detectors.backend import Backend
from streamdet.detectors.choose import choose
from streamdet.detectors.openvino_backend import installed
from streamdet.detectors.rounding import fed
from streamdet.detectors.runtimes import Choice, make_backend
from streamdet.detectors.sniff import noise, sniff
from streamdet.detectors.spec import read_model

__all__ = ["cost", "measure"]

_ROOT = Path(__file__).resolve().parent.parent
_FRAMES, _REPEATS = 120, 3
_AREA_PX, _ROUNDS, _IN_A_ROW = 320, 20, 3


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
    """Median ms of one call, and per 320x320 px of input, by runtime and threads; all take turns.

    Keys are ``threads_N`` for onnxruntime and ``openvino_ARITHMETIC_threads_N`` with what OpenVINO would be given by itself
    (`streamdet.detectors.measure`), each fed as it likes it best. Where yolox_nano is among the networks every entry also has
    ``of_yolox_call``: its ms per 320x320 px as a share of one call of yolox_nano by onnxruntime; and ``of_yolox_call_here``: by
    the same runtime. A copy in 8 bits beside a file is measured too. A network of any size is given one tile of 320x320 px.
    """
    copies = {f"{name}_int8": path.with_name(f"{path.stem}_int8.onnx") for name, path in paths.items()}
    paths = paths | {name: path for name, path in copies.items() if path.is_file()}
    out: dict[str, dict[str, Any]] = {name: {} for name in paths}
    for threads in (1, 2):
        with contextlib.ExitStack() as stack:
            calls = {
                (name, kind): call
                for name, path in paths.items()
                for kind, call in _calls(path, threads, stack).items()
            }
            spent: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
            for turn in range(_ROUNDS + 3):
                for key, call in calls.items():
                    call.run()  # tiles come several at a time: what the others left in the caches is not its fault
                    for _ in range(_IN_A_ROW):
                        began = time.perf_counter()
                        call.run()
                        if turn >= 3:
                            spent[key].append((time.perf_counter() - began) * 1e3)
        for (name, kind), values in spent.items():
            call_ms = statistics.median(values)
            out[name][kind] = {
                "call_ms": round(call_ms, 3),
                "area_ms": round(call_ms * _AREA_PX**2 / calls[name, kind].px, 3),
            }
    return _with_shares(out)


def _with_shares(out: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    known = next((entry for name, entry in out.items() if name.startswith("yolox_nano")), None)
    for entry in out.values() if known else ():
        for kind, one in entry.items():
            by_onnxruntime = f"threads_{kind.rpartition('_')[2]}"
            one["of_yolox_call"] = round(one["area_ms"] / known[by_onnxruntime]["call_ms"], 3)
            if kind in known:
                one["of_yolox_call_here"] = round(one["area_ms"] / known[kind]["call_ms"], 3)
    return out


@dataclass(frozen=True, slots=True)
class _Call:
    """One tile through one runtime. ``px``: of its input."""

    backend: Backend
    data: Any
    px: int

    def run(self) -> None:
        for _ in self.backend.infer(self.data):
            pass


def _calls(path: Path, threads: int, stack: contextlib.ExitStack) -> dict[str, _Call]:
    file = read_model(path)
    known = stack.enter_context(make_backend(Choice("onnxruntime"), file, threads))
    spec = sniff(file, next(dict(raw) for _, _, raw in known.infer(noise(file)))).input
    backends = {f"threads_{threads}": known}
    if installed():
        choice = choose(ModelConfig(backend="openvino", threads=threads), file)
        name = f"openvino_{choice.arithmetic}_threads_{threads}"
        backends[name] = stack.enter_context(make_backend(choice, file, threads))
    wh = spec.wh or (_AREA_PX, _AREA_PX)
    return {name: _Call(one, fed(one.wants(spec), wh, 0)[:1], wh[0] * wh[1]) for name, one in backends.items()}
