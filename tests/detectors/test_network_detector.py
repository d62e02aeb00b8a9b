"""From raw rows to Detections: thresholds, classes, mapping to the frame, broken numbers, partial batches, life cycle."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_graphs import batch_of, plan_of, save_constant, save_identity
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.errors import ConfigError, ModelError, StartupError
from streamdet.types import WEAK_SHARE, Detections

NAMES = ["person", "ball", "car", "truck"]


def rows(*wanted: tuple[float, float, float, float, float, int]) -> NDArray[np.float32]:
    out = np.zeros((10, 6), np.float32)
    out[: len(wanted)] = wanted
    return out


EVERY = rows(
    (10, 10, 20, 20, 0.9, 0),
    (30, 10, 36, 16, 0.5, 1),
    (40, 40, 60, 60, 0.8, 2),
    (5, 40, 25, 60, 0.3, 3),
    (8, 30, 12, 34, 0.1, 1),
)


def detector_for(
    folder: Path, array: NDArray[Any] = EVERY, *, batch: int | None = None, manifest: str = "", **settings: Any
) -> NetworkDetector:
    path = save_constant(
        folder / "model.onnx", {"output0": array}, batch=batch, metadata={"names": str(dict(enumerate(NAMES)))}
    )
    if manifest:
        path.with_suffix(".toml").write_text(manifest)
    return open_detector(ModelConfig(**{"backend": "onnxruntime", "threads": 2, **settings}), path)


def run(detector: NetworkDetector, tiles: int = 1, frame_wh: tuple[int, int] = (640, 64)) -> Detections:
    plan = plan_of(frame_wh, [[64 * i, 0, 64 * i + 64, 64] for i in range(tiles)], (64, 64))
    found = detector(batch_of(np.zeros((tiles, 3, 64, 64), np.float32), plan))
    weak = found.score < detector.thresholds[found.label]  # given for the tracker only
    assert (found.score[weak] >= WEAK_SHARE * detector.thresholds[found.label[weak]] - 1e-6).all()
    return found[~weak]


def named(detector: NetworkDetector, found: Detections) -> list[tuple[str, float]]:
    return sorted((detector.labels[label], round(float(score), 2)) for label, score in zip(found.label, found.score))


def test_default_threshold_and_labels(tmp_path: Path) -> None:
    with detector_for(tmp_path) as detector:
        assert detector.labels == tuple(NAMES)
        assert detector.threshold == pytest.approx(0.25)
        assert named(detector, run(detector)) == [("ball", 0.5), ("car", 0.8), ("person", 0.9), ("truck", 0.3)]
        assert "yolo_end2end" in detector.describe()
        assert "onnxruntime" in detector.describe()


def test_thresholds_per_class_the_rest_as_the_card_says(tmp_path: Path) -> None:
    with detector_for(tmp_path, manifest="threshold = 0.6", conf={"ball": 0.05}) as detector:
        assert detector.threshold == pytest.approx(0.05)
        assert named(detector, run(detector)) == [("ball", 0.1), ("ball", 0.5), ("car", 0.8), ("person", 0.9)]


def test_card_with_thresholds_per_class(tmp_path: Path) -> None:
    with detector_for(tmp_path, manifest="[threshold]\nball = 0.55\ntruck = 0.2") as detector:
        assert named(detector, run(detector)) == [("car", 0.8), ("person", 0.9), ("truck", 0.3)]


def test_classes_by_name_and_id(tmp_path: Path) -> None:
    with detector_for(tmp_path, classes=["ball", "3"]) as detector:
        assert detector.labels == tuple(NAMES), "ids keep their meaning"
        assert named(detector, run(detector)) == [("ball", 0.5), ("truck", 0.3)]


def test_rename_merges_classes_and_the_filter_knows_both_names(tmp_path: Path) -> None:
    settings = {"rename": {"car": "vehicle", "truck": "vehicle"}, "classes": ["vehicle"], "conf": {"truck": 0.2}}
    with detector_for(tmp_path, **settings) as detector:
        assert detector.labels == ("person", "ball", "vehicle")
        assert named(detector, run(detector)) == [("vehicle", 0.3), ("vehicle", 0.8)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": ["bal"]}, "did you mean 'ball'"),
        ({"classes": ["9"]}, "0..3"),
        ({"conf": {"bird": 0.5}}, "no class 'bird'"),
        ({"rename": {"cra": "x"}}, "did you mean 'car'"),
    ],
)
def test_unknown_class_is_a_clear_error(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words), detector_for(tmp_path, **settings):
        pass


def test_merged_classes_suppress_each_other(tmp_path: Path) -> None:
    """A car seen as a truck too is one vehicle, if the user says so."""
    array = np.zeros((84, 9), np.float32)
    array[3] = [30, 30, 20, 20, 1, 0, 0, 0.9, 0]
    array[4] = [31, 30, 20, 20, 1, 0, 0, 0, 0.7]
    for rename, count in (({}, 2), ({"car": "vehicle", "truck": "vehicle"}, 1)):
        with detector_for(tmp_path, array, manifest='decoder = "yolox"\ndecoded = true', rename=rename) as detector:
            assert len(run(detector)) == count


def test_max_detections_keeps_the_best(tmp_path: Path) -> None:
    with detector_for(tmp_path, max_detections=3) as detector:
        found = run(detector, 2)
    assert len(found) == 3
    assert sorted(found.score.round(2).tolist()) == pytest.approx([0.8, 0.9, 0.9])


def test_frame_pixels_clipped_truncated_and_not_in_the_padding(tmp_path: Path) -> None:
    """A 100 x 40 frame: tiles of 50 x 40 shown at scale 1.28 leave the bottom of the input empty."""
    array = rows((-6, 10, 10, 20, 0.9, 0), (54, 20, 70, 30, 0.8, 1), (20, 55, 30, 63, 0.7, 2), (20, 46, 30, 54, 0.6, 3))
    with detector_for(tmp_path, array) as detector:
        plan = plan_of((100, 40), [[0, 0, 50, 40], [50, 0, 100, 40]], (64, 64), 1.28)
        found = detector(batch_of(np.zeros((2, 3, 64, 64), np.float32), plan))
    assert 2 not in found.label, "its middle is below the tile"
    assert found.tile.tolist() == [0, 0, 0, 1, 1, 1]
    s = 1.28
    expected = [
        [0, 10 / s, 10 / s, 20 / s],
        [54 / s, 20 / s, 70 / s, 30 / s],
        [20 / s, 46 / s, 30 / s, 40],
        [50 - 6 / s, 10 / s, 50 + 10 / s, 20 / s],
        [50 + 54 / s, 20 / s, 100, 30 / s],
        [50 + 20 / s, 46 / s, 50 + 30 / s, 40],
    ]
    np.testing.assert_allclose(found.xyxy, expected, rtol=1e-5)
    assert found.truncated.tolist() == [0, 4, 0, 1, 0, 0], "the frame's own border does not truncate"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_numbers_are_dropped_and_counted(tmp_path: Path, bad: float, caplog: pytest.LogCaptureFixture) -> None:
    array = EVERY.copy()
    array[1, 2] = bad
    with detector_for(tmp_path, array) as detector:
        assert len(run(detector, 2)) == 6
        assert detector.counts["not_finite"] == 2
        run(detector)
        assert detector.counts["not_finite"] == 3
        assert len(detector.warnings) == 1
        assert "not numbers" in detector.warnings[0]
    assert len(caplog.records) == 1, "said once"


@pytest.mark.parametrize("array", [np.full((10, 6), np.nan, np.float32), np.full((84, 9), np.nan, np.float32)])
def test_a_model_that_gives_nothing_but_nan_is_refused(tmp_path: Path, array: Any) -> None:
    with pytest.raises(ModelError, match="nothing but NaN"), detector_for(tmp_path, array):
        pass


def test_class_beyond_the_labels(tmp_path: Path) -> None:
    with detector_for(tmp_path, rows((10, 10, 20, 20, 0.9, 7), (30, 30, 40, 40, 0.9, 1))) as detector:
        assert named(detector, run(detector)) == [("ball", 0.9)]
        assert "beyond its 4 labels" in detector.warnings[0]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 9])
def test_every_tile_gets_its_own_answer(tmp_path: Path, backend: str, batch: int | None, tiles: int) -> None:
    """The network answers with its input: the mark of a tile must come back at that tile, whatever runs beside it."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    path = save_identity(tmp_path / "m.onnx", wh=(64, 32), channels=3, batch=batch)
    path.with_suffix(".toml").write_text('channels = ["y[-2]", "y[-1]", "y[0]"]')
    with open_detector(ModelConfig(backend=backend, threads=2, conf=0.4), path) as detector:  # type: ignore[arg-type]
        for repeat in range(2):
            data = np.zeros((tiles, 3, 32, 64), np.float32)
            for tile in range(tiles):
                data[tile, 2, 4:8, 3 * tile + repeat : 3 * tile + repeat + 4] = 0.5 + tile / 40
            plan = plan_of((64 * 9, 32), [[64 * i, 0, 64 * i + 64, 32] for i in range(tiles)], (64, 32))
            found = detector(batch_of(data, plan))
            assert found.tile.tolist() == list(range(tiles))
            left = [64 * i + 3 * i + repeat for i in range(tiles)]
            np.testing.assert_allclose(found.xyxy[:, 0], left, atol=1e-3)
            np.testing.assert_allclose(found.score, [0.5 + i / 40 for i in range(tiles)], atol=1e-6)
    assert detector.counts["tiles"] == 2 * tiles


def test_no_tiles_no_inference(tmp_path: Path) -> None:
    with detector_for(tmp_path) as detector:
        assert len(run(detector, 0)) == 0
        assert detector.counts["tiles"] == 0


def test_no_thread_is_left_and_it_can_be_entered_again(tmp_path: Path) -> None:
    before = threading.active_count()
    detector = detector_for(tmp_path)
    for _ in range(2):
        with detector:
            assert len(run(detector, 5)) == 20
    assert threading.active_count() == before


def test_device_of_another_build(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot be used|no GPU backend"), detector_for(tmp_path, device="cuda:0"):
        pass
