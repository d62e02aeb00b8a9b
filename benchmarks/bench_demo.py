"""The built-in scene: is what moves found, is nothing invented, and does it keep up at 4K?

    python benchmarks/bench_demo.py [--quick]

Correctness: `streamdet demo --model motion` at 1080p and 4K, several seeds: recall over all visible places of all movers, and
tracks on nothing per second. Speed: the 4K30 scene with 5 movers, encoded to H.264 once, read by `streamdet run --model motion`
with JSON and no film.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import harness

STREAMDET = [sys.executable, "-m", "streamdet"]


def correctness(size: str, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    words = [
        "demo",
        "--model",
        "motion",
        "--size",
        size,
        "--seed",
        str(seed),
        "--seconds",
        str(seconds),
        "--no-video",
        "--quiet",
    ]
    record = harness.run_json([*STREAMDET, *words, "--output", str(folder / f"{size}-{seed}"), "--json", "-"])
    score = record["score"]
    kept = (
        "recall",
        "false_tracks_per_s",
        "tracks",
        "true_tracks",
        "other_tracks",
        "false_tracks",
        "duplicate_tracks",
        "seconds",
    )
    return {
        "size": size,
        "seed": seed,
        **{key: score[key] for key in kept},
        "median_error_px": score["points"]["median_error_px"],
    }


def encode_scene(path: Path, wh: tuple[int, int], seconds: float, movers: int) -> None:
    """Write the scene as an ordinary H.264 film, as a camera's recorder would."""
    from streamdet.sources.demo_scene import Scene

    scene = Scene(wh, fps=30, seconds=seconds, movers=movers, seed=1)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *wh, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        for index in range(scene.frame_count):
            picture = scene.picture(index)
            frame = av.VideoFrame(*wh, "yuv420p")
            for plane, data in zip(frame.planes, (picture.luma, *(picture.chroma or ())), strict=True):
                rows = memoryview(plane).cast("B")
                for y, row in enumerate(data):
                    rows[y * plane.line_size : y * plane.line_size + len(row)] = row.tobytes()
            frame.pts = index
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def speed(film: Path, folder: Path, frames: int) -> dict[str, Any]:
    out = folder / "speed"
    words = ["run", str(film), "--model", "motion", "--no-video", "--quiet", "--output", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*STREAMDET, *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stream = json.loads((out / "summary.json").read_text())["streams"][0]
    return {
        "fps": stream["fps"],
        "cpu_ms_per_frame": 1000
        * spent_s
        / frames,  # all threads, start-up and decoding included: says more on a busy machine
        "stages_p50_ms": {stage: times["p50"] for stage, times in stream["stages_ms"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, short scenes: a look, not a record")
    arguments = parser.parse_args()
    seeds, seconds, repeats = ((1,), 4.0, 1) if arguments.quick else ((1, 2, 3), 10.0, 5)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scores = [correctness(size, seed, seconds, folder) for size in ("1920x1080", "3840x2160") for seed in seeds]
        for score in scores:
            print(score)
        film = folder / "scene4k.mp4"
        encode_scene(film, (3840, 2160), seconds, 5)
        runs = [speed(film, folder, round(30 * seconds)) for _ in range(repeats + 1)][1:]
    fps = harness.spread([run["fps"] for run in runs])
    cpu_ms = harness.spread([run["cpu_ms_per_frame"] for run in runs])
    middle = sorted(runs, key=lambda run: run["fps"])[len(runs) // 2]
    print(
        f"4K30 film, 5 movers, decode to JSON: {fps['median']:.1f} fps ({fps['median'] / 30:.2f}x real time), "
        f"{cpu_ms['median']:.1f} ms of processor time a frame",
        middle["stages_p50_ms"],
    )
    worst = {
        size: {
            "recall": min(s["recall"] for s in scores if s["size"] == size),
            "false_tracks_per_s": statistics.fmean(s["false_tracks_per_s"] for s in scores if s["size"] == size),
        }
        for size in ("1920x1080", "3840x2160")
    }
    record = {
        "scores": scores,
        "worst_recall_mean_false": worst,
        "speed_4k": {"fps": fps, "cpu_ms_per_frame": cpu_ms, "stages_p50_ms": middle["stages_p50_ms"]},
    }
    if not arguments.quick:
        harness.save("demo", record)


if __name__ == "__main__":
    main()
