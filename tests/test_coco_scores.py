"""COCO average precision against pycocotools on COCO's own example results, and on clips and pictures of ours."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from streamdet.cli import main
from streamdet.errors import ConfigError
from streamdet.scoring.average_precision import average_precision
from streamdet.scoring.coco import read_coco_results, read_coco_truth
from streamdet.scoring.evaluate import evaluate

NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def pycocotools_of(truth: Path, results: Path) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(truth))
        scored = COCOeval(labels, labels.loadRes(str(results)), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return list(scored.stats)


def assert_equal(ours: dict[str, float | None], theirs: list[float]) -> None:
    for name, value in zip(NAMES, theirs):
        own = ours[name]
        assert (-1.0 if own is None else own) == pytest.approx(value, abs=1e-12), name


def test_cocos_own_example_scores_as_in_pycocotools(shared_data: Path) -> None:
    truth = shared_data / "coco_eval" / "instances_val2014_100.json"
    results = shared_data / "coco_eval" / "instances_val2014_fakebbox100_results.json"
    ours = evaluate(results, truth).to_dict()
    assert_equal(ours["coco"], pycocotools_of(truth, results))
    assert ours["coco"]["AP"] == pytest.approx(0.505, abs=5e-4)  # what pycocotools' demo prints
    assert ours["coco"]["by_class"]["person"]["targets"] > 100
    assert ours["tracking"] is None
    assert ours["tp"] > 300


def made_up(folder: Path, seed: int) -> tuple[Path, Path]:
    """Pictures with boxes of many sizes, some crowds; results with noise, wrong classes and doubles."""
    rng = np.random.default_rng(seed)
    images = [{"id": int(n), "file_name": f"p{n}.jpg", "width": 640, "height": 480} for n in range(1, 9)]
    categories = [{"id": n, "name": f"c{n}"} for n in (2, 5, 9)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 12)):
            size = 2 ** rng.uniform(2, 8, 2)
            box = [*(rng.uniform(0, 1, 2) * (640, 480)), *size]
            kind = int(rng.choice([2, 5, 9]))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": kind, "bbox": list(map(float, box)),
                 "area": float(size.prod()), "iscrowd": int(rng.random() < 0.1)}
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                claim = np.array(box) + rng.normal(0, 0.15, 4) * [*size, *size]
                results.append(
                    {"image_id": image["id"], "category_id": kind if rng.random() < 0.9 else 2,
                     "bbox": [*claim[:2].tolist(), *np.abs(claim[2:]).tolist()], "score": float(rng.random())}
                )  # fmt: skip
    truth, claims = folder / "truth.json", folder / "results.json"
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    claims.write_text(json.dumps(results))
    return truth, claims


@pytest.mark.parametrize("seed", range(8))
def test_made_up_pictures_score_as_in_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, claims = made_up(tmp_path, seed)
    assert_equal(
        average_precision(read_coco_truth(truth), read_coco_results(claims)).to_dict(), pycocotools_of(truth, claims)
    )


def frames_file(folder: Path, truth: Path, claims: Path) -> Path:
    """The same results as our own frames.jsonl of still pictures, in another order than the ids."""
    labels, rows = json.loads(truth.read_text()), json.loads(claims.read_text())
    name = {c["id"]: c["name"] for c in labels["categories"]}
    lines = []
    for frame, image in enumerate(reversed(labels["images"])):
        objects = []
        for row in rows:
            if row["image_id"] == image["id"]:
                x, y, w, h = row["bbox"]
                objects.append(
                    {"track": None, "class_id": 0, "label": name[row["category_id"]], "score": row["score"],
                     "bbox": [x, y, x + w, y + h]}
                )  # fmt: skip
        lines.append(
            {"schema": 1, "stream": "s", "frame": frame, "name": image["file_name"], "pts_s": 0, "objects": objects}
        )
    path = folder / "s.frames.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_our_own_frames_are_put_on_the_pictures_by_name(tmp_path: Path) -> None:
    truth, claims = made_up(tmp_path, 3)
    ours = evaluate(frames_file(tmp_path, truth, claims), truth).to_dict()
    theirs = evaluate(claims, truth).to_dict()
    for name in NAMES:
        assert ours["coco"][name] == pytest.approx(theirs["coco"][name], abs=1e-9), name
    assert ours["tp"] == theirs["tp"]


def test_with_an_end_only_pictures_that_were_looked_at_count(tmp_path: Path) -> None:
    truth, claims = made_up(tmp_path, 3)
    frames = frames_file(tmp_path, truth, claims)
    frames.write_text("\n".join(frames.read_text().splitlines()[:4]) + "\n")
    every, seen = evaluate(frames, truth).points, evaluate(frames, truth, span=(0, 4)).points
    assert (every.labelled_frames, seen.labelled_frames) == (8, 4)
    assert seen.fn < every.fn
    assert seen.tp == every.tp


def test_category_ids_of_another_world_are_refused(tmp_path: Path) -> None:
    truth, claims = made_up(tmp_path, 1)
    rows = json.loads(claims.read_text())
    rows[0]["category_id"] = 0
    claims.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match="category 0, which the labels do not have"):
        evaluate(claims, truth)


CLIP = """frame,id,class,x,y,w,h,visible
0,1,ball,10,10,9,9,1
1,1,ball,20,10,9,9,1
2,1,ball,30,10,9,9,0
3,1,ball,40,10,9,9,1
0,9,person,200,100,40,90,1
"""


def clip(folder: Path) -> tuple[Path, Path]:
    labels, frames = folder / "c.csv", folder / "c.frames.jsonl"
    labels.write_text(CLIP)
    lines = []
    for n, boxes in enumerate([[[10, 10, 19, 19], [205, 110, 235, 180]], [[20, 10, 29, 19]], [[30, 10, 39, 19]], []]):
        objects = [
            {"track": k + 1, "state": "confirmed", "class_id": 0, "label": "ball", "score": 0.9, "bbox": box}
            for k, box in enumerate(boxes)
        ]
        lines.append({"schema": 1, "stream": "c", "frame": n, "pts_s": n / 10, "objects": objects})
    frames.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return frames, labels


def test_a_clips_boxes_and_identities_are_scored_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, labels = clip(tmp_path)
    assert main(["eval", str(frames), str(labels)]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["tp"], score["fp"], score["fn"]) == (2, 0, 1)
    assert score["coco"]["AP50"] == pytest.approx(
        67 / 101
    )  # recall 2/3 at precision 1; hidden ball and person do not count
    assert score["coco"]["AP50_by_size"].keys() == {"8-16"}
    assert score["tracking"]["MOTA"] == pytest.approx(2 / 3)
    assert score["tracking"]["DetA"] == pytest.approx(2 / 3)
    assert score["not_scored"] == {}


def test_labels_that_allow_less_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, _ = clip(tmp_path)
    points = tmp_path / "points.csv"
    points.write_text("frame,visible,cx,cy\n0,1,14,14\n1,1,24,14\n")
    assert main(["eval", str(frames), str(points)]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["coco"], score["tracking"]) == (None, None)
    assert "points" in score["not_scored"]["coco"]
    assert "identities" in score["not_scored"]["tracking"]


def test_wrong_label_files_give_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, _ = clip(tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text(
        '{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]}'
    )
    assert main(["eval", str(frames), str(bad)]) == 2
    assert "image 1" in capsys.readouterr().err
    bad.write_text("{}")
    assert main(["eval", str(frames), str(bad)]) == 2
    assert "COCO labels" in capsys.readouterr().err
    bad.write_text('{"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 1}]}')
    assert main(["eval", str(frames), str(bad)]) == 2
    assert "the same id" in capsys.readouterr().err


def test_results_that_belong_to_no_such_labels_give_one_sentence(tmp_path: Path) -> None:
    _, labels = clip(tmp_path)
    claims, truth = tmp_path / "claims.json", tmp_path / "truth.json"
    row = {"image_id": 10**15, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}
    claims.write_text(json.dumps([row]))
    with pytest.raises(ConfigError, match="are no frames of a clip"):
        evaluate(claims, labels)
    truth.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ConfigError, match="no categories"):
        evaluate(claims, truth)
