"""Is tune's plan true? The chosen configuration is run again as a user would, in turn with tune's own measurement.

``python benchmarks/bench_tune.py`` writes benchmarks/results/tune.json: for each clip the fps that tune predicts and the fps
that ``streamdet run --config tuned.yaml`` reaches (its summary.json), alternating, and the ratio of their medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import alternate, save, shared_data, spread

from streamdet.config import Config, with_values
from streamdet.tuning.trials import Trial, run_once
from streamdet.tuning.tune import Tuned, tune
from streamdet.tuning.tune_output import write_all

CLIPS = (
    ("clips/air/V_DRONE_021.mp4", "clips/air/V_DRONE_021.csv", "auto", True),
    ("clips/pedestrians/vtest_480x360.avi", None, "models/yolox_nano_416_coco.onnx", False),
)


def run_again(clip: Path, folder: Path, frames: int) -> float:
    """fps of a run in a process of its own, as its summary tells."""
    words = [sys.executable, "-m", "streamdet", "run", str(clip), "--config", str(folder / "tuned.yaml"), "-q"]
    words += ["--max-frames", str(frames), "--no-video", "--output", str(folder / "run")]
    subprocess.run(words, check=True, capture_output=True)
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    return float(summary["streams"][0]["fps"])


def predict_again(tuned: Tuned, folder: Path, frames: int) -> float:
    trial = Trial(tuned.chosen.candidate, folder / "again.frames.jsonl")
    run_once(with_values(tuned.config, tuned.values()), trial, frames=frames, seconds=600, first=True)
    return trial.speed


def measure(clip: Path, labels: Path | None, model: str, *, loose: bool, frames: int, repeats: int) -> dict[str, Any]:
    config = with_values(Config(), {"sources": [str(clip)], "model.name": model, "model.backend": "onnxruntime"})
    tuned = tune(
        config, labels=None if labels is None else str(labels), fps=5, frames=frames, seconds=8, within_box=loose
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(tuned, folder)
        values = alternate(
            {
                "predicted": lambda: predict_again(tuned, folder, frames),
                "run": lambda: run_again(clip, folder, frames),
            },
            repeats=repeats,
        )
    ratio = spread(values["run"])["median"] / spread(values["predicted"])["median"]
    print(f"{clip.name}: {tuned.chosen.candidate}: run {ratio:.3f} of what was predicted")
    return {
        "clip": clip.name,
        "chosen": tuned.chosen.to_dict(),
        "first_prediction_fps": tuned.chosen.speed,
        "predicted_fps": spread(values["predicted"]),
        "run_fps": spread(values["run"]),
        "ratio": round(ratio, 4),
        "within_15_percent": abs(ratio - 1) <= 0.15,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    data = shared_data()
    rows = [
        measure(
            data / clip,
            None if labels is None else data / labels,
            model if model == "auto" else str(data / model),
            loose=loose,
            frames=given.frames,
            repeats=given.repeats,
        )
        for clip, labels, model, loose in CLIPS
    ]
    print(save("tune", {"frames": given.frames, "rows": rows}))


if __name__ == "__main__":
    main()
