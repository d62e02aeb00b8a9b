"""When a place is looked at again: what can be foretold waits, what is small or new does not, what cries wolf waits longest."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamdet.config import TilesConfig
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.revisit import (
    CROWDED_S,
    DOUBTFUL_S,
    IDLE_DOUBTFUL_S,
    LONGEST_FUTILE_S,
    LONGEST_S,
    MISSED_S,
    Visits,
    explained,
    patience_s,
)
from streamdet.tiles.schedule import TileScheduler
from streamdet.types import COASTING, CONFIRMED, TENTATIVE, WHY_MOTION, WHY_SWEEP, Frame, Motion, Picture, Tracks

WH = (1920, 1080)
PICTURE = Picture(np.zeros(WH[::-1], np.uint8), bgr=np.zeros((*WH[::-1], 3), np.uint8))


def boxes(*rows: Any) -> Any:
    return np.array(rows, np.float32).reshape(-1, 4)


def track(box: Any, *, velocity: Any = (0, 0), state: int = CONFIRMED, age_s: float = 10.0) -> Tracks:
    one, flat = np.ones(1, np.int64), np.ones(1, np.float32)
    speed = np.array([velocity], np.float32)
    age = np.array([age_s], np.float32)
    kind = np.array([state], np.uint8)
    return Tracks(one, one, boxes(box), speed, flat, one.astype(np.int32), kind, age, one.astype(np.int32))


def looks(
    per_frame: Any,
    *,
    tracks: Tracks | None = None,
    fps: float = 25.0,
    strength: float | None = None,
    movers: bool = True,
) -> list[bool]:
    """For each frame with those moving regions: whether a tile was run for them (or the track)."""
    config = TilesConfig(look="motion", sweep_s=1000)
    look = TileScheduler(
        config, make_plan=functools.partial(plan_tiles, input_wh=(320, 320), config=config), movers=movers
    )
    ran = []
    for i, regions in enumerate(per_frame):
        motion = Motion(PICTURE.luma, regions=boxes(*regions), state="steady")
        if strength is not None:
            motion = replace(motion, strength=np.full(len(regions), strength, np.float32))
        plan = look(Frame("s", i, i / fps, PICTURE, 0.0), motion, tracks or Tracks.empty())
        ran.append(bool((plan.why != WHY_SWEEP).any()))
    return ran


def test_what_lies_beside_a_tile_was_not_seen_in_it() -> None:
    visits = Visits((640, 480))
    visits.mark(np.array([[0, 0, 320, 320]]), 1.0)
    last_s = visits.last_s(boxes([300, 300, 318, 318], [322, 10, 330, 18], [10, 322, 18, 330]))
    assert last_s.tolist() == [1.0, -np.inf, -np.inf]


class TestPatience:
    def wait(self, *args: Any, unseen_s: float = 1.0, **kw: Any) -> float:
        return float(patience_s(track(*args, **kw), np.array([unseen_s]), 0.04)[0])

    def test_a_ball_is_looked_at_in_every_frame(self) -> None:
        assert self.wait([0, 0, 10, 10]) <= 0
        assert self.wait([0, 0, 30, 30], velocity=(1500, 0)) < 1 / 60

    def test_a_person_standing_or_walking_is_not(self) -> None:
        assert self.wait([0, 0, 160, 300]) == pytest.approx(LONGEST_S)
        assert 0.1 < self.wait([0, 0, 80, 200]) < LONGEST_S
        assert 0.1 < self.wait([0, 0, 80, 200], velocity=(140, 0)) <= LONGEST_S

    def test_candidates_newcomers_and_the_missed_are(self) -> None:
        person = [0, 0, 80, 200]
        assert self.wait(person, state=TENTATIVE, age_s=0.3) <= 0
        assert self.wait(person, age_s=0.1) < 0.04
        assert self.wait(person, state=COASTING, unseen_s=0.04) == 0  # looked at a moment ago, and not found
        assert self.wait(person, state=COASTING, unseen_s=0.2) > 0  # merely not looked at


class TestPatienceOfDetectorsOfPeople:
    def wait(self, *tracks: Tracks, still: bool = False, stirred: bool = True, unseen_s: float = 1.0) -> list[float]:
        count = len(tracks)
        flags = [np.full(count, flag) for flag in (still, stirred)]
        return patience_s(_together(*tracks), np.full(count, unseen_s), 0.04, *flags).tolist()

    def scoring(self, score: float, box: Any) -> Tracks:
        return replace(track(box, state=TENTATIVE, age_s=0.2), score=np.array([score], np.float32))

    def test_a_doubtful_candidate_waits_and_a_sure_one_does_not(self) -> None:
        box = [400, 300, 460, 420]
        assert self.wait(self.scoring(0.9, box))[0] <= 0
        assert self.wait(self.scoring(0.3, box))[0] == pytest.approx(DOUBTFUL_S)
        assert self.wait(self.scoring(0.3, box), stirred=False)[0] == pytest.approx(IDLE_DOUBTFUL_S)
        assert self.wait(self.scoring(0.3, [400, 300, 410, 310]), stirred=False)[0] <= 0, "it may be a ball"

    def test_a_doubtful_candidate_within_a_known_object_is_seen_with_it(self) -> None:
        person, bag = track([400, 300, 480, 500]), self.scoring(0.4, [410, 380, 450, 440])
        assert self.wait(person, bag)[1] == np.inf
        assert self.wait(person, self.scoring(0.8, [410, 310, 470, 490]))[1] <= CROWDED_S, "another person"

    def test_who_passes_another_is_looked_at_as_soon_as_the_way_is_a_share_of_the_size(self) -> None:
        slow = track([400, 300, 480, 500], velocity=(20, 0)), track([440, 300, 520, 500], velocity=(-300, 0))
        assert self.wait(*slow) == pytest.approx([LONGEST_S, CROWDED_S], abs=0.15)

    def test_who_was_missed_is_looked_for_soon(self) -> None:
        person, ball = (track(box, state=COASTING) for box in ([0, 0, 80, 200], [0, 0, 10, 10]))
        swift = track([0, 0, 30, 30], velocity=(2000, 0), state=COASTING)
        assert self.wait(person, ball, swift, unseen_s=0.04) == pytest.approx([MISSED_S, 0.0, 0.005], abs=1e-3)


def _together(*tracks: Tracks) -> Tracks:
    names = ("id", "key", "xyxy", "velocity_xy", "score", "label", "state", "age_s", "detection_row")
    return Tracks(**{name: np.concatenate([getattr(one, name) for one in tracks]) for name in names})


class TestExplained:
    def test_a_part_of_a_person_is_and_a_ball_before_a_person_is_not(self) -> None:
        regions = boxes([110, 210, 140, 260], [120, 200, 128, 208], [500, 500, 540, 540], [0, 0, 1000, 900])
        assert explained(regions, boxes([100, 100, 180, 300])).tolist() == [True, False, False, False]
        assert not explained(regions, boxes()).any()
        assert explained(boxes(), boxes([1, 1, 2, 2])).shape == (0,)


class TestVisits:
    def test_a_box_is_seen_when_all_of_it_is(self) -> None:
        visits = Visits(WH)
        visits.mark([[0, 0, 320, 320]], 1.0)
        last = visits.last_s(boxes([10, 10, 50, 50], [300, 10, 380, 50], [1900, 1000, 1990, 1100]))
        assert last.tolist() == [1.0, -np.inf, -np.inf]


class TestLooks:
    def test_a_place_that_cries_wolf_is_looked_at_less_and_less(self) -> None:
        ran = looks([[[500, 500, 508, 508]]] * 100)
        assert ran[:2] == [True, True]
        gaps = np.diff(np.flatnonzero(ran))
        assert (np.diff(gaps) >= -1).all()
        assert gaps.max() == pytest.approx(LONGEST_FUTILE_S * 25, abs=1)

    def test_for_movers_what_looks_like_a_ball_is_looked_at_wherever_it_shows_up(self) -> None:
        """The network may miss it at first beside the player who strikes it, where all looks were in vain."""
        place = [[[500, 500, 508, 508]]] * 50
        assert all(looks(place, strength=0.5))
        assert sum(looks(place, strength=0.05)) < 25

    def test_for_movers_players_are_looked_at_more_often_than_for_others(self) -> None:
        player = [[[500, 500, 560, 600]]] * 100
        assert sum(looks(player)) > 1.5 * sum(looks(player, movers=False))

    def test_what_flies_is_looked_at_in_every_frame(self) -> None:
        assert all(looks([[[100 + 30 * i, 300, 108 + 30 * i, 308]] for i in range(50)]))

    def test_it_is_trusted_again_when_it_was_quiet(self) -> None:
        noisy = [[[500, 500, 508, 508]]] * 100
        ran = looks([*noisy, *[[]] * 400, *noisy[:3]])
        assert ran[-3]
        assert ran[-2]

    def test_where_a_track_is_nothing_is_in_vain(self) -> None:
        """A ball standing still is a track: looked at always."""
        assert all(looks([[[500, 500, 508, 508]]] * 50, tracks=track([500, 500, 508, 508])))

    def test_a_known_person_waits_for_its_time(self) -> None:
        person = [500, 500, 660, 800]
        ran = looks([[person]] * 100, tracks=track(person))
        assert 100 / 25 / LONGEST_S - 2 <= sum(ran) <= 100 / 25 / LONGEST_S + 2

    def test_motion_is_why(self) -> None:
        assert WHY_MOTION == 1
        assert not any(looks([[]] * 5))
