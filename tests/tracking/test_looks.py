"""Who is who by looks: people of different clothes, painted into real pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet import boxes
from streamdet.config import TrackerConfig
from streamdet.tracking import Tracker
from streamdet.tracking.looks import COVERED, LOOK, covering, learn, look_at, strangeness, unlike
from streamdet.types import CONFIRMED, Detections, Frame, Motion, Picture, Tracks

WH = (480, 360)
PERSON_WH = np.array([20.0, 52.0])
RED, BLUE, GREY = (40, 40, 200), (200, 90, 30), (150, 150, 150)
DT_S = 0.1


def _picture(people: list[tuple[float, float, tuple[int, int, int]]], *, brighter: int = 0) -> Picture:
    """People (centre, colour of their clothes) on grey ground; who comes last stands in front."""
    bgr = np.full((WH[1], WH[0], 3), 120, np.int16)
    for x, y, colour in people:
        x1, y1, x2, y2 = (round(v) for v in _box(x, y))
        bgr[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = colour
    bgr = np.clip(bgr + brighter, 0, 255).astype(np.uint8)
    luma = np.round(bgr @ np.array([0.114, 0.587, 0.299])).astype(np.uint8)
    return Picture(luma, bgr=bgr)


def _box(x: float, y: float) -> tuple[float, float, float, float]:
    return (x - PERSON_WH[0] / 2, y - PERSON_WH[1] / 2, x + PERSON_WH[0] / 2, y + PERSON_WH[1] / 2)


class Street:
    """Feeds a tracker pictures and the boxes a detector would find in them."""

    def __init__(self, *, movers: bool = False) -> None:
        self.tracker = Tracker(TrackerConfig(), threshold=0.3, movers=movers)
        self.index = -1

    def see(self, people, found, *, state="steady", brighter: int = 0) -> Tracks:
        self.index += 1
        picture = _picture(people, brighter=brighter)
        frame = Frame("street", self.index, self.index * DT_S, picture, 0.0)
        detections = Detections.of(np.array([_box(*at) for at in found]).reshape(-1, 4), 0.8, 0)
        return self.tracker.update(frame, Motion(picture.luma, state=state), detections)


def _id_at(tracks: Tracks, x: float) -> int:
    shown = tracks[tracks.state == CONFIRMED]
    centre = (shown.xyxy[:, 0] + shown.xyxy[:, 2]) / 2
    assert len(shown), "nobody is tracked"
    return int(shown.id[np.argmin(np.abs(centre - x))])


def test_two_who_meet_and_turn_back_keep_their_ids() -> None:
    """Places and speeds say that they passed each other: only their clothes tell that they did not."""
    street, first, tracks = Street(), (0, 0), Tracks.empty()
    for frame in range(40):
        away = abs(20 - frame) * 4.0  # px from where they meet
        left, right = (240 - away, 200.0), (240 + away, 200.0)
        apart = away > 8
        tracks = street.see([(*left, RED), (*right, BLUE)], [left, right] if apart else [right])
        if frame == 10:
            first = _id_at(tracks, left[0]), _id_at(tracks, right[0])
    assert first[0] != first[1]
    assert (_id_at(tracks, 240 - 19 * 4.0), _id_at(tracks, 240 + 19 * 4.0)) == first


def test_a_stranger_where_somebody_was_lost_is_somebody_else() -> None:
    street, tracks = Street(), Tracks.empty()
    for frame in range(10):
        at = (100 + 5.0 * frame, 200.0)
        tracks = street.see([(*at, RED)], [at])
    red = _id_at(tracks, 145)
    for _ in range(4):
        street.see([], [])
    for frame in range(6):
        at = (165 + 5.0 * frame, 200.0)
        tracks = street.see([(*at, BLUE)], [at])
    assert _id_at(tracks, 190) != red


def test_who_comes_back_from_behind_a_post_is_known_again_at_once() -> None:
    street, tracks = Street(), Tracks.empty()
    for frame in range(24):
        at = (100 + 5.0 * frame, 200.0)
        hidden = 10 <= frame < 18
        tracks = street.see([] if hidden else [(*at, RED)], [] if hidden else [at])
        if frame == 9:
            known = _id_at(tracks, at[0])
        if frame == 18:
            assert _id_at(tracks, at[0]) == known
    assert set(tracks.id.tolist()) == {known}


def test_lights_that_go_on_make_strangers_of_nobody() -> None:
    street, tracks = Street(), Tracks.empty()
    for frame in range(20):
        at = (100 + 5.0 * frame, 200.0)
        state, brighter = ("exposure" if frame == 10 else "steady"), (90 if frame >= 10 else 0)
        tracks = street.see([(*at, GREY)], [at], state=state, brighter=brighter)
        if frame == 5:
            known = _id_at(tracks, at[0])
    assert set(tracks.id.tolist()) == {known}


def test_of_movers_nobody_looks_at_the_picture() -> None:
    street = Street(movers=True)
    picture = Picture(np.zeros((WH[1], WH[0]), np.uint8), make_bgr=lambda: pytest.fail("the picture was asked for"))
    frame = Frame("street", 0, 0.0, picture, 0.0)
    street.tracker.update(frame, Motion(picture.luma, state="first"), Detections.of(np.array([_box(99, 99)]), 0.8, 0))


def test_planes_and_bgr_give_the_same_look() -> None:
    random = np.random.default_rng(3)
    bgr = np.repeat(np.repeat(random.integers(0, 255, (12, 16, 3), np.uint8), 30, 0), 30, 1)
    blue, green, red = np.moveaxis(bgr.astype(np.float32), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [np.clip(p, 0, 255).astype(np.uint8) for p in (128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma))]
    whole = luma.astype(np.uint8)
    box = np.array([[30.0, 30, 90, 150], [-20, -30, 40, 60], [460, 300, 530, 420], [100.2, 40.7, 101, 300.1]])
    chroma = (planes[0][::2, ::2].copy(), planes[1][::2, ::2].copy())
    given = look_at(Picture(whole, chroma, make_bgr=lambda: bgr), box)
    made = look_at(Picture(whole, bgr=bgr), box)
    assert given.shape == (4, LOOK)
    np.testing.assert_allclose(given, made, atol=1.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12))
def test_covering_is_what_a_double_loop_finds(seed: int, count: int, others: int) -> None:
    random = np.random.default_rng(seed)

    def some(n: int) -> np.ndarray:
        corner = random.uniform(0, 100, (n, 2))
        return np.concatenate([corner, corner + random.uniform(5, 60, (n, 2))], axis=1)

    box, other = some(count), some(others)
    wanted = [sum(boxes.intersection(b[None], o[None])[0, 0] > COVERED * boxes.area(b) for o in other) for b in box]
    if count and others <= 8:  # no more than eight neighbours are ever looked at
        np.testing.assert_array_equal(covering(box, other), wanted)


def test_learning_fades_in_what_is_clear_and_nothing_else() -> None:
    unknown = np.full((1, LOOK), np.nan, np.float32)
    red, blue = np.full((1, LOOK), 50, np.float32), np.full((1, LOOK), 150, np.float32)
    clear, covered, gap_s = np.array([True]), np.array([False]), np.array([0.1])
    np.testing.assert_array_equal(learn(unknown, red, covered, gap_s), red)
    np.testing.assert_array_equal(learn(red, unknown, clear, gap_s), red)
    np.testing.assert_array_equal(learn(red, blue, covered, gap_s), red)
    assert 50 < learn(red, blue, clear, gap_s)[0, 0] < 80
    assert strangeness(unknown, red).tolist() == [0.0]
    assert unlike(red, red).tolist() == [0.0]
    assert unlike(red, blue).tolist() == [1.0]


def test_a_thing_that_flew_by_is_not_known_again_by_its_look() -> None:
    """A ball is missed, and at once something of its colour is seen near where it would be: an arm, a racket. Not its hit."""
    street, tracks = Street(), Tracks.empty()
    for frame in range(8):
        at = (40 + 26 * frame, 180.0)  # eight sizes and more a second
        tracks = street.see([(*at, GREY)], [at])
    ball = _id_at(tracks, 40 + 26 * 7)
    for _ in range(8, 13):
        tracks = street.see([], [])
    assert not len(tracks.shown)
    limb = (40 + 26 * 12, 200.0)
    tracks = street.see([(*limb, GREY)], [limb])
    assert ball not in tracks.shown.id.tolist()
