"""Choosing a way to look: what is tried, what is taken, and that the file it leaves is the way that was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.cli import main
from streamdet.config import load
from streamdet.errors import ConfigError, UsageError
from streamdet.inputspec import InputSpec
from streamdet.tuning.anchors import USUAL, evolve_anchors, fit_anchors, kmeans_anchors, score_anchors
from streamdet.tuning.sizes import ObjectSizes, sizes_from_labels
from streamdet.tuning.trials import Candidate, Trial, candidates, steady_fps
from streamdet.tuning.tune import choose


def sizes_of(*px: float) -> ObjectSizes:
    side = np.array(px, np.float64)
    return ObjectSizes(np.stack([side, side], axis=1), np.zeros((0, 2)), np.zeros(0), "made up")


def trial(speed: float, f1: float | None, *, tile: str = "416", look: str = "all") -> Trial:
    return Trial(Candidate(tile, 0.2, look, False, 1.0), Path("x"), fps=[speed], f1=f1)


def test_the_best_that_keeps_up_is_taken_and_the_faster_of_equals() -> None:
    slow, good, equal, poor = trial(5, 0.99), trial(40, 0.90), trial(60, 0.895), trial(90, 0.5)
    assert choose([slow, good, equal, poor], 30) is equal
    assert choose([slow, good, poor], 30) is good
    assert choose([slow, good, poor], 38) is poor  # 40 fps has no headroom over 38
    assert choose([slow, good, poor], 0) is slow  # pictures: no hurry


def test_where_nothing_keeps_up_the_one_that_loses_least_is_taken() -> None:
    fine, coarse, blind = trial(1, 1.0), trial(4, 0.9), trial(20, 0.0)
    assert choose([fine, coarse, blind], 30) is coarse


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(64, 4000), st.integers(64, 4000)),
    st.sampled_from([None, (320, 320), (416, 416), (640, 384)]),
    st.lists(st.floats(1, 400), min_size=1, max_size=5),
    st.booleans(),
)
def test_ways_to_look_fit_the_objects(
    frame_wh: tuple[int, int], input_wh: tuple[int, int] | None, px: list[float], still: bool
) -> None:
    sizes = sizes_of(*px)
    ways = candidates(frame_wh, InputSpec(wh=input_wh), sizes, still=still)
    assert ways
    assert ways[0].look == "all"  # the reference looks at everything ...
    assert ways[0].zoom == max(way.zoom for way in ways)  # ... most closely
    assert len({(way.tile, way.look) for way in ways}) == len(ways)
    for way in ways:
        assert 0 <= way.overlap <= 0.5
        assert not still or way.look == "all"
        if way.tile != "none" and input_wh is not None:
            assert sizes.at(50) * way.zoom >= 3
            if not way.whole_frame:  # a large object is whole in some tile
                assert way.overlap * int(way.tile) >= min(1.25 * sizes.at(95), 0.1 * int(way.tile)) * 0.9


def test_sizes_come_from_labels_of_any_kind(tmp_path: Path) -> None:
    labels = tmp_path / "l.csv"
    labels.write_text("frame,class,x,y,w,h,visible\n0,ball,0,0,4,9,1\n1,ball,3,4,4,9,1\n2,ball,9,9,0,0,0\n")
    sizes = sizes_from_labels(labels)
    assert sizes is not None
    assert sizes.size.tolist() == [6, 6]
    assert sizes.speed[0] == 5  # the second also counts the step to where the ball is hidden
    labels.write_text("frame,visible,cx,cy\n0,1,4,9\n")
    assert sizes_from_labels(labels) is None


def test_the_command_tunes_a_clip_and_its_file_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned"
    words = [
        "tune",
        "demo",
        "--set",
        "source.demo_size=480x270",
        "--max-frames",
        "12",
        "--seconds",
        "3",
        "--rounds",
        "1",
    ]
    assert main([*words, "--fps", "0.5", "--set", "model.backend=onnxruntime", "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "the reference" in said
    assert "next: streamdet run demo --config" in said
    record = json.loads((out / "tune.json").read_text())
    assert {(way["tiles.tile"], way["tiles.look"]) for way in record["trials"]} == {
        (320, "all"),
        (320, "motion"),
        ("none", "all"),
    }
    reference = next(way for way in record["trials"] if way["reference"])
    assert reference["recall"] in (1.0, None)  # it agrees with itself (None: it saw nothing in so few frames)
    assert all(way["fps"] > 0 for way in record["trials"])
    assert {one["batch"] for one in record["tile_speed"]} == {1, 2, 4, 8, 16}
    config = load(out / "tuned.yaml")
    chosen = record["trials"][record["chosen"]]
    assert (config.tiles.tile, config.tiles.overlap, config.tiles.look) == (
        chosen["tiles.tile"], chosen["tiles.overlap"], chosen["tiles.look"],
    )  # fmt: skip
    assert (out / "plan.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert "data:image/jpeg" in (out / "tune.html").read_text()
    again = [
        "run",
        "demo",
        "--config",
        str(out / "tuned.yaml"),
        "--set",
        "source.demo_size=480x270",
        "--max-frames",
        "3",
        "-q",
    ]
    assert main([*again, "--frames", str(tmp_path / "f.jsonl")]) == 0
    assert len((tmp_path / "f.jsonl").read_text().splitlines()) == 3


def test_a_data_set_is_tuned_on_its_own_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures that were not looked at (only 4 of 8 are) do not count as missed."""
    import cv2
    from test_widen import detector  # type: ignore[import-not-found]

    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "labels").mkdir()
    for n in range(8):
        picture = np.random.default_rng(n).integers(0, 255, (100, 160, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "set" / "images" / f"p{n}.png"), picture)
        (tmp_path / "set" / "labels" / f"p{n}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "set" / "classes.txt").write_text("ball\nbird\n")
    words = [
        "tune",
        str(tmp_path / "set"),
        "--model",
        str(detector(tmp_path / "m.onnx")),
        "--max-frames",
        "4",
        "--rounds",
        "1",
    ]
    assert main([*words, "--set", "model.backend=onnxruntime", "--output", str(tmp_path / "out")]) == 0
    assert f"next: streamdet run {tmp_path / 'set' / 'images'}" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert record["frames"] == 4
    assert all(way["tiles.look"] == "all" for way in record["trials"])


@pytest.mark.parametrize(("frames", "held"), [(20, 6), (12, 6), (150, 6), (20, 0)])
def test_results_that_come_at_once_at_the_end_make_nothing_faster(frames: int, held: int) -> None:
    done = [0.1 * min(number + held, frames - 1) for number in range(frames)]  # 10 frames a second, told `held` later
    assert steady_fps(done, held) == pytest.approx(10)
    assert steady_fps(done[:held], held) is None


def test_what_cannot_be_tuned_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "demo", "--model", "motion", "--set", "source.demo_size=320x180", "--max-frames", "2"]) == 2
    assert "looks at no tiles" in capsys.readouterr().err
    assert main(["tune", "demo", "--rounds", "0"]) == 2
    assert main(["tune", "demo", "--fps", "nan"]) == 2
    assert main(["tune", "demo", "--within", "-1"]) == 2
    empty = tmp_path / "empty.json"
    empty.write_text('{"images": [], "annotations": [], "categories": []}')
    assert main(["tune", str(empty)]) == 2
    assert "holds no pictures" in capsys.readouterr().err
    assert main(["tune", str(tmp_path / "none.mp4")]) == 3


# -------------------------------------------------------------------------------------------------------------- anchors


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 6))
def test_the_fit_of_anchors_agrees_with_counting(seed: int, boxes: int, anchors: int) -> None:
    rng = np.random.default_rng(seed)
    wh, shapes = rng.uniform(2, 300, (boxes, 2)), rng.uniform(2, 300, (anchors, 2))
    recalled, total, matches = 0, 0.0, 0
    for w, h in wh:
        best = 0.0
        for a, b in shapes:
            worse = min(w / a, a / w, h / b, b / h)
            matches += worse > 1 / 4
            best = max(best, worse)
        recalled += best > 1 / 4
        total += best if best > 1 / 4 else 0
    score = score_anchors(wh, shapes)
    assert score.best_possible_recall == pytest.approx(recalled / boxes)
    assert score.fitness == pytest.approx(total / boxes)
    assert score.anchors_per_box == pytest.approx(matches / boxes)


def test_three_kinds_of_boxes_give_three_anchors() -> None:
    rng = np.random.default_rng(3)
    kinds = np.array([[6.0, 6], [20, 9], [60, 80]])
    wh = np.concatenate([kind * rng.normal(1, 0.03, (200, 2)) for kind in kinds])
    anchors = kmeans_anchors(wh, 3)
    np.testing.assert_allclose(anchors, kinds, rtol=0.05)
    evolved = evolve_anchors(wh, anchors * 1.5, generations=300)
    assert score_anchors(wh, evolved).fitness > score_anchors(wh, anchors * 1.5).fitness


def coco_file(folder: Path, side: float) -> Path:
    """200 pictures of 1280x720 with one box each, about `side` px."""
    rng = np.random.default_rng(0)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 1280, "height": 720} for n in range(1, 201)]
    boxes = [[10, 10, *(side * rng.uniform(0.7, 1.4, 2)).tolist()] for _ in images]
    rows = [{"id": n, "image_id": n, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, 1)]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "ball"}]}))
    return path


def test_small_objects_need_their_own_anchors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco_file(tmp_path, 5)  # 2.5 px in training: COCO's smallest anchor is 10x13
    fitted = fit_anchors(path, count=9, generations=200)
    assert fitted.before.best_possible_recall < 0.5
    assert fitted.after.best_possible_recall > 0.95
    assert fitted.after.fitness >= fitted.clustered.fitness
    assert main(["tune", str(path), "--anchors", "9", "--generations", "50"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [len(level) for level in record["anchors"]] == [6, 6, 6]


def test_anchors_are_never_worse_than_cocos_own(tmp_path: Path) -> None:
    fitted = fit_anchors(coco_file(tmp_path, 60), count=9, generations=20)
    assert fitted.after.fitness >= fitted.before.fitness
    assert len(USUAL) == 9


def test_too_few_boxes_for_the_anchors_are_told(tmp_path: Path) -> None:
    labels = tmp_path / "l.csv"
    labels.write_text("frame,class,x,y,w,h,visible\n" + "".join(f"{n},ball,0,0,8,8,1\n" for n in range(20)))
    with pytest.raises(UsageError, match="only 1 kinds of boxes"):
        fit_anchors(labels, count=3)
    labels.write_text("frame,visible,cx,cy\n0,1,4,9\n")
    with pytest.raises(ConfigError, match="are points"):
        fit_anchors(labels)
