"""Does `--upscale` find more? Labelled frames of real clips, each looked at as a still; recall and false boxes beside time.

python benchmarks/bench_upscale.py

Compared, with yolox_nano (COCO) and its flying and ball classes: plain tiles; a second look magnified round what seems small
(`upscale=2`); everything magnified twofold by bilinear interpolation (`tiles.smallest_px=3`) and by bicubic (with `upscale=2`).
A labelled object is found by a box whose centre lies in the (loose) labelled box or within 10 px of its centre.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import av
import harness
import numpy as np

from streamdet.config import Config, with_values
from streamdet.predictor import Predictor

CLASSES = ["airplane", "bird", "kite", "sports ball", "frisbee"]
LOOKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "upscale 2, where something small seems to be": {"tiles.upscale": 2},
    "the same, up to 16 px": {"tiles.upscale": 2, "tiles.upscale_below_px": 16},
    "all magnified, bilinear": {"tiles.smallest_px": 3},
    "all magnified, bicubic": {"tiles.smallest_px": 3, "tiles.upscale": 2, "tiles.upscale_below_px": 0.1},
}
AIR = ("V_AIRPLANE_018", "V_BIRD_003", "V_BIRD_006", "V_BIRD_012", "V_DRONE_002", "V_DRONE_004")
EVERY, MOST = 8, 16
WITHIN_PX = 10.0
CONF = 0.25

Truth = dict[int, list[tuple[float, float, float, float]]]


def labels(path: Path) -> Truth:
    truth: Truth = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y, w, h = (float(row[key] or 0) for key in "xywh")
            if w > 0 and row.get("visible", "1") not in ("0", ""):
                truth.setdefault(int(row["frame"]), []).append((x, y, x + w, y + h))
    return truth


def frames(clip: Path, truth: Truth) -> list[tuple[np.ndarray, list[tuple[float, float, float, float]]]]:
    chosen = []
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in truth and index % EVERY == 0:
                chosen.append((frame.to_ndarray(format="bgr24"), truth[index]))
            if len(chosen) >= MOST:
                break
    return chosen


def score(predictor: Predictor, material: list[tuple[np.ndarray, list[Any]]]) -> dict[str, Any]:
    of = hit = false = tiles = 0
    start = time.perf_counter()
    for picture, boxes in material:
        result = predictor.result(picture, threshold=CONF)
        tiles += result.tiles
        xyxy = result.detections.xyxy
        centres = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        explained = np.zeros(len(centres), bool)
        for x1, y1, x2, y2 in boxes:
            near = ((centres >= (x1, y1)) & (centres <= (x2, y2))).all(1)
            near |= np.hypot(*(centres - ((x1 + x2) / 2, (y1 + y2) / 2)).T) <= WITHIN_PX
            hit += bool(near.any())
            explained |= near
        of += len(boxes)
        false += int((~explained).sum())
    count = max(1, len(material))
    return {
        "recall": round(hit / max(1, of), 3), "found": hit, "of": of, "false_per_frame": round(false / count, 2),
        "tiles_per_frame": round(tiles / count, 1), "seconds_per_frame": round((time.perf_counter() - start) / count, 2),
    }  # fmt: skip


def main() -> None:
    data = harness.shared_data()
    clips = [data / "clips" / "air" / f"{name}.mp4" for name in AIR]
    clips = [clip for clip in clips if clip.is_file()] or sorted((data / "clips" / "air").glob("V_*.mp4"))[:4]
    tennis = next((data / "clips" / "tennis_amateur").glob("*.mp4"))
    material = {clip.stem: frames(clip, labels(clip.with_suffix(".csv"))) for clip in clips}
    material["tennis"] = frames(tennis, labels(tennis.parent / "labels.csv"))
    record: dict[str, Any] = {name: {} for name in material}
    base = {
        "model.name": str(data / "models" / "yolox_nano_416_coco.onnx"), "model.classes": CLASSES, "model.conf": CONF,
        "model.backend": "onnxruntime",
    }  # fmt: skip
    for look, values in LOOKS.items():
        with Predictor(with_values(Config(), {**base, **values})) as predictor:
            for name, pictures in material.items():
                record[name][look] = score(predictor, pictures)
                print(f"{name:<18}{look:<46}{record[name][look]}", file=sys.stderr)
    totals = {}
    for look in LOOKS:
        rows = [record[name][look] for name in record]
        found, of = (sum(row[key] for row in rows) for key in ("found", "of"))
        totals[look] = {"recall": round(found / max(1, of), 3), "found": found, "of": of}
    harness.save("upscale", {"conf": CONF, "every": EVERY, "most": MOST, "clips": record, "all": totals})
    for look, row in totals.items():
        print(f"{look:<46}{row}")


if __name__ == "__main__":
    main()
