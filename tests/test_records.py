"""The record: plain JSON whatever comes in."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamdet.records import FrameRecord, encode, frame_record
from streamdet.types import Detections, Event, Frame, Picture, Result, TilePlan, Tracks

BLACK = Picture(np.zeros((48, 64), np.uint8), bgr=np.zeros((48, 64, 3), np.uint8))


def tracks_of(
    xyxy: object, *, state: object = 1, ids: object = None, score: object = 0.5, velocity: object = 0.0
) -> Tracks:
    box = np.asarray(xyxy, np.float32).reshape(-1, 4)
    n = len(box)
    number = np.arange(1, n + 1, dtype=np.int64) if ids is None else np.asarray(ids, np.int64)
    return Tracks(
        number,
        number + 100,
        box,
        np.broadcast_to(np.asarray(velocity, np.float32), (n, 2)),
        np.broadcast_to(np.asarray(score, np.float32), (n,)),
        np.zeros(n, np.int32),
        np.broadcast_to(np.asarray(state, np.uint8), (n,)),
        np.ones(n, np.float32),
        np.arange(n, dtype=np.int32),
    )


def result_of(
    tracks: Tracks | None = None, found: Detections | None = None, tiles: TilePlan | None = None, **frame: object
) -> Result:
    values = {"stream": "court", "index": 12, "pts_s": 0.4, "picture": BLACK, "captured_s": 0.0, **frame}
    return Result(
        Frame(**values),  # type: ignore[arg-type]
        found or Detections.empty(),
        tracks or Tracks.empty(),
        tiles=tiles,
        motion_state="steady",
        labels=("ball", "Mücke"),
    )


def test_line_as_documented() -> None:
    plan = TilePlan(
        (64, 48),
        (32, 32),
        np.zeros((5, 4), np.int32),
        np.ones((5, 2), np.float32),
        np.array([1, 1, 1, 3, 3], np.uint8),
        of=135,
    )
    result = result_of(
        tracks_of([[1.234, 2, 3.004, 4]], ids=[3], score=0.91237, velocity=[10.128, -4]),
        tiles=plan,
        pts=6144,
        time_base=Fraction(1, 15360),
        utc="2026-01-02T03:04:05.678Z",
    )
    line = encode(frame_record(result))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    tree = json.loads(line)
    assert tree.pop("latency_s") >= 0
    assert tree == {
        "schema": 1,
        "stream": "court",
        "frame": 12,
        "pts": 6144,
        "time_base": "1/15360",
        "pts_s": 0.4,
        "epoch": 0,
        "utc": "2026-01-02T03:04:05.678Z",
        "motion": "steady",
        "tiles": {"run": 5, "of": 135, "why": {"motion": 3, "sweep": 2}},
        "objects": [
            {
                "track": 3,
                "state": "confirmed",
                "class_id": 0,
                "label": "ball",
                "score": 0.9124,
                "bbox": [1.23, 2.0, 3.0, 4.0],
                "velocity": [10.13, -4.0],
            }
        ],
    }


def test_what_is_unknown_is_absent() -> None:
    tree = json.loads(encode(frame_record(result_of())))
    assert set(tree) == {"schema", "stream", "frame", "pts_s", "epoch", "motion", "objects"}
    assert tree["objects"] == []


def test_tentative_only_on_request_and_without_a_number() -> None:
    result = result_of(tracks_of([[0, 0, 4, 4], [8, 8, 9, 9], [1, 1, 2, 2]], state=[0, 1, 2], ids=[0, 7, 8]))
    assert [(o.track, o.state) for o in frame_record(result).objects] == [(7, "confirmed"), (8, "coasting")]
    assert next((o.track, o.state) for o in frame_record(result, tentative=True).objects) == (None, "tentative")


def test_what_a_detection_below_the_threshold_keeps_alive_is_marked_weak() -> None:
    tracks = tracks_of(np.tile([1, 1, 5, 5], (3, 1)), state=[1, 1, 2], score=[0.9, 0.15, 0.7])
    tracks = replace(tracks, detection_row=np.array([0, -1, -1], np.int32))
    objects = json.loads(encode(frame_record(result_of(tracks))))["objects"]
    assert [(thing["state"], thing.get("weak")) for thing in objects] == [
        ("confirmed", None),
        ("confirmed", True),
        ("coasting", None),
    ]


def test_still_lists_detections() -> None:
    found = Detections.of([[0, 0, 4, 4], [8, 8, 9, 9]], [0.5, 0.25], [1, 9])
    tree = json.loads(encode(frame_record(result_of(found=found, still=True, name="a b.jpg"))))
    assert tree["name"] == "a b.jpg"
    assert "motion" not in tree
    assert tree["objects"] == [
        {"track": None, "class_id": 1, "label": "Mücke", "score": 0.5, "bbox": [0.0, 0.0, 4.0, 4.0]},
        {"track": None, "class_id": 9, "label": "9", "score": 0.25, "bbox": [8.0, 8.0, 9.0, 9.0]},
    ]


ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (4, 4), elements=ANY_FLOAT),
    hnp.arrays(np.float32, (4,), elements=ANY_FLOAT),
    hnp.arrays(np.float32, (4, 2), elements=ANY_FLOAT),
    st.floats(),
)
def test_always_strict_json(box: np.ndarray, score: np.ndarray, velocity: np.ndarray, pts_s: float) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    for still in (False, True):
        result = result_of(
            tracks_of(box, score=score, velocity=velocity), Detections.of(box, score), pts_s=pts_s, still=still
        )
        record = frame_record(result)
        line = encode(record)
        tree = json.loads(line, parse_constant=refuse)
        numbers = [n for o in tree["objects"] for n in (*o["bbox"], o["score"], *o.get("velocity", ()))]
        assert all(isinstance(n, float) and np.isfinite(n) for n in numbers)
        assert msgspec.json.decode(line, type=FrameRecord) == record


def test_event_is_a_line_too() -> None:
    event = Event(type="new", stream="s", frame=1, pts_s=0.1, track=1, label="ball", score=0.5, bbox=(0, 0, 1, 1))
    tree = json.loads(encode(event))
    assert tree["type"] == "new"
    assert "zone" not in tree
    assert tree["schema"] == 1


def test_a_file_name_that_is_not_utf8() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    tree = json.loads(encode(frame_record(result_of(still=True, name=name))))
    assert tree["name"] == name


@pytest.mark.parametrize("count", [1000])
def test_a_crowd_takes_a_few_milliseconds(count: int) -> None:
    import time

    box = np.random.default_rng(0).uniform(0, 1000, (count, 4))
    result = result_of(tracks_of(box))
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        encode(frame_record(result))
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.05
