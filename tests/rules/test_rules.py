"""Events of tracks that are driven by hand, one frame after another."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from streamdet.config import Line, RulesConfig, Zone
from streamdet.errors import ConfigError
from streamdet.rules.engine import RulesEngine
from streamdet.rules.geometry import inside
from streamdet.types import COASTING, CONFIRMED, TENTATIVE, Event, Frame, Picture, Tracks

FPS = 10
BOX = [(100, 100), (200, 100), (200, 200), (100, 200)]


class Stage:
    """Frames of `wh` px at 10 fps, and an engine watching them. ``step`` takes {key: (x, y)} or {key: None} = coasting."""

    def __init__(self, *, labels: tuple[str, ...] = ("ball", "bird"), wh: tuple[int, int] = (400, 300), **config: Any):
        self.engine = RulesEngine(RulesConfig(**config), labels=labels, stream="court")
        self.wh, self.index, self.epoch, self.live = wh, 0, 0, False
        self.at: dict[int, tuple[float, float]] = {}
        self.label: dict[int, int] = {}
        self.score: dict[int, float] = {}
        self.events: list[Event] = []

    def step(
        self, where: dict[int, Any], *, tentative: tuple[int, ...] = (), ended: tuple[int, ...] = ()
    ) -> list[Event]:
        blank = np.zeros((self.wh[1], self.wh[0]), np.uint8)
        frame = Frame(
            stream="court",
            index=self.index,
            pts_s=self.index / FPS,
            picture=Picture(blank, make_bgr=lambda: np.repeat(blank[..., None], 3, axis=2)),
            captured_s=time.monotonic() - 0.5,
            pts=self.index * 512,
            time_base=Fraction(1, 5120),
            epoch=self.epoch,
            utc="2026-01-01T00:00:00Z" if self.live else None,
        )
        seen = {key: at is not None for key, at in where.items()}
        self.at.update({key: at for key, at in where.items() if at is not None})
        keys = list(where)
        state = [TENTATIVE if k in tentative else CONFIRMED if seen[k] else COASTING for k in keys]
        centre = np.array([self.at[key] for key in keys], np.float32).reshape(-1, 2)
        tracks = Tracks(
            id=np.array([0 if key in tentative else key * 10 for key in keys], np.int64),
            key=np.array(keys, np.int64),
            xyxy=np.concatenate([centre - 3, centre + 3], axis=1),
            velocity_xy=np.tile(np.float32([30, -40]), (len(keys), 1)),
            score=np.array([self.score.get(key, 0.5) for key in keys], np.float32),
            label=np.array([self.label.get(key, 0) for key in keys], np.int32),
            state=np.array(state, np.uint8),
            age_s=np.zeros(len(keys), np.float32),
            detection_row=np.array([0 if seen[key] else -1 for key in keys], np.int32),
            ended=np.array(ended, np.int64),
        )
        events = list(self.engine(frame, tracks))
        self.index += 1
        self.events += events
        return events

    def walk(self, xs: list[float], y: float = 150.0, key: int = 1) -> list[Event]:
        return [event for x in xs for event in self.step({key: (x, y)})]


def kinds(events: list[Event]) -> list[str]:
    return [event.type for event in events]


# ------------------------------------------------------------------------------------------------------------ lifecycle


def test_a_life_from_tentative_to_end() -> None:
    stage = Stage(update_s=0.3)
    stage.score[1] = 0.4
    assert stage.step({1: (10, 50)}, tentative=(1,)) == []
    stage.score[1] = 0.9
    assert stage.step({1: (20, 50)}, tentative=(1,)) == []
    stage.score[1] = 0.7
    (new,) = stage.step({1: (30, 50)})
    assert (new.type, new.track, new.label, new.frame, new.pts_s, new.stream) == ("new", 10, "ball", 2, 0.2, "court")
    assert (new.start_s, new.score, new.top_score, new.end_s) == (0.0, 0.7, 0.9, None)
    assert new.path == [(0.0, 10.0, 50.0), (0.1, 20.0, 50.0), (0.2, 30.0, 50.0)]
    assert (new.bbox, new.velocity, new.speed_px_s) == ((27.0, 47.0, 33.0, 53.0), (30.0, -40.0), 50.0)
    assert (new.pts, new.time_base, new.epoch, new.utc, new.latency_s) == (1024, "1/5120", 0, None, None)
    later = [stage.step({1: (30 + 10 * i, 50)}) for i in range(1, 7)]
    assert [kinds(events) for events in later] == [[], [], ["update"], [], [], ["update"]]
    assert stage.step({1: None}) == []
    (end,) = stage.step({}, ended=(1,))
    assert (end.type, end.track, end.end_s, end.start_s, end.pts_s) == ("end", 10, 0.8, 0.0, 1.0)
    assert end.path is not None
    assert len(end.path) == 9
    assert end.path[-1] == (0.8, 90.0, 50.0)
    assert stage.engine.finish() == ()
    assert stage.engine.counts()["objects"] == {"ball": 1}


def test_a_track_that_is_never_confirmed_says_nothing_and_is_forgotten() -> None:
    stage = Stage(zones=[Zone(name="yard", polygon=BOX, inertia=1)])
    for _ in range(5):
        stage.step({7: (150, 150)}, tentative=(7,))
    stage.step({}, ended=(7,))
    assert stage.events == []
    assert list(stage.engine.finish()) == []
    assert stage.engine._lives.slot_of == {}
    assert stage.engine._waiting == {}
    assert stage.engine.counts() == {
        "objects": {},
        "zones": {"yard": {"enter": {}, "leave": {}, "occupancy": {}}},
        "lines": {},
    }


def test_gaps_in_the_path_are_straight_lines_at_the_missed_frames() -> None:
    stage = Stage()
    stage.step({1: (10, 50)})
    stage.step({1: None})
    stage.step({})  # hidden while the tracker waits to re-link it
    stage.step({1: None})
    stage.step({1: (50, 90)})
    stage.step({1: None})  # a prediction at the end is no place it was seen
    (end,) = stage.engine.finish()
    assert end.path == [(0.0, 10, 50), (0.1, 20, 60), (0.2, 30, 70), (0.3, 40, 80), (0.4, 50, 90)]
    assert end.end_s == 0.4


def test_a_long_gap_in_the_path_stays_one() -> None:
    """Where a shuttle was for seconds before it was found again, nobody saw."""
    stage = Stage()
    stage.step({1: (10, 50)})
    for _ in range(5):
        stage.step({})
    stage.step({1: (50, 90)})
    (end,) = stage.engine.finish()
    assert end.path == [(0.0, 10, 50), (0.6, 50, 90)]


def test_a_new_epoch_ends_everything_with_the_old_epochs_time() -> None:
    stage = Stage(zones=[Zone(name="yard", polygon=BOX, inertia=1)])
    stage.walk([150, 151, 152])
    stage.epoch = 1
    events = stage.step({2: (10, 10)})
    assert [(e.type, e.track, e.epoch, e.frame) for e in events] == [
        ("leave", 10, 0, 2),
        ("end", 10, 0, 2),
        ("new", 20, 1, 3),
    ]


def test_finish_ends_the_living_once() -> None:
    stage = Stage()
    stage.step({1: (10, 10), 2: (50, 50), 3: (80, 80)}, tentative=(3,))
    assert [(e.type, e.track) for e in stage.engine.finish()] == [("end", 10), ("end", 20)]
    assert stage.engine.finish() == ()


def test_live_frames_have_latency_and_events_are_plain_json() -> None:
    stage = Stage(px_per_m=20, zones=[Zone(name="yard", polygon=BOX, inertia=1, dwell_s=[0.1])])
    stage.live = True
    stage.walk([150, 150, 150])
    assert {"new", "enter", "dwell"} <= set(kinds(stage.events))
    for event in stage.events:
        plain = msgspec.json.decode(msgspec.json.encode(event))
        assert 0.4 < plain["latency_s"] < 5
        assert plain["utc"].endswith("Z")
        assert plain["speed_m_s"] == 2.5
        assert "NaN" not in str(plain)
        for value in msgspec.structs.astuple(event):
            assert type(value) in (int, float, str, tuple, list, type(None))


def test_labels_that_change_move_the_count() -> None:
    stage = Stage()
    stage.walk([10, 20])
    stage.label[1] = 1
    stage.walk([30])
    assert stage.engine.counts()["objects"] == {"bird": 1}
    (end,) = stage.engine.finish()
    assert end.label == "bird"


# ---------------------------------------------------------------------------------------------------------------- zones


def test_enter_dwell_leave() -> None:
    stage = Stage(zones=[Zone(name="yard", polygon=BOX, inertia=2, dwell_s=[0.5, 0.2])], update_s=100)
    stage.walk([50, 90, 110, 120, 130, 140, 150, 160, 170, 180, 190, 210, 220, 230])
    got = [(e.type, e.frame, e.zone, e.dwell_s) for e in stage.events]
    assert got == [
        ("new", 0, None, None),
        ("enter", 3, "yard", None),
        ("dwell", 4, "yard", 0.2),
        ("dwell", 7, "yard", 0.5),
        ("leave", 12, "yard", 0.8),  # inside from frame 2 to frame 10
    ]
    assert stage.events[-1].ended is None, "it was seen to leave"
    zones = stage.engine.counts()["zones"]["yard"]
    assert zones == {"enter": {"ball": 1}, "leave": {"ball": 1}, "occupancy": {}}


def test_trembling_on_the_border_is_no_traffic() -> None:
    stage = Stage(zones=[Zone(name="yard", polygon=BOX, inertia=3)])
    stage.walk([98, 102] * 20)
    assert kinds(stage.events).count("enter") == 0
    stage.walk([110, 110, 110])
    stage.walk([98, 102, 97, 98, 103] * 10)
    assert [e.type for e in stage.events if e.zone] == ["enter"]
    assert stage.engine.counts()["zones"]["yard"]["occupancy"] == {"ball": 1}


def test_a_track_that_ends_inside_leaves_first() -> None:
    stage = Stage(zones=[Zone(name="yard", polygon=BOX, inertia=1)])
    stage.walk([150, 160, 170])
    stage.step({1: None})
    events = stage.step({}, ended=(1,))
    assert [(e.type, e.dwell_s, e.ended) for e in events] == [("leave", 0.2, True), ("end", None, None)]


def test_what_happened_while_tentative_is_told_after_new_with_its_own_time() -> None:
    stage = Stage(
        zones=[Zone(name="yard", polygon=BOX, inertia=1)], lines=[Line(name="net", start=(120, 0), end=(120, 300))]
    )
    stage.step({1: (90, 150)}, tentative=(1,))
    stage.step({1: (110, 150)}, tentative=(1,))
    stage.step({1: (140, 150)}, tentative=(1,))
    assert stage.engine.counts()["lines"]["net"] == {"in": {}, "out": {}}
    events = stage.step({1: (160, 150)})
    assert [(e.type, e.track, e.frame) for e in events] == [("new", 10, 3), ("enter", 10, 1), ("cross", 10, 2)]
    assert stage.engine.counts()["zones"]["yard"]["enter"] == {"ball": 1}


def test_zones_judge_the_anchor_and_the_class() -> None:
    feet = Zone(name="feet", polygon=[(0, 152), (400, 152), (400, 300), (0, 300)], anchor="bottom_center", inertia=1)
    head = Zone(name="head", polygon=[(0, 0), (400, 0), (400, 148), (0, 148)], anchor="top_center", inertia=1)
    birds = Zone(name="birds", polygon=[(0, 0), (400, 0), (400, 300), (0, 300)], classes=["bird"], inertia=1)
    stage = Stage(zones=[feet, head, birds])
    stage.label[2] = 1
    events = stage.step({1: (200, 150), 2: (100, 150)})
    assert {(e.zone, e.track) for e in events if e.type == "enter"} == {
        ("feet", 10),
        ("feet", 20),
        ("head", 10),
        ("head", 20),
        ("birds", 20),
    }


def test_relative_coordinates_follow_the_frame_size() -> None:
    half = Zone(name="right half", polygon=[(0.5, 0), (1, 0), (1, 1), (0.5, 1)], inertia=1)
    for wh, inside_half in (((400, 300), True), ((800, 600), False)):
        stage = Stage(wh=wh, zones=[half], lines=[Line(name="middle", start=(0, 0.5), end=(1, 0.5))])
        stage.step({1: (250, 140)})
        stage.step({1: (250, 170)})
        assert ("enter" in kinds(stage.events)) is inside_half
        assert ("cross" in kinds(stage.events)) is inside_half


def test_inside_agrees_with_winding_by_angle() -> None:
    random = np.random.default_rng(1)
    polygon = np.array([[10.0, 10], [90, 20], [60, 50], [95, 90], [20, 80], [40, 45]])
    points = random.uniform(0, 100, (500, 2))
    for point, got in zip(points, inside(points, polygon).tolist()):
        around = np.unwrap(np.arctan2(*(np.vstack([polygon, polygon[:1]]) - point).T[::-1]))
        assert got is bool(abs(around[-1] - around[0]) > np.pi)


# ---------------------------------------------------------------------------------------------------------------- lines

ACROSS = Line(name="net", start=(100, 150), end=(300, 150), hysteresis_px=3)  # from left to right: downwards is "in"


def crossings(stage: Stage, where: list[tuple[float, float] | None]) -> list[str | None]:
    for at in where:
        stage.step({1: at})
    return [event.direction for event in stage.events if event.type == "cross"]


def test_both_directions_and_counts() -> None:
    stage = Stage(lines=[ACROSS])
    assert crossings(stage, [(200, 130), (200, 145), (200, 160), (200, 170), (200, 140)]) == ["in", "out"]
    assert stage.engine.counts()["lines"]["net"] == {"in": {"ball": 1}, "out": {"ball": 1}}
    upwards = Line(
        name="gate", start=(200, 300), end=(200, 0)
    )  # walking up the picture, the right hand is the right side
    assert crossings(Stage(lines=[upwards]), [(150, 100), (250, 100)]) == ["in"]


def test_trembling_on_the_line_counts_once() -> None:
    stage = Stage(lines=[ACROSS])
    path = [(200, 140), *[(200, 149), (200, 151)] * 10, (200, 149), (200, 158)]
    assert crossings(stage, path) == ["in"]
    assert crossings(Stage(lines=[ACROSS]), [(200, 140), *[(200, 148.5), (200, 151.5)] * 10, (200, 140)]) == []
    assert crossings(Stage(lines=[ACROSS]), [(200, 140), (200, 150), (200, 150), (200, 160)]) == ["in"]


def test_a_fast_object_that_jumps_over_the_line_counts_and_one_that_passes_its_end_does_not() -> None:
    assert crossings(Stage(lines=[ACROSS]), [(200, 10), (210, 290)]) == ["in"]
    assert crossings(Stage(lines=[ACROSS]), [(90, 10), (95, 290)]) == []
    assert crossings(Stage(lines=[ACROSS]), [(50, 140), (250, 290)]) == []  # its chord meets the line's axis at x = 63
    round_the_end = [(200, 140), (320, 140), (320, 160), (200, 160), (200, 140)]
    assert crossings(Stage(lines=[ACROSS]), round_the_end) == ["out"]


def test_a_gap_over_the_line_counts_once_and_predictions_never() -> None:
    stage = Stage(lines=[ACROSS])
    stage.step({1: (200, 140)})
    stage.at[1] = (200, 170)
    stage.step({1: None})  # the prediction is already across
    assert stage.engine.counts()["lines"]["net"]["in"] == {}
    stage.step({})
    stage.step({1: (200, 180)})
    stage.step({1: (200, 190)})
    assert stage.engine.counts()["lines"]["net"] == {"in": {"ball": 1}, "out": {}}


def test_random_walks_agree_with_a_plain_crossing_count() -> None:
    """Without hysteresis the crossings of a polyline are those found segment by segment with orientation tests."""

    def turn(a: Any, b: Any, c: Any) -> bool:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0

    line = Line(name="slant", start=(80, 60), end=(300, 220), hysteresis_px=0)
    for seed in range(20):
        walk = np.random.default_rng(seed).uniform(0, [400, 300], (30, 2)).astype(np.float32).astype(float).tolist()
        want = []
        for a, b in pairwise(walk):
            if turn(line.start, line.end, a) != turn(line.start, line.end, b) and turn(a, b, line.start) != turn(
                a, b, line.end
            ):
                want.append("in" if turn(line.start, line.end, b) else "out")
        assert crossings(Stage(lines=[line]), walk) == want


# --------------------------------------------------------------------------------------------------------------- bounds


def test_mistakes_in_the_configuration_are_told() -> None:
    for config, words in (
        ({"zones": [Zone(name="z", polygon=[(0, 0), (1, 1)])]}, "at least 3"),
        ({"lines": [Line(name="l", start=(5, 5), end=(5, 5))]}, "two different points"),
        ({"zones": [Zone(name="z", polygon=BOX, classes=["bal"])]}, "knows ball, bird"),
        ({"lines": [Line(name="l", start=(5, 5), end=(9, 5))] * 2}, "2 lines are called 'l'"),
    ):
        with pytest.raises(ConfigError, match=words):
            Stage(**config)


def test_memory_is_that_of_the_live_tracks() -> None:
    stage = Stage(path_points=50, update_s=1e6, zones=[Zone(name="yard", polygon=BOX)], lines=[ACROSS])
    for i in range(1, 600):  # one track stays for ever, another one comes and goes in every frame
        stage.step({9999: (i % 300, 50), i: (150, i % 290)}, ended=(i - 1,) if i > 1 else ())
    engine = stage.engine
    assert len(engine._lives.slot_of) == 2
    assert engine._lives.capacity == 64
    assert max(map(len, engine._lives._paths)) <= 101
    assert len(engine._waiting) == 0
    end = engine.finish()[0]
    assert end.path is not None
    assert len(end.path) == 50
    assert (end.path[0][0], end.path[-1][0]) == (0.0, 59.8)
    assert np.ptp(np.diff([point[0] for point in end.path])) < 1.0  # evenly spread over the whole life


def test_a_thousand_tracks_are_a_matter_of_milliseconds() -> None:
    stage = Stage(wh=(64, 48), zones=[Zone(name="yard", polygon=BOX)], lines=[ACROSS], update_s=1e6)
    random = np.random.default_rng(0)
    spent = []
    for _ in range(12):
        where = {key + 1: at for key, at in enumerate(map(tuple, random.uniform(0, 300, (1000, 2)).tolist()))}
        start = time.perf_counter()
        stage.step(where)
        spent.append(time.perf_counter() - start)
    assert min(spent[3:]) < 0.1  # about 3 ms, most of it this test's own


def test_a_still_picture_is_counted_but_nothing_happens_in_it() -> None:
    from streamdet.types import CONFIRMED, Frame, Picture, Tracks

    grey = np.full((48, 64), 128, np.uint8)
    frame = Frame("photos", 0, 0.0, Picture(grey, bgr=np.repeat(grey[..., None], 3, 2)), 0.0, still=True, name="a.png")
    one = np.ones(1, np.int64)
    tracks = Tracks(
        id=one, key=one, xyxy=np.array([[1, 1, 9, 9]], np.float32), velocity_xy=np.zeros((1, 2), np.float32),
        score=np.ones(1, np.float32), label=np.zeros(1, np.int32), state=np.full(1, CONFIRMED, np.uint8),
        age_s=np.zeros(1, np.float32), detection_row=np.zeros(1, np.int32),
    )  # fmt: skip
    engine = RulesEngine(RulesConfig(), labels=("ball",), stream="photos")
    assert engine(frame, tracks) == ()
    assert engine.finish() == ()
    assert engine.counts()["objects"] == {"ball": 1}
