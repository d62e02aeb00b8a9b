"""From the first hits of a flight back to where the thing came from."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.config import TrackerConfig
from streamdet.tracking import Tracker
from streamdet.tracking.lookback import Lookback
from streamdet.tracking.moments import Moment
from streamdet.tracking.wayback import Leg, go_back
from streamdet.types import CONFIRMED, TENTATIVE, Detections, Frame, Motion, Picture, Tracks

DT_S = 0.04
SIZE = 8.0


def _found(*places, score=0.05, size=SIZE) -> Detections:
    middle = np.asarray(places, np.float64).reshape(-1, 2)
    return Detections.of(np.concatenate([middle - size / 2, middle + size / 2], axis=1), score, 0)


def _seen(found: Detections, **rows: int) -> Tracks:
    """Rows given as k1=0: track 1 was hit by detection 0. All have a name."""
    keys = [int(name[1:]) for name in rows]
    of = np.array(list(rows.values()), np.int32)
    count = len(keys)
    return Tracks(
        id=np.array(keys, np.int64),
        key=np.array(keys, np.int64),
        xyxy=found.xyxy[of].reshape(-1, 4),
        velocity_xy=np.zeros((count, 2), np.float32),
        score=found.score[of],
        label=np.zeros(count, np.int32),
        state=np.full(count, CONFIRMED, np.uint8),
        age_s=np.zeros(count, np.float32),
        detection_row=of,
        seen_row=of,
    )


def _moments(*frames: tuple[Detections, Tracks]) -> list[Moment[int]]:
    return [Moment(index, index * DT_S, tracks, found) for index, (found, tracks) in enumerate(frames)]


def _flight(x: float, step: float, *, unseen: int, seen: int = 3) -> list[tuple[Detections, Tracks]]:
    """Along x; not hit in the first `unseen` frames, though detected."""
    founds = [_found((x + step * index, 50)) for index in range(unseen + seen)]
    nobody = Tracks.empty()
    return [(found, nobody if index < unseen else _seen(found, k1=0)) for index, found in enumerate(founds)]


def _middles(moments: list[Moment[int]], key: int = 1) -> list[tuple[float, float] | None]:
    boxes = [moment.box_of(key) for moment in moments]
    return [None if box is None else tuple(((box[:2] + box[2:]) / 2).tolist()) for box in boxes]


def _known(key: int) -> bool:
    return True


@pytest.mark.parametrize("step", [0.0, 12.0, 60.0])
def test_faint_detections_on_the_way_become_its_hits(step: float) -> None:
    moments = _moments(*_flight(100, step, unseen=3))
    go_back(moments, 1, _known)
    assert _middles(moments) == [(100 + step * index, 50.0) for index in range(6)]
    assert [float(moment.tracks.score[moment.key == 1][0]) for moment in moments] == pytest.approx([0.05] * 6)
    if step:
        velocity = moments[0].tracks.velocity_xy[0]
        np.testing.assert_allclose(velocity, [step / DT_S, 0], rtol=1e-3)


def test_a_slowing_flight_is_followed_back_along_its_bend() -> None:
    """A shuttle loses a tenth of its speed in every frame."""
    x, step, founds = 100.0, 60.0, []
    for _ in range(6):
        founds.append(_found((x, 50 + (x - 100) ** 2 / 2000)))
        x, step = x + step, 0.9 * step
    moments = _moments(*((f, Tracks.empty() if i < 3 else _seen(f, k1=0)) for i, f in enumerate(founds)))
    go_back(moments, 1, _known)
    assert None not in _middles(moments)


def test_one_frame_in_which_nothing_is_seen_does_not_end_the_way_two_do() -> None:
    for missing, expected in (((2,), [True, True, False, True, True, True]), ((1, 2), [False] * 3 + [True] * 3)):
        frames = _flight(100, 12, unseen=3)
        for index in missing:
            frames[index] = (_found(), Tracks.empty())
        moments = _moments(*frames)
        go_back(moments, 1, _known)
        assert [middle is not None for middle in _middles(moments)] == expected


def test_what_lies_beside_the_way_or_is_of_another_size_is_not_its_hit() -> None:
    for other in (_found((136 - 12, 75)), _found((136 - 12, 50), size=60)):
        moments = _moments((other, Tracks.empty()), *_flight(136, 12, unseen=0))
        go_back(moments, 1, _known)
        assert _middles(moments)[0] is None


def test_what_a_known_track_was_hit_by_stays_its_own() -> None:
    frames = _flight(100, 12, unseen=1)
    for known, kept in ((True, 2), (False, 1)):
        moments = _moments((frames[0][0], _seen(frames[0][0], k2=0)), *frames[1:])
        go_back(moments, 1, lambda key, known=known: key == 1 or known)
        assert moments[0].box_of(kept) is not None
        assert moments[0].box_of(3 - kept) is None


def test_a_hit_off_the_way_gives_way_to_what_is_on_it() -> None:
    """Just struck: the tracker took the hand of the player for the ball."""
    both = _found((88, 50), (80, 90))
    frames = [(both, _seen(both, k1=1)), *_flight(100, 12, unseen=0)]
    moments = _moments(*frames)
    go_back(moments, 1, _known)
    assert _middles(moments)[0] == (88.0, 50.0)


def test_an_excursion_is_undone_where_the_way_goes_on_before_it() -> None:
    hand = _found((90, 95))
    frames = [*_flight(76, 12, unseen=0, seen=1), (hand, _seen(hand, k1=0)), *_flight(100, 12, unseen=0)]
    moments = _moments(*frames)
    go_back(moments, 1, _known)
    assert _middles(moments) == [(76.0, 50.0), None, (100.0, 50.0), (112.0, 50.0), (124.0, 50.0)]


def test_a_bounce_is_no_excursion() -> None:
    falling = [_found((100 + 6 * index, 50 + 12 * index)) for index in range(3)]
    rising = [_found((124 + 6 * index, 68 - 12 * index)) for index in range(3)]
    moments = _moments(*((found, _seen(found, k1=0)) for found in falling + rising))
    before = _middles(moments)
    go_back(moments, 1, _known)
    assert _middles(moments) == before


def test_repeated_frames_show_the_same_and_take_no_time() -> None:
    frames = _flight(100, 12, unseen=2)
    clock = [0, 0, 1, 2, 3, 4]
    frames = [frames[0], frames[0], *frames[1:]]
    moments = [Moment(i, clock[i] * DT_S, tracks, found) for i, (found, tracks) in enumerate(frames)]
    go_back(moments, 1, _known)
    assert _middles(moments)[:3] == [(100.0, 50.0), (100.0, 50.0), (112.0, 50.0)]


def test_three_hits_that_are_no_flight_lead_nowhere() -> None:
    frames = [(_found((100 + 12 * index, 50)), Tracks.empty()) for index in range(2)]
    jumps = [_found(place) for place in ((124, 50), (200, 120), (136, 20))]
    moments = _moments(*frames, *((found, _seen(found, k1=0)) for found in jumps))
    go_back(moments, 1, _known)
    assert _middles(moments)[:2] == [None, None]


def test_a_way_is_known_once_at_its_third_hit_and_anew_after_a_turn_or_a_gap() -> None:
    leg = Leg()
    straight = [leg.add(index, index * DT_S, 12.0 * index, 0) for index in range(5)]
    assert straight == [False, False, True, False, False]
    turned = [leg.add(5 + index, (5 + index) * DT_S, 48 - 20.0 * index, 40.0) for index in range(3)]
    assert turned.count(True) == 1
    after_gap = [leg.add(20 + index, (20 + index) * DT_S, 300 + 12.0 * index, 40.0) for index in range(4)]
    assert after_gap == [False, False, True, False]


def test_a_recording_tells_where_the_ball_came_from() -> None:
    """Tracker and look back together: nothing but faint detections in the first frames of a flight."""
    tracker = Tracker(TrackerConfig(), threshold=0.5, movers=True)
    lookback: Lookback[int] = Lookback(6, movers=True)
    told = []
    for index in range(16):
        found = _found((100 + 15 * index, 200), score=0.06 if index < 2 else 0.95)
        luma = np.broadcast_to(np.uint8(0), (720, 1280))
        frame = Frame("test", index, index * DT_S, Picture(luma, bgr=np.broadcast_to(np.uint8(0), (720, 1280, 3))), 0.0)
        tracks = tracker.update(frame, Motion(luma, state="steady"), found)
        told += lookback.push(index, frame.pts_s, tracks, found, repeat=False)
    told += lookback.flush()
    first = [index for index, tracks in told if (tracks.state != TENTATIVE).any()]
    assert first == list(range(16))
    weak = [index for index, tracks in told if tracks.score[0] < 0.5]
    assert weak == [0, 1]
