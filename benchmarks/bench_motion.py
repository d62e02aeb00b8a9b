"""What --look motion finds of what --look all finds, at how many network inputs, on static clips with ordinary detectors.

python benchmarks/bench_motion.py [--clip NAME ...] [--model NAME ...] [--frames 80]

Every look of every clip is a process of its own, one after the other. From frame `FIRST` on (tracks are confirmed by then) the
processor time of the whole process is taken, beside wall time, and the tracks are compared as `bench_slicers.py` does:
"objects" are whole tracks of look=all (5 sure rows or more) that look=motion has in half of their frames; "boxes" the share of
the sure rows of one look's tracks that the other has at IoU >= 0.5 with the same class. Clips are enlarged, so that there are
tiles to choose from; `collage off` is look=motion with whole tiles only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from bench_slicers import agreement, tracked_objects
from enlarged import enlarged

CLIPS = {
    "pedestrians 1920x1440": ("pedestrians/vtest_480x360.avi", (1920, 1440)),
    "people 1920x1080": ("people/one-by-one-person-detection.mp4", (1920, 1080)),
    "cars 1920x1080": ("cars/car-detection.mp4", (1920, 1080)),
    "tennis 1920x1080": ("tennis_amateur/clip.mp4", (1920, 1080)),
    "tennis 3840x2160": ("tennis_amateur/clip.mp4", (3840, 2160)),
}
MODELS = {"yolox_nano": "yolox_nano_416_coco.onnx", "picodet_s": "picodet_s_416_coco.onnx"}
LOOKS = {"all": ("all", "auto"), "motion": ("motion", "auto"), "motion, collage off": ("motion", "off")}
FIRST = 16


def watch(clip: str, model: str, look: Any, collage: str) -> dict[str, Any]:
    """One look at one clip, in this process."""
    import streamdet

    tracks: dict[int, Any] = {}
    found: dict[int, Any] = {}
    inputs: list[int] = []
    began = 0.0, 0.0
    settings = {"tiles.collage": collage}
    run = streamdet.run(
        clip,
        model=model,
        tile=416,
        overlap=0.2,
        look=look,
        backend="onnxruntime",
        conf=0.25,
        iou=0.5,
        settings=settings,
    )
    for result in run:
        index, shown, rows = result.frame.index, result.tracks.shown, result.detections
        if index < FIRST:
            began = time.process_time(), time.perf_counter()
            continue
        inputs.append(result.tiles.slots if result.tiles is not None else 0)
        columns = (shown.score, shown.label, shown.state, shown.id)
        tracks[index] = np.concatenate([shown.xyxy, *(column[:, None] for column in columns)], 1).tolist()
        found[index] = np.concatenate([rows.xyxy, rows.score[:, None], rows.label[:, None]], 1).tolist()
    spent = time.process_time() - began[0], time.perf_counter() - began[1]
    of = run.summary["streams"][0]["tiles"]["of"] / max(run.summary["streams"][0]["frames"], 1)
    return {"tracks": tracks, "found": found, "inputs": inputs, "of": of, "cpu_s": spent[0], "wall_s": spent[1]}


def compare(clip: Path, model: Path) -> dict[str, Any]:
    runs = {}
    for name, words in LOOKS.items():
        command = [sys.executable, __file__, "--one", json.dumps([str(clip), str(model), *words])]
        runs[name] = harness.run_json(command, env=os.environ | {"PYTHONPATH": str(harness.ROOT)})
    record: dict[str, Any] = {"tiles": round(runs["all"]["of"])}
    for name, run in runs.items():
        count = max(len(run["inputs"]), 1)
        record[name] = {
            "inputs_per_frame": round(float(np.mean(run["inputs"])), 2),
            "cpu_ms_per_frame": round(run["cpu_s"] / count * 1e3, 1),
            "wall_ms_per_frame": round(run["wall_s"] / count * 1e3, 1),
        }
        if name != "all":
            rows = agreement(runs["all"], run, of="tracks", within="tracks")
            record[name] |= {
                "objects": tracked_objects(runs["all"], run),
                "boxes": rows["matched"],
                "boxes_reverse": rows["matched_reverse"],
                "cpu_ratio": round(runs["all"]["cpu_s"] / run["cpu_s"], 2),
            }
    return record


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", choices=CLIPS, action="append")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        print(json.dumps(watch(*json.loads(words.one))))
        return
    file = harness.RESULTS / "motion.json"
    known = json.loads(file.read_text(encoding="utf-8"))["models"] if file.exists() else {}
    for model in words.model or MODELS:
        for name in words.clip or CLIPS:
            source, wh = CLIPS[name]
            clip = enlarged(source, wh, words.frames)
            known.setdefault(model, {})[name] = compare(clip, harness.shared_data() / "models" / MODELS[model])
            print(model, name, json.dumps(known[model][name]), file=sys.stderr)
            harness.save("motion", {"tile_px": 416, "frames": words.frames, "first": FIRST, "models": known})


if __name__ == "__main__":
    main()
