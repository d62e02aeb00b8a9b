"""The yardstick on a clip the test makes: runs are kept, counts add up, mistakes are drawn where they are."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from flight_clip import FRAMES, make_flight, place

from engines.clips import Clip, clips_of, shake_offsets, shaken
from engines.evaluate import Contender, Runner, evaluate, score_clip, table, write
from engines.pooling import pool
from engines.sheets import draw_sheet, mistakes, nothing_in
from streamdet.scoring import Found, read_frames_jsonl, read_labels


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flight(tmp_path_factory.mktemp("flight"))


def found_at(rows: list[tuple[int, float, float, str]]) -> Found:
    centre = np.array([row[1:3] for row in rows], float).reshape(-1, 2)
    return Found(
        frames=np.arange(FRAMES),
        pts_s=np.arange(FRAMES) / 30,
        frame=np.array([row[0] for row in rows], int),
        track=np.arange(1, len(rows) + 1),
        score=np.full(len(rows), 0.5),
        xyxy=np.concatenate([centre - 4, centre + 4], axis=1),
        name=np.array([row[3] for row in rows], np.str_),
        state=np.full(len(rows), "confirmed"),
    )


def test_one_command_scores_and_what_was_run_is_kept(flight: Path, tmp_path: Path) -> None:
    clips = [Clip("moving", flight, flight.with_suffix(".csv"), 5), Clip("quiet", flight, None, first=10)]
    run = Runner(tmp_path / "work", code="1")
    results = evaluate([Contender("motion", "motion")], clips, run, most=12, jobs=1)["motion"]
    moving, quiet = results["moving"], results["quiet"]
    assert moving["clips"]["flight"]["labelled_frames"] == 12
    assert moving["recall"] > 0.5
    assert moving["recall_by_speed"] == {"3-10": {"recall": moving["recall"], "count": 12}}
    assert (quiet["labelled_frames"], quiet["recall"]) == (12, None)
    assert quiet["false_per_frame"] > 0.5  # the disc, where nothing should be
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*.jsonl")}
    assert len(kept) == 2  # the first 12 frames, and the first 22
    sheets = tmp_path / "sheets"
    again = evaluate([Contender("motion", "motion")], clips, run, most=12, jobs=2, sheets=sheets)["motion"]
    assert (sheets / "quiet_flight_motion.png").is_file()
    assert again == results
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*.jsonl")} == kept
    assert "| moving | " in table({"motion": results})


def test_an_interrupted_run_is_run_again(flight: Path, tmp_path: Path) -> None:
    run = Runner(tmp_path, code="1")
    who, clip = Contender("motion", "motion"), Clip("moving", flight, flight.with_suffix(".csv"), 5)
    whole, _ = run(who, clip, 8)
    frames, seconds = next(tmp_path.glob("*.jsonl")), next(tmp_path.glob("*.seconds"))
    frames.write_text(frames.read_text()[:50])
    seconds.unlink()  # it is written last
    again, _ = run(who, clip, 8)
    assert again.frames.tolist() == whole.frames.tolist() == list(range(8))


def test_records_of_several_runs_meet_and_other_models_do_not(tmp_path: Path) -> None:
    path = tmp_path / "record.json"

    def record(group: str, sha: str, code: str = "a") -> dict[str, object]:
        models = {"tiny": {"sha256": sha, "options": []}}
        return {"code": code, "max_frames": None, "models": models, "results": {"tiny": {group: {"clips": {}}}}}

    write(path, record("tennis", "1"))
    assert list(write(path, record("badminton", "1"))["results"]["tiny"]) == ["badminton", "tennis"]
    write(path, {"speed": {"sizes": {}}})
    kept = json.loads(path.read_text())
    assert (list(kept["results"]["tiny"]), kept["speed"]) == (["badminton", "tennis"], {"sizes": {}})
    other = write(path, record("cars", "2"))  # another model of that name
    assert (list(other["results"]["tiny"]), other["speed"]) == (["cars"], {"sizes": {}})
    assert list(write(path, record("shake", "2", code="b"))["results"]["tiny"]) == ["shake"]


def test_counts_and_bands_are_pooled() -> None:
    part = {"top1": 0.5, "median_error_px": 1.0, "median_iou": None, "first_delay_frames": 2.0, "id_switches": 1}
    bands = {"recall_by_size": {}, "never_found": 0}
    one = part | bands | {"tp": 9, "fp": 1, "fn": 1, "labelled_frames": 20}
    two = part | bands | {"tp": 0, "fp": 9, "fn": 10, "labelled_frames": 20, "median_error_px": None, "top1": 0.0}
    one["recall_by_speed"], two["recall_by_speed"] = (
        {"10-30": {"recall": 0.9, "count": 10}},
        {
            "10-30": {"recall": 0.0, "count": 5},
            "3-10": {"recall": 0.0, "count": 5},
        },
    )
    total = pool({"one": one, "two": two})
    assert (total["precision"], total["recall"], total["f1"]) == (round(9 / 19, 4), 0.45, round(18 / 39, 4))
    assert (total["false_per_frame"], total["median_error_px"], total["top1"]) == (0.25, 1.0, 0.25)
    assert total["recall_by_speed"] == {"3-10": {"recall": 0.0, "count": 5}, "10-30": {"recall": 0.6, "count": 15}}
    assert (total["id_switches"], total["median_iou"]) == (2, None)


def test_a_rival_is_not_blamed_for_people_and_any_name_on_the_target_counts(flight: Path) -> None:
    clip = Clip("moving", flight, flight.with_suffix(".csv"), 5)
    rows = [(0, *place(0), "clock"), (1, 200.0, 200.0, "person"), (2, 200.0, 200.0, "bird")]
    strict, lenient = (score_clip(found_at(rows), clip, most=3, lenient=rule) for rule in (False, True))
    assert (strict["tp"], strict["fp"], strict["fn"]) == (1, 2, 2)
    assert (lenient["tp"], lenient["fp"], lenient["fn"]) == (1, 1, 2)


def test_a_shaken_copy_has_its_labels_where_its_target_went(flight: Path, tmp_path: Path) -> None:
    clip = shaken(flight, tmp_path)
    assert clip.labels is not None
    labels = read_labels(clip.labels)
    offsets = shake_offsets(FRAMES)
    assert np.abs(labels.centre - [place(frame) for frame in range(FRAMES)] - offsets).max() < 0.01
    assert 2 < np.std(shake_offsets(2000)) < 4
    with av.open(str(clip.path)) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == FRAMES
    for frame in range(0, FRAMES, 5):
        rows, columns = np.nonzero(pictures[frame] > 180)
        assert np.hypot(*(np.array([columns.mean(), rows.mean()]) - labels.centre[frame])) < 1
    made = clip.path.stat().st_mtime_ns
    assert shaken(flight, tmp_path).path.stat().st_mtime_ns == made


def test_sheets_show_each_mistake(flight: Path, tmp_path: Path) -> None:
    found, labels = (
        found_at([(3, *place(3), "ball"), (5, 200.0, 180.0, "bird")]),
        read_labels(flight.with_suffix(".csv")),
    )
    wrong = mistakes(found, labels.between(3, 6))
    assert [(one.kind, one.frame) for one in wrong] == [("false", 5), ("missed", 4), ("missed", 5)]
    sheet = draw_sheet(flight, wrong)
    assert sheet is not None
    assert (sheet.shape[1] // 3, sheet.dtype) == (2 * 96 + 2, np.uint8)
    middle = sheet[17 + 90 : 17 + 102, 97 - 6 : 97 + 6]
    assert middle.min() > 220  # the disc of the first miss, in the middle of its crop
    assert draw_sheet(flight, []) is None
    false = mistakes(found, nothing_in(found))
    assert [one.frame for one in false] == [3, 5]


def test_quiet_clips_are_scored_behind_what_was_trained_on(shared_data: Path, tmp_path: Path) -> None:
    clips = clips_of(shared_data, tmp_path, ["pedestrians", "cars", "people", "tennis"])
    assert {clip.group: clip.first for clip in clips if clip.labels is None} == {
        "pedestrians": 320,
        "cars": 150,
        "people": 560,
    }
    assert not list(tmp_path.iterdir())  # no shaken copy was asked for


def test_what_a_run_wrote_can_be_read(flight: Path, tmp_path: Path) -> None:
    run = Runner(tmp_path, code="1")
    run(Contender("motion", "motion"), Clip("moving", flight, None), 5)
    assert len(read_frames_jsonl(next(tmp_path.glob("*.jsonl"))).frames) == 5
