"""fp16 and int8 copies, as a GPU would be given them, against the model itself: the same objects on real clips?

python benchmarks/bench_precision.py            # writes benchmarks/results/precision.json

On the CPU, by onnxruntime, which does the arithmetic of the copies as it is written in them. Objects are merged rows at the
model's threshold; both see the same tiles. int8 is calibrated on other clips than those compared on.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness

from streamdet.assemble import find_model
from streamdet.config import Config, ModelConfig, Precision
from streamdet.detectors.network import NetworkDetector
from streamdet.detectors.prepared import prepared
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.precision import agreement, calibration_tiles, packed

AIR = ("V_BIRD_003", "V_BIRD_012", "V_DRONE_004", "V_DRONE_062", "V_AIRPLANE_009", "IR_DRONE_046", "IR_BIRD_001")
CASES: dict[str, tuple[list[str], list[str], tuple[Precision, ...]]] = {
    # model: compared on, calibrated on, precisions
    "tiny": (
        ["clips/tennis_amateur/clip.mp4", "clips/badminton/00001.mp4", *(f"clips/air/{name}.mp4" for name in AIR)],
        ["train_air/IR_AIRPLANE_001.mp4", "train_air/IR_AIRPLANE_003.mp4", "clips/cars/car-detection.mp4"],
        ("fp16", "int8"),
    ),
    "models/yolox_nano_416_coco.onnx": (
        ["clips/pedestrians/vtest_480x360.avi", "clips/cars/car-detection.mp4"],
        ["clips/people/one-by-one-person-detection.mp4", "images/small-vehicles1.jpeg"],
        ("fp16", "int8"),
    ),
    "models/nanodet_m_416_coco.onnx": (["clips/pedestrians/vtest_480x360.avi"], [], ("fp16",)),
    "models/picodet_s_416_coco.onnx": (["clips/pedestrians/vtest_480x360.avi"], [], ("fp16",)),
    "models/fastestdet_352_coco.onnx": (["clips/pedestrians/vtest_480x360.avi"], [], ("fp16",)),
    "models/deimv2_atto_320_coco.onnx": (["clips/pedestrians/vtest_480x360.avi"], [], ("fp16",)),
}
FRAMES = 40  # of each clip


def detector(file: ModelFile) -> NetworkDetector:
    return NetworkDetector(ModelConfig(backend="onnxruntime", device="cpu", threads=1), file)


def compared(model: NetworkDetector, copy: ModelFile, clips: list[str]) -> dict[str, Any]:
    def batches() -> Iterator[Any]:
        for clip in clips:
            yield from itertools.islice(packed([clip], model.input, Config(), every=5, frames=400, tiles=24), FRAMES)

    with detector(copy) as other:
        return agreement(model, other, batches(), Config()).to_dict()


def measured(name: str, data: Path, folder: Path) -> dict[str, Any]:
    clips, calibrated_on, precisions = CASES[name]
    path = find_model(name) if name == "tiny" else data / name
    assert path is not None
    file = read_model(path)
    record: dict[str, Any] = {"clips": clips, "calibrated_on": calibrated_on}
    with detector(file) as model:
        for precision in precisions:
            tiles = None
            if precision == "int8":
                sources = [str(data / clip) for clip in calibrated_on]
                tiles = itertools.islice(calibration_tiles(sources, model.input, Config()), 60)
            copy = prepared(file, precision=precision, folder=folder, tiles=tiles)
            found = record[precision] = compared(model, copy, [str(data / clip) for clip in clips])
            found["bytes"], record["bytes"] = copy.path.stat().st_size, path.stat().st_size
            score = found["score_difference"] or {}
            print(
                f"{path.stem:<24}{precision:<6}{found['objects']:>6} objects, found {found['found']:>5}, below "
                f"{found['below_threshold']:>3}, lost {found['lost']:>3}, new {found['new']:>3}; score median "
                f"{score.get('median')}, max {score.get('max')}",
                flush=True,
            )
    return record


def main() -> None:
    data = harness.shared_data()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        record = {Path(name).stem: measured(name, data, Path(folder)) for name in CASES}
    harness.save("precision", {"models": record})


if __name__ == "__main__":
    main()
