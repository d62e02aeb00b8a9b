"""Scores against hand-computed cases, a brute-force pairing, and what must hold for any input."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.errors import ConfigError, UsageError
from streamdet.options import span_of
from streamdet.scoring import Found, Labels, Pairing, demo_score, point_score, read_frames_jsonl, read_labels
from streamdet.scoring.labels import read_mot_results
from streamdet.scoring.pairing import _assign

Row = tuple[int, int, float, float, float]  # frame, track, cx, cy, score


def found_of(rows: list[Row], frames: int = 10, state: str = "confirmed") -> Found:
    table = np.array(rows, float).reshape(-1, 5)
    centre = table[:, 2:4]
    return Found(
        frames=np.arange(frames),
        pts_s=np.arange(frames) / 10,
        frame=table[:, 0].astype(int),
        track=table[:, 1].astype(int),
        score=table[:, 4],
        xyxy=np.concatenate([centre - 3, centre + 3], axis=1),
        name=np.array(["ball"] * len(table), np.str_),
        state=np.array([state] * len(table), np.str_),
    )


def labels_of(
    rows: list[tuple[int, int, float, float]],
    *,
    frames: list[int] | None = None,
    size: float = 6,
    names: list[str] | None = None,
    hidden: tuple[int, ...] = (),
    format: str = "truth",
) -> Labels:
    table = np.array(rows, float).reshape(-1, 4)
    return Labels(
        frames=np.array(sorted(set(table[:, 0].astype(int).tolist())) if frames is None else frames, np.int64),
        frame=table[:, 0].astype(int),
        id=table[:, 1].astype(int),
        name=np.array(names or ["ball"] * len(table), np.str_),
        centre=table[:, 2:],
        wh=np.full((len(table), 2), float(size)),
        visible=np.array([n not in hidden for n in range(len(table))], np.bool_),
        format=format,
    )


def test_hand_computed_points() -> None:
    labels = labels_of(
        [(0, -1, 100, 100), (1, -1, 110, 100), (2, -1, 120, 100), (4, -1, 200, 100)], frames=[0, 1, 2, 3, 4]
    )
    found = found_of(
        [
            (1, 5, 113, 104, 0.9),  # 5 px off: right
            (1, 6, 300, 300, 0.95),  # false, and of higher score
            (2, 5, 120, 100, 0.8),  # right
            (3, 5, 130, 100, 0.8),  # labelled as empty: false
            (4, 7, 200, 106, 0.8),  # 6 px off: false, the target missed
            (7, 7, 200, 100, 0.8),  # unlabelled
        ]
    )
    score = point_score(found, labels)
    assert (score.tp, score.fp, score.fn, score.ignored, score.labelled_frames) == (2, 3, 2, 1, 5)
    assert score.precision == 0.4
    assert score.recall == 0.5
    assert score.f1 == pytest.approx(4 / 9)
    assert score.false_per_frame == 0.6
    assert score.top1 == 0.25  # frame 2 of 0, 1, 2, 4
    assert score.median_error_px == 2.5
    assert score.first_delay_frames == 1
    assert score.first_delay_s == pytest.approx(0.1)
    assert score.id_switches == 0
    assert {name: (band.recall, band.count) for name, band in score.recall_by_speed.items()} == {
        "10-30": (pytest.approx(2 / 3), 3)  # frame 4 has no neighbour: speed unknown
    }
    assert score.recall_by_size["4-8"].count == 4


def test_inside_a_loose_box_is_on_target_only_when_asked() -> None:
    labels, found = labels_of([(0, -1, 100, 100)], size=40), found_of([(0, 1, 118, 100, 1)])
    assert point_score(found, labels).tp == 0
    assert point_score(found, labels, within_box=True).tp == 1
    assert point_score(found_of([(0, 1, 121, 100, 1)]), labels, within_box=True).tp == 0


def test_frames_the_run_never_saw_are_missed_and_told() -> None:
    labels = labels_of([(0, -1, 50, 50), (20, -1, 50, 50)])
    score = point_score(found_of([(0, 1, 50, 50, 1)]), labels)
    assert (score.tp, score.fn, score.frames_missing) == (1, 1, 1)


def test_tentative_objects_are_no_statement() -> None:
    score = point_score(
        found_of([(0, 0, 50, 50, 1), (0, 0, 90, 50, 1)], state="tentative"), labels_of([(0, -1, 50, 50)])
    )
    assert (score.tp, score.fp, score.precision) == (0, 0, None)


def test_objects_where_a_target_is_hidden_are_neither_right_nor_wrong() -> None:
    labels = labels_of([(0, 1, 50, 50), (0, 2, 90, 50)], hidden=(1,))
    score = point_score(found_of([(0, 1, 50, 50, 1), (0, 2, 91, 50, 1), (0, 3, 92, 50, 1)]), labels)
    assert (score.tp, score.fp, score.fn, score.ignored) == (1, 1, 0, 1)


def test_switches_of_the_track_number_are_counted() -> None:
    labels = labels_of([(n, 1, 50 + n, 50) for n in range(6)])
    found = found_of([(0, 1, 50, 50, 1), (1, 1, 51, 50, 1), (3, 2, 53, 50, 1), (4, 2, 54, 50, 1), (5, 1, 55, 50, 1)])
    assert point_score(found, labels).id_switches == 2


def test_the_pairing_maximises_hits_before_distance() -> None:
    # greedily, the object between both takes the nearer target, and the other object is left with nothing in reach
    labels = labels_of([(0, 1, 50, 50), (0, 2, 56, 50)])
    score = point_score(found_of([(0, 1, 52, 50, 1), (0, 2, 47, 50, 1)]), labels)
    assert (score.tp, score.fp) == (2, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10_000))
def test_pairing_agrees_with_trying_all(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance = rng.uniform(0, 10, (rows, columns))
    near = distance < 5
    best = (0, 0.0)
    for chosen in itertools.permutations(range(max(rows, columns)), rows):
        pairs = [(r, c) for r, c in enumerate(chosen) if c < columns and near[r, c]]
        best = max(best, (len(pairs), -sum(distance[p] for p in pairs)))
    ours = _assign(near, distance)
    assert len(ours) == best[0]
    assert sum(distance[p] for p in ours) == pytest.approx(-best[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_rows_is_of_no_account_and_perfect_is_perfect(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [(f, i, float(rng.uniform(0, 900)), 60.0 * i) for f in range(10) for i in range(1, 4)]
    labels = labels_of(truth)
    perfect = [(f, i, x, y, float(rng.choice([0.5, 0.9]))) for f, i, x, y in truth]
    score = point_score(found_of(perfect), labels)
    assert score.precision == score.recall == score.f1 == score.top1 == 1
    assert (score.id_switches, score.never_found, score.p95_error_px) == (0, 0, pytest.approx(0))
    tracks = demo_score(found_of(perfect), labels)
    assert (tracks.recall, tracks.tracks, tracks.true_tracks) == (1, 3, 3)
    noisy = [(f, i, x + float(rng.normal(0, 4)), y, s) for f, i, x, y, s in perfect if rng.random() < 0.8]
    noisy += [(int(rng.integers(10)), 9, 400.0, 400.0, 0.9) for _ in range(3)]
    shuffled = [noisy[n] for n in rng.permutation(len(noisy))]
    back = labels_of([truth[n] for n in rng.permutation(len(truth))], frames=list(range(10)))
    assert point_score(found_of(noisy), labels) == point_score(found_of(shuffled), back)
    assert demo_score(found_of(noisy), labels) == demo_score(found_of(shuffled), back)


def test_nothing_found_and_nothing_to_find() -> None:
    nothing = point_score(found_of([]), labels_of([(0, -1, 5, 5)]))
    assert (nothing.recall, nothing.precision, nothing.fn, nothing.never_found) == (0, None, 1, 1)
    empty = point_score(found_of([(0, 1, 5, 5, 1)]), labels_of([], frames=[0, 1]))
    assert (empty.recall, empty.fp, empty.false_per_frame, empty.top1) == (None, 1, 0.5, None)
    json.dumps([nothing.to_dict(), empty.to_dict(), demo_score(found_of([]), labels_of([])).to_dict()], allow_nan=False)


def test_overlap_is_told_where_boxes_are_tight() -> None:
    rows, found = [(0, 1, 100.0, 100.0), (1, 1, 100.0, 100.0)], found_of([(0, 1, 100, 100, 1), (1, 1, 103, 100, 1)])
    assert point_score(found, labels_of(rows, size=6)).median_iou == pytest.approx((1 + 1 / 3) / 2)  # 18 of 54 px
    assert point_score(found, labels_of(rows, size=6, format="loose boxes")).median_iou is None
    assert point_score(found, labels_of(rows, size=0, format="points")).median_iou is None


def test_a_span_makes_the_other_frames_unlabelled() -> None:
    labels = labels_of([(frame, -1, 50, 50) for frame in range(6)])
    found = found_of([(0, 1, 90, 50, 1), (3, 1, 50, 50, 1), (5, 1, 90, 50, 1)])
    score = point_score(found, labels.between(2, 5))
    assert (score.tp, score.fp, score.fn, score.ignored, score.labelled_frames) == (1, 0, 2, 2, 3)
    assert labels.between(4, None).frames.tolist() == [4, 5]


def test_who_is_false_and_who_is_missed() -> None:
    labels = labels_of([(0, 1, 50, 50), (1, 1, 52, 50), (2, 1, 54, 50)], hidden=(2,))
    pairing = Pairing(found_of([(0, 1, 51, 50, 1), (1, 2, 90, 50, 1), (2, 3, 54, 50, 1)]), labels)
    assert pairing.found.track[pairing.false].tolist() == [2]
    assert pairing.labels.frame[pairing.missed].tolist() == [1]
    assert pairing.labels.frame[pairing.on[pairing.on >= 0]].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "span"), [(None, (0, None)), (":", (0, None)), ("60:", (60, None)), (":120", (0, 120)), ("3:9", (3, 9))]
)
def test_spans_on_the_command_line(text: str | None, span: tuple[int, int | None]) -> None:
    assert span_of(text) == span


@pytest.mark.parametrize("text", ["60", "a:b", "-1:5", "1:2:3"])
def test_bad_spans_are_told(text: str) -> None:
    with pytest.raises(UsageError, match="--span"):
        span_of(text)


def test_verdicts_on_whole_tracks() -> None:
    rows = [(f, 1, 100.0 + 10 * f, 100.0) for f in range(10)] + [(f, 2, 500.0, 300.0) for f in range(10)]
    truth = labels_of(rows, names=["ball"] * 10 + ["person"] * 10, size=30, hidden=(4, 5))
    ball = [(f, 1, 100.0 + 10 * f, 101.0, 0.9) for f in range(10)]
    found = found_of(
        [
            *ball,
            *[(f, 2, 100.0 + 10 * f, 112.0, 0.5) for f in range(10)],  # a second box on the same ball
            *[(f, 3, 490.0, 310.0, 0.9) for f in range(10)],  # the person
            *[(f, 4, 800.0, 800.0, 0.9) for f in range(3)],  # nothing
            *[(f, 5, 100.0 + 10 * f if f > 7 else 700.0, 90.0, 0.9) for f in range(10)],  # nothing for most of its life
        ]
    )
    score = demo_score(found, truth)
    assert (score.tracks, score.true_tracks, score.other_tracks, score.false_tracks) == (5, 1, 1, 3)
    assert score.duplicate_tracks == 1
    assert score.seconds == 1.0
    assert score.false_tracks_per_s == 3.0
    assert score.recall == 1
    assert score.points.tp == 8
    assert set(score.recall_by_class) == {"ball"}
    assert demo_score(found, truth, fps=20).false_tracks_per_s == 6.0
    assert demo_score(found_of(ball), truth).false_tracks_per_s == 0


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("text", "kind", "frames", "rows"),
    [
        ("frame,class,x,y,w,h\n3,DRONE,10,20,4,6\n5,DRONE,11,20,4,6\n", "loose boxes", [3, 5],
         [(3, -1, 12, 23, True), (5, -1, 13, 23, True)]),
        ("frame,class,x,y,w,h,visible\n0,ball,10,20,4,6,1\n2,ball,10,20,4,6,0\n", "boxes", [0, 2],
         [(0, -1, 12, 23, True), (2, -1, 12, 23, False)]),
        ("frame,visible,cx,cy\r\n0,0,,\r\n1,1,5.5,6\r\n", "points", [0, 1], [(1, -1, 5.5, 6, True)]),
        ("Frame,Visibility,X,Y\n0,1,7,8\n1,0,0,0\n", "points", [0, 1], [(0, -1, 7, 8, True)]),
        ("file name,visibility,x-coordinate,y-coordinate,status\n0004.jpg,2,7,8,0\n0005.jpg,0,,,\n", "points", [4, 5],
         [(4, -1, 7, 8, True)]),
        ("\ufeffframe,id,class,x,y,w,h,visible\n0,7,ball,0,0,4,4,1\n3,7,ball,2,0,4,4,0\n", "truth", [0, 1, 2, 3],
         [(0, 7, 2, 2, True), (3, 7, 4, 2, False)]),
        ("2,1,10,20,4,6,1,3,1.0\n3,1,10,20,4,6,0,3,1.0\n", "mot", [0, 1, 2],
         [(1, 1, 12, 23, True), (2, 1, 12, 23, False)]),
    ],
)  # fmt: skip
def test_label_formats(tmp_path: Path, text: str, kind: str, frames: list[int], rows: list[tuple[float, ...]]) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    labels = read_labels(path)
    assert labels.format == kind
    assert labels.frames.tolist() == frames
    read = zip(labels.frame, labels.id, *labels.centre.T, labels.visible)
    assert [tuple(row) for row in read] == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3\n", "unknown header 'a,b,c'"),
        ("frame,class,x,y,w,h\n0,ball,1,2,x,4\n", "line 2"),
        ("frame,class,x,y,w,h\n0,ball,1,2\n", "line 2"),
        ("frame,class,x,y,w,h\n0,ball,nan,2,3,4\n", "line 2"),
        ("frame,visible,cx,cy\n0,1,,\n", "line 2"),
        ("frame,class,x,y,w,h\n0,ball,1,2,-3,4\n", "line 2"),
        ("frame,visible,cx,cy\n0,1,5,5\n999999999999,1,5,5\n", "line 3"),
        (f"frame,id,class,x,y,w,h,visible\n0,{10**20},ball,1,2,3,4,1\n", "line 2"),
    ],
)
def test_bad_labels_are_told_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_labels(path)
    with pytest.raises(ConfigError, match="cannot read labels"):
        read_labels(tmp_path / "none.csv")


LINE = '{"schema":1,"stream":"%s","frame":%d,"pts_s":%f,"epoch":0,"objects":[%s]}\n'
OBJECT = '{"track":3,"state":"confirmed","class_id":0,"label":"ball","score":0.5,"bbox":[1,2,3,4],"velocity":[0,0]}'


def test_frames_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.frames.jsonl"
    path.write_text(LINE % ("a", 0, 0, "") + LINE % ("a", 1, 0.04, OBJECT + "," + OBJECT) + LINE[:30])
    found = read_frames_jsonl(path)
    assert (found.frames.tolist(), found.frame.tolist(), found.track.tolist()) == ([0, 1], [1, 1], [3, 3])
    assert found.centre.tolist() == [[2, 3], [2, 3]]
    assert found.cut_lines == 1
    assert found.fps == pytest.approx(25)
    path.write_text("")
    with pytest.raises(ConfigError, match="hold no frames"):
        read_frames_jsonl(path)


def test_bad_results_are_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINE % ("a", 0, 0, "") + "not json\n" + LINE % ("a", 1, 0.04, ""))
    with pytest.raises(ConfigError, match="line 2"):
        read_frames_jsonl(path)
    path.write_text("frame,class\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_frames_jsonl(path)
    path.write_text(LINE % ("a", 0, 0, "") + LINE % ("b", 0, 0, OBJECT))
    with pytest.raises(ConfigError, match="2 streams"):
        read_frames_jsonl(path)
    assert len(read_frames_jsonl(path, stream="b")) == 1
    with pytest.raises(ConfigError, match="no stream 'c'"):
        read_frames_jsonl(path, stream="c")
    with pytest.raises(ConfigError, match="cannot read results"):
        read_frames_jsonl(tmp_path / "none.jsonl")
    path.write_text(LINE % ("a", 10**30, 0, "") + LINE % ("a", 0, 0, ""))
    with pytest.raises(ConfigError, match="line 1"):
        read_frames_jsonl(path)
    for row in ("1e18,1,10,10,20,20,0.9", "0,1,10,10,20,20,0.9", "1,1e30,10,10,20,20,0.9"):
        path.write_text(f"{row}\n")
        with pytest.raises(ConfigError, match=r"line 1.*frames from 1"):
            read_mot_results(path)


def test_labels_of_the_real_clips(shared_data: Path) -> None:
    air = read_labels(shared_data / "clips/air/V_BIRD_006.csv")
    assert (len(air.frames), len(air), air.visible.all()) == (139, 139, True)
    tennis = read_labels(shared_data / "clips/tennis_amateur/labels.csv")
    assert len(tennis.frames) == 96
    shuttle = read_labels(shared_data / "clips/badminton/00022.csv")
    assert (len(shuttle.frames), shuttle.frame.max() <= shuttle.frames.max()) == (304, True)
    assert len(shuttle) < 304
