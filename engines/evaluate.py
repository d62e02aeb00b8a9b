"""The yardstick: ``python -m engines.evaluate --data DATA --models engines/tiny.onnx motion``.

Every clip is run by ``streamdet run`` with defaults and read by ``streamdet eval``; counts are pooled per group. Writes
benchmarks/results/model_tiny.json and prints the table of the model card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Clip", "clips_of", "evaluate"]

_RESULT = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "model_tiny.json"
Score = dict[str, float]


@dataclass(frozen=True, slots=True)
class Clip:
    """What is run, what it is scored against (None: every shown object is false), and how."""

    group: str
    path: Path
    labels: Path | None
    within: tuple[str, ...] = ()


def clips_of(root: Path, work: Path, groups: list[str]) -> list[Clip]:
    """All clips of the named groups (empty: every group)."""
    clips = root / "clips"
    found = [
        Clip("badminton", path, path.with_suffix(".csv"), ("--within", "5"))
        for path in sorted((clips / "badminton").glob("*.mp4"))
    ]
    found.append(
        Clip(
            "tennis", clips / "tennis_amateur" / "clip.mp4", clips / "tennis_amateur" / "labels.csv", ("--within", "10")
        )
    )
    for path in sorted((clips / "air").glob("*.mp4")):
        group = "air_thermal" if path.stem.startswith("IR") else "air_visible"
        found.append(Clip(group, path, path.with_suffix(".csv"), ("--within", "12", "--within-box")))
    for name, file in (
        ("pedestrians", "vtest_480x360.avi"),
        ("cars", "car-detection.mp4"),
        ("people", "one-by-one-person-detection.mp4"),
    ):
        found.append(Clip(name, clips / name / file, None))
    if "shake" in groups:
        found += [_shaken(clips / "badminton" / f"{name}.mp4", work) for name in ("00001", "00029")]
    return [clip for clip in found if not groups or clip.group in groups]


def _shaken(path: Path, work: Path) -> Clip:
    """The clip with a hand shake of 3 px (standard deviation) added to pictures and labels."""
    import av
    import cv2

    target = work / f"{path.stem}_shaken.mp4"
    offsets = _shake_offsets(2000)
    with av.open(str(path)) as source, av.open(str(target), "w") as sink:
        video = source.streams.video[0]
        stream = sink.add_stream("libx264", rate=video.average_rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for frame, (dx, dy) in zip(source.decode(video), offsets):
            picture = frame.to_ndarray(format="bgr24")
            moved = cv2.warpAffine(
                picture, np.float32([[1, 0, dx], [0, 1, dy]]), picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT
            )
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")))
        sink.mux(stream.encode(None))
    rows = path.with_suffix(".csv").read_text().split()
    lines = [rows[0]]
    for row in rows[1:]:
        frame, visible, x, y = row.split(",")[:4]
        dx, dy = offsets[int(frame)]
        lines.append(f"{frame},{visible},{float(x or 0) + dx:.2f},{float(y or 0) + dy:.2f}")
    labels = target.with_suffix(".csv")
    labels.write_text("\n".join(lines) + "\n")
    return Clip("shake", target, labels, ("--within", "10"))


def _shake_offsets(count: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    offsets = np.zeros((count, 2))
    for k in range(1, count):
        offsets[k] = 0.5 * offsets[k - 1] + rng.normal(0, 3.0 * np.sqrt(1 - 0.25), 2)
    return offsets


def _first_rows(labels: Path, count: int, work: Path) -> Path:
    """The labels of the first `count` frames only: what was not run is not missed."""
    header, *rows = labels.read_text().split()
    target = work / "labels.csv"
    target.write_text("\n".join([header, *(row for row in rows if int(row.split(",")[0]) < count)]) + "\n")
    return target


def _run(clip: Clip, model: str, work: Path, options: list[str], most: int) -> tuple[Score, float]:
    frames = work / "frames.jsonl"
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "streamdet",
        "run",
        str(clip.path),
        "--model",
        model,
        "--frames",
        str(frames),
        "-q",
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True)
    spent_s = time.perf_counter() - began
    if clip.labels is None:
        lines = [json.loads(line) for line in frames.open()]
        false = sum(sum(thing.get("state") != "tentative" for thing in line["objects"]) for line in lines)
        return {"tp": 0, "fp": false, "fn": 0, "labelled_frames": len(lines)}, spent_s
    labels = _first_rows(clip.labels, most, work) if most else clip.labels
    said = subprocess.run(
        [sys.executable, "-m", "streamdet", "eval", str(frames), str(labels), *clip.within],
        check=True,
        capture_output=True,
        text=True,
    )
    score: Score = json.loads(said.stdout)
    return score, spent_s


def evaluate(
    models: list[str], clips: list[Clip], options: list[str], *, most: int = 0
) -> dict[str, dict[str, dict[str, object]]]:
    """model -> group -> pooled precision, recall, f1, false per frame; and every clip's own counts."""
    results: dict[str, dict[str, dict[str, object]]] = {Path(model).stem: {} for model in models}
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            for model in models:  # alternating, so that both meet the same load
                score, spent_s = _run(clip, model, Path(folder), options, most)
                group = results[Path(model).stem].setdefault(clip.group, {"clips": {}})
                per_clip = group["clips"]
                assert isinstance(per_clip, dict)
                kept = {
                    key: score.get(key)
                    for key in (
                        "tp",
                        "fp",
                        "fn",
                        "labelled_frames",
                        "median_error_px",
                        "first_delay_frames",
                        "id_switches",
                    )
                }
                per_clip[clip.path.stem] = kept | {"seconds": round(spent_s, 2)}
                counted = " ".join(f"{key} {score[key]}" for key in ("tp", "fp", "fn"))
                print(f"{Path(model).stem:8} {clip.group:12} {clip.path.stem:28} {counted} {spent_s:.0f} s", flush=True)
    for groups in results.values():
        for group in groups.values():
            _pool(group)
    return results


def _pool(group: dict[str, object]) -> None:
    clips = group["clips"]
    assert isinstance(clips, dict)
    tp, fp, fn, frames = (sum(clip[key] for clip in clips.values()) for key in ("tp", "fp", "fn", "labelled_frames"))
    group["precision"] = round(tp / (tp + fp), 4) if tp + fp else None
    group["recall"] = round(tp / (tp + fn), 4) if tp + fn else None
    group["f1"] = round(2 * tp / (2 * tp + fp + fn), 4) if tp + fn else None
    group["false_per_frame"] = round(fp / frames, 4)


def table(results: dict[str, dict[str, dict[str, object]]]) -> str:
    """Markdown, one row per group."""
    names = list(results)
    lines = [
        "| clips | " + " | ".join(f"{name}: P / R / F1, false per frame" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for group in results[names[0]]:
        cells = []
        for name in names:
            row = results[name].get(group, {})
            shown = " / ".join(
                "-" if row.get(key) is None else f"{row[key]:.2f}" for key in ("precision", "recall", "f1")
            )
            cells.append(f"{shown}, {row.get('false_per_frame', 0):.3f}")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument(
        "--groups", nargs="*", default=[], help="badminton tennis air_visible air_thermal pedestrians cars people shake"
    )
    parser.add_argument("--max-frames", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, default=_RESULT)
    given = parser.parse_args()
    options = ["--max-frames", str(given.max_frames)] if given.max_frames else []
    options += ["--threads", str(given.threads)] if given.threads else []
    with tempfile.TemporaryDirectory() as work:
        results = evaluate(given.models, clips_of(given.data, Path(work), given.groups), options, most=given.max_frames)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"max_frames": given.max_frames or None, "results": results}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
