"""What is believed of small things, and how the tracker shows it."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.config import TrackerConfig
from streamdet.tracking import Tracker, belief
from streamdet.tracking.table import TrackTable
from streamdet.types import COASTING, CONFIRMED, TENTATIVE, Detections, Frame, Motion, Picture, Tracks

DT_S = 1 / 30
EMPTY = Detections.empty()


class Scene:
    """Feeds a tracker, and keeps the books on what it has shown."""

    def __init__(self, threshold: float = 0.25, *, wary: float = 0.0, **config) -> None:
        self.tracker = Tracker(TrackerConfig(**config), threshold=threshold, wary=wary)
        black = np.broadcast_to(np.uint8(0), (720, 1280))
        self.picture = Picture(black, bgr=np.broadcast_to(np.uint8(0), (720, 1280, 3)))
        self.index = -1
        self.shown: list[Tracks] = []
        self.ended: list[int] = []

    def see(self, found: Detections, *, dt_s: float = DT_S, state="steady") -> Tracks:
        self.index += 1
        frame = Frame("test", self.index, self.index * dt_s, self.picture, 0.0)
        tracks = self.tracker.update(frame, Motion(self.picture.luma, state=state), found)
        assert ((tracks.id == 0) == (tracks.state == TENTATIVE)).all()
        assert (np.diff(tracks.key) > 0).all()
        assert not set(self.ended) & set(tracks.key.tolist())
        self.shown.append(tracks.shown)
        self.ended += tracks.ended.tolist()
        return tracks

    def share_shown(self, first: int = 0) -> float:
        return float(np.mean([len(tracks) > 0 for tracks in self.shown[first:]]))


def _boxes(centres, score=0.5, size=8.0) -> Detections:
    centres = np.asarray(centres, np.float64).reshape(-1, 2)
    half = np.broadcast_to(np.asarray(size, np.float64).reshape(-1, 1) / 2, (len(centres), 2))
    return Detections.of(np.concatenate([centres - half, centres + half], axis=1), score)


def test_log_odds_are_bounded_and_even_at_a_half() -> None:
    odds = belief.log_odds(np.array([0.0, 0.2, 0.5, 0.9, 1.0]))
    assert (np.diff(odds) >= 0).all()
    assert odds[2] == pytest.approx(0)
    assert np.isfinite(odds).all()
    assert odds[0] == belief.WORST
    assert odds[-1] == belief.BEST


def test_the_mean_is_plain_at_first_and_forgets_later() -> None:
    table = TrackTable()
    rows = table.append(1)
    rows["odds"], rows["odds_weight"] = 3.0, 1.0
    belief.hear(rows, np.array([0]), 1.0, step_s=1e-6)
    assert rows["odds"][0] == pytest.approx(2.0, abs=1e-4)
    for _ in range(60):
        belief.hear(rows, np.array([0]), -1.0, step_s=DT_S)
    assert rows["odds"][0] == pytest.approx(-1.0, abs=0.02)


def test_who_is_wary_shows_what_scores_poorly_later_or_never_and_a_sure_thing_as_before() -> None:
    def shown_of(score: float, wary: float) -> float:
        scene = Scene(wary=wary)
        for index in range(40):
            scene.see(_boxes([100 + 6 * index, 300], score))
        return scene.share_shown()

    assert shown_of(0.4, 0.0) > shown_of(0.4, 0.6) > shown_of(0.4, 3.0) == 0
    assert shown_of(0.9, 0.0) == shown_of(0.9, 0.6)


@pytest.mark.parametrize("dt_s", [1 / 240, 1 / 30, 1.0])
def test_belief_is_about_frames_when_they_are_rare_and_about_seconds_when_they_are_many(dt_s: float) -> None:
    table = TrackTable()
    rows = table.append(1)
    rows["odds"], rows["odds_weight"] = 2.0, 30.0
    half = 0
    while rows["odds"][0] > 0:
        belief.hear(rows, np.array([0]), -2.0, step_s=dt_s)
        half += 1
    assert half >= 5
    assert half <= 15 or half * dt_s <= 0.6


def test_what_flies_on_is_shown_and_what_goes_to_and_fro_is_not() -> None:
    """The same middling score and the same speed: a ball, and a shoe."""
    ball, shoe = Scene(), Scene()
    for k in range(90):
        ball.see(_boxes([100 + 9 * k, 300], score=0.42))
        swing = 9 * abs((k % 4) - 2)
        shoe.see(_boxes([300 + swing, 300], score=0.42))
    assert ball.share_shown(6) == 1
    assert shoe.share_shown() == 0


def test_a_hovering_drone_is_shown_and_a_flickering_speck_is_not() -> None:
    rng = np.random.default_rng(2)
    drone, speck = Scene(), Scene()
    for _ in range(150):
        jitter = rng.normal(0, 0.3, 2)
        drone.see(_boxes(jitter + 300, score=rng.uniform(0.6, 0.95)))
        seen = rng.random() < 0.6
        speck.see(_boxes(jitter + 300, score=rng.choice([0.2, 0.3, 0.7])) if seen else EMPTY)
    assert drone.share_shown(12) == 1  # what does not stir is doubted until it was seen for a moment
    assert speck.share_shown() < 0.1


def test_a_slow_distant_plane_of_poor_score_is_shown_once_it_has_gone_its_way() -> None:
    rng = np.random.default_rng(3)
    scene = Scene()
    for k in range(200):
        scene.see(_boxes(np.array([300 + 0.3 * k, 300]) + rng.normal(0, 0.3, 2), score=0.42, size=5))
    assert scene.share_shown(60) > 0.95


def test_what_does_not_stir_at_all_is_shown_only_if_it_scores_high() -> None:
    """A lamp, the tip of a pole: the same finding in every frame. A drone that sways by a few pixels needs no more than usual."""
    lamp, sure, drone = Scene(), Scene(), Scene()
    for k in range(240):
        lamp.see(_boxes([300, 300], score=0.65))
        sure.see(_boxes([300, 300], score=0.93))
        drone.see(_boxes([300 + 5 * np.sin(k / 10), 300], score=0.65))
    assert lamp.share_shown(120) == 0
    assert sure.share_shown(3) == 1
    assert drone.share_shown(12) == 1  # what does not stir is doubted until it was seen for a moment


def test_believed_firmly_it_is_confirmed_one_hit_earlier() -> None:
    for score, first in ((0.97, 1), (0.6, 2)):
        scene = Scene()
        for k in range(4):
            scene.see(_boxes([300 + 6 * k, 300], score=score))
        assert [len(tracks) > 0 for tracks in scene.shown].index(True) == first


def test_a_track_that_proves_wrong_is_hidden_then_ended_and_what_is_there_must_prove_itself_anew() -> None:
    """It came flying (a racket's swing) and then hangs there with a poor score."""
    scene = Scene()
    for k in range(10):
        scene.see(_boxes([100 + 12 * k, 300], score=0.7))
    assert scene.shown[-1].id.tolist() == [1]
    rng = np.random.default_rng(4)
    states = []
    for _ in range(180):
        tracks = scene.see(_boxes(np.array([208, 300]) + rng.normal(0, 0.5, 2), score=0.26))
        states.append(int(tracks.state[0]))
        if states[-1] == TENTATIVE:
            assert tracks.detection_row.tolist() == [-1] or scene.ended
    gone = states.index(TENTATIVE)
    assert gone < 90
    assert set(states[gone:]) == {TENTATIVE}
    assert scene.ended == [1]
    for k in range(12):
        scene.see(_boxes([208 + 12 * k, 300], score=0.8))
    assert scene.shown[-1].id.tolist() == [2]


def test_a_short_doubt_costs_no_identity() -> None:
    scene = Scene()
    for _ in range(10):
        scene.see(_boxes([300, 300], score=0.93))
    for _ in range(24):
        scene.see(_boxes([300, 300], score=0.26))
    assert len(scene.shown[-1]) == 0
    for _ in range(15):
        scene.see(_boxes([300, 300], score=0.93))
    assert scene.shown[-1].id.tolist() == [1]
    assert scene.ended == []


def test_a_prediction_is_shown_as_long_as_it_is_good_for_something() -> None:
    """A small fast thing for a frame or two, a person for as long as it coasts; the identity lasts in both cases."""
    for size, speed, least, most in ((8.0, 15.0, 1, 4), (40.0, 3.0, 8, 9)):
        scene = Scene(coast_s=0.3)
        for k in range(20):
            scene.see(_boxes([100 + speed * k, 300], score=0.9, size=size))
        states = [scene.see(EMPTY).state.tolist() for _ in range(9)]
        assert least <= states.count([COASTING]) <= most
        assert states == sorted(states, reverse=True)
        for k in range(29, 33):
            scene.see(_boxes([100 + speed * k, 300], score=0.9, size=size))
        assert scene.shown[-1].id.tolist() == [1]


def test_large_things_are_never_doubted() -> None:
    rng = np.random.default_rng(5)
    doubting, trusting = Scene(), Scene(doubt=False)
    for k in range(200):
        here = np.array([[200 + 2 * k, 300], [600, 300]]) + rng.normal(0, 2, (2, 2))
        found = _boxes(here[rng.random(2) < 0.7], score=rng.choice([0.26, 0.4, 0.6]), size=40)
        one, other = doubting.see(found), trusting.see(found)
        assert one.id.tolist() == other.id.tolist()
        assert one.state.tolist() == other.state.tolist()
    assert doubting.share_shown(10) > 0.9


def test_two_tracks_on_one_thing_become_the_older_one() -> None:
    """A detector that tells one thing twice for a while, then once."""
    scene = Scene()
    for k in range(40):
        x = 100 + 6.0 * k
        scene.see(_boxes([[x, 300], [x + 1, 303]] if 10 <= k < 20 else [[x, 300]], score=0.9))
    assert {tuple(tracks.id.tolist()) for tracks in scene.shown[24:]} == {(1,)}
    assert len(scene.ended) >= 1
    assert scene.shown[-1].state.tolist() == [CONFIRMED]


def test_nothing_is_doubted_while_frames_repeat_or_in_still_pictures() -> None:
    scene = Scene()
    for k in range(8):
        scene.see(_boxes([100 + 9 * k, 300], score=0.8))
    before = scene.shown[-1]
    for _ in range(60):
        after = scene.see(EMPTY, state="repeat").shown
        assert after.id.tolist() == before.id.tolist()
        assert after.state.tolist() == before.state.tolist()
    still = Frame("test", 0, 0.0, scene.picture, 0.0, still=True)
    tracks = scene.tracker.update(still, Motion(scene.picture.luma), _boxes([[50, 50], [90, 90]], score=[0.26, 0.3]))
    assert (tracks.state == CONFIRMED).all()


@pytest.mark.parametrize("fps", [2, 10, 60, 240])
def test_any_frame_rate_shows_a_mover(fps: int) -> None:
    scene = Scene()
    for k in range(max(12, fps)):
        scene.see(_boxes([100 + 150 * k / fps, 200], score=0.6), dt_s=1 / fps)
    assert scene.shown[-1].id.tolist() == [1]
    assert scene.share_shown(max(8, fps // 2)) == 1


@pytest.mark.parametrize("speed", range(4, 64, 4))
def test_what_flies_straight_is_believed_at_any_speed(speed: int) -> None:
    scene = Scene(threshold=0.5, wary=0.6)
    for k in range(3):
        x, y = 100.0 + speed * k, 300.0 - speed * k / 2
        tracks = scene.see(Detections.of([(x - 5, y - 5, x + 5, y + 5)], 0.75, 0))
    assert tracks.shown.id.tolist() == [1]
