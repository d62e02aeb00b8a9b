"""What is told of a frame once the next ones are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamdet.assemble import frames_held
from streamdet.tracking.lookback import LONGEST_GAP, Lookback
from streamdet.types import COASTING, CONFIRMED, TENTATIVE, Tracks

DT_S = 0.04


def rows(*given, joined=(), ended=()) -> Tracks:
    """Each given as (key, id, state, seen, x): a thing of 8 px at x, y 50."""
    size = 8.0

    def column(index, kind):
        return np.array([one[index] for one in given], kind)

    x = column(4, np.float32).reshape(-1, 1)
    row = np.where(column(3, bool), np.arange(len(given)), -1).astype(np.int32)
    state = column(2, np.uint8)
    return Tracks(
        id=column(1, np.int64),
        key=column(0, np.int64),
        xyxy=np.concatenate([x, x * 0 + 50, x + size, x * 0 + 50 + size], axis=1).astype(np.float32),
        velocity_xy=np.zeros((len(given), 2), np.float32),
        score=np.full(len(given), 0.9, np.float32),
        label=np.zeros(len(given), np.int32),
        state=state,
        age_s=np.zeros(len(given), np.float32),
        detection_row=np.where(state == TENTATIVE, -1, row).astype(np.int32),
        ended=np.array(ended, np.int64),
        seen_row=row,
        joined=np.array(joined, np.int64).reshape(-1, 2),
    )


def told(frames: list[Tracks], *, back: int = 4, **options) -> list[Tracks]:
    lookback: Lookback[int] = Lookback(back, movers=True, **{"least_hits": 2, **options})
    done = []
    for index, tracks in enumerate(frames):
        done += lookback.push(index, index * DT_S, tracks)
    done += lookback.flush()
    assert [index for index, _ in done] == list(range(len(frames)))
    for _, tracks in done:
        assert ((tracks.id == 0) == (tracks.state == TENTATIVE)).all()
        assert (np.diff(tracks.key) > 0).all()
    return [tracks for _, tracks in done]


def states(frames: list[Tracks], key: int = 1) -> str:
    names = {TENTATIVE: "t", CONFIRMED: "c", COASTING: "g"}
    found = [[names[int(s)] for k, s in zip(frame.key, frame.state) if k == key] for frame in frames]
    return "".join(one[0] if one else "-" for one in found)


SEEN, HIDDEN, FIRST, GUESS = (1, CONFIRMED, True), (0, TENTATIVE, True), (0, TENTATIVE, True), (1, COASTING, False)
GONE = (0, TENTATIVE, False)


def of(kinds, step=10.0, key=1) -> list[Tracks]:
    return [rows((key, *kind, index * step)) for index, kind in enumerate(kinds)]


def test_first_hits_are_told_once_it_is_known_that_they_were() -> None:
    assert states(told(of([FIRST, FIRST, FIRST, SEEN, SEEN]))) == "ccccc"


def test_first_hits_longer_ago_than_the_time_looked_back_are_not() -> None:
    assert states(told(of([FIRST] * 6 + [SEEN, SEEN]), back=2)) == "ttttcccc"


def test_what_is_never_believed_is_never_told() -> None:
    assert states(told(of([FIRST] * 9))) == "t" * 9


def test_a_moment_of_doubt_between_hits_is_told() -> None:
    assert states(told(of([SEEN, SEEN, HIDDEN, HIDDEN, SEEN]))) == "ccccc"


def test_a_short_gap_lies_on_the_way_between_its_ends() -> None:
    frames = told(of([SEEN, SEEN, GONE, GUESS, SEEN, SEEN]))
    assert states(frames) == "ccggcc"
    assert [float(frame.xyxy[0, 0]) for frame in frames] == pytest.approx([0, 10, 20, 30, 40, 50])
    assert frames[2].velocity_xy[0] == pytest.approx([10 / DT_S, 0])
    assert (frames[2].detection_row == -1).all()


def test_the_way_through_a_gap_follows_media_time() -> None:
    lookback: Lookback[int] = Lookback(4, movers=True, least_hits=2)
    done = []
    for pts_s, tracks in zip((0.0, 0.1, 0.3, 0.5), of([SEEN, SEEN, GONE, SEEN])):
        done += lookback.push(0, pts_s, tracks)
    done += lookback.flush()
    assert float(done[2][1].xyxy[0, 0]) == pytest.approx(20)  # half of 10 -> 30


def test_a_repeated_frame_in_a_gap_takes_no_time() -> None:
    frames = [rows((1, *SEEN, 10.0 * index)) for index in range(4)]
    gap = [rows((1, *GUESS, 0.0)), rows((1, *GUESS, 0.0)), rows((1, *GUESS, 0.0))]
    frames += [*gap, *(rows((1, *SEEN, 60.0 + 10 * index)) for index in range(4))]
    lookback: Lookback[int] = Lookback(4, movers=True, least_hits=2)
    done = []
    for index, tracks in enumerate(frames):
        done += lookback.push(index, index * DT_S, tracks, repeat=index == 5)
    done += lookback.flush()
    assert [float(tracks.xyxy[0, 0]) for _, tracks in done[3:8]] == pytest.approx([30, 40, 40, 50, 60])


def test_a_gap_that_ends_off_its_course_in_a_lone_hit_is_left_open() -> None:
    frames = of([SEEN] * 4 + [GUESS] * 3)
    frames += [rows((1, *SEEN, 250.0))] + [rows((1, *GUESS, 250.0))] * 8
    assert states(told(frames))[:8] == "ccccttt" + "t"  # the hit too: it was of something else
    assert states(told(frames[:8]))[:8] == "ccccttt" + "c"  # at the end of a recording nobody knows


def test_a_lone_hit_on_its_course_is_told() -> None:
    frames = of([SEEN] * 4 + [GUESS] * 3)
    frames += [rows((1, *SEEN, 80.0))] + [rows((1, *GUESS, 80.0))] * 8
    assert states(told(frames))[:8] == "cccc" + "ggg" + "c"


def test_a_long_gap_of_a_small_thing_is_left_open() -> None:
    kinds = [SEEN, SEEN, *[GUESS] * (LONGEST_GAP + 1), SEEN]
    assert states(told(of(kinds), back=8)) == "cc" + "t" * (LONGEST_GAP + 1) + "c"


def test_at_a_high_rate_gaps_of_more_frames_are_filled() -> None:
    kinds = [SEEN, SEEN, SEEN, *[GUESS] * 9, SEEN, SEEN]
    assert states(told(of(kinds), back=12)) == "ccc" + "t" * 9 + "cc"
    assert states(told(of(kinds), back=12, longest_gap=12)) == "ccc" + "g" * 9 + "cc"


def along(places, kinds) -> list[Tracks]:
    return [rows((1, *kind, x)) for x, kind in zip(places, kinds)]


@pytest.mark.parametrize("slowing", [0.0, 1.5])
def test_a_gap_in_a_steady_flight_is_filled_however_fast_it_is(slowing: float) -> None:
    places = [40.0 * index - slowing * index**2 for index in range(9)]
    kinds = [SEEN, SEEN, SEEN, GUESS, GUESS, GUESS, SEEN, SEEN, SEEN]
    frames = told(along(places, kinds), back=6)
    assert states(frames) == "cccgggccc"
    assert [float(frame.xyxy[0, 0]) for frame in frames] == pytest.approx(places, abs=4 * slowing + 1e-3)  # a chord


def test_a_gap_is_left_open_where_the_track_went_on_with_something_else() -> None:
    kinds = [SEEN, SEEN, SEEN, GUESS, GUESS, SEEN, SEEN]
    came_slowly_and_is_far_off = [0.0, 2.0, 4.0, 0.0, 0.0, 90.0, 92.0]
    assert states(told(along(came_slowly_and_is_far_off, kinds), back=6)) == "cccttcc"
    struck_back = [0.0, 30.0, 60.0, 0.0, 0.0, 60.0, 30.0]
    assert states(told(along(struck_back, kinds), back=6)) == "cccggcc"  # its mean velocity is none: so it is told
    only_jitter = [0.0, 2.0, 4.0, 0.0, 0.0, 14.0, 10.0]
    assert states(told(along(only_jitter, kinds), back=6)) == "cccggcc"


def test_a_small_thing_that_does_not_come_back_is_not_told_where_it_might_be() -> None:
    assert states(told(of([SEEN, SEEN, GUESS, GUESS]))) == "cctt"


def test_larger_things_coast_as_the_tracker_says() -> None:
    grown = np.array([0, 0, 30, 30], np.float32)
    frames = [replace(frame, xyxy=frame.xyxy + grown) for frame in of([SEEN, SEEN, GUESS, GUESS])]
    assert states(told(frames)) == "ccgg"


def test_things_known_by_their_looks_are_never_thinned_out() -> None:
    lookback: Lookback[int] = Lookback(4, movers=False)
    done = []
    for index, tracks in enumerate(of([FIRST, SEEN, GUESS, GUESS])):
        done += lookback.push(index, index * DT_S, tracks)
    assert states([tracks for _, tracks in done + lookback.flush()]) == "ccgg"


def test_few_hits_are_not_enough() -> None:
    assert states(told(of([SEEN, SEEN, SEEN]), least_hits=4)) == "ttt"
    assert states(told(of([SEEN] * 4), least_hits=4)) == "cccc"


def test_a_track_found_again_is_one_track_with_its_new_hits() -> None:
    """Lost at frame 2, seen again under a new key from frame 3, recognised at frame 5."""
    lost = [rows((1, *SEEN, 0)), rows((1, *SEEN, 10)), rows((1, *GUESS, 21))]
    again = [rows((1, *GUESS, 33), (2, *FIRST, 30)), rows((1, *GUESS, 45), (2, *FIRST, 40))]
    found = [rows((1, 1, CONFIRMED, True, 50), joined=[(2, 1)], ended=[2])]
    frames = told([*lost, *again, *found])
    assert states(frames) == "ccgccc"
    assert [float(frame.xyxy[frame.key == 1][0, 0]) for frame in frames] == pytest.approx([0, 10, 20, 30, 40, 50])


def test_a_first_hit_has_the_label_and_the_velocity_known_soon_after() -> None:
    frames = of([FIRST, FIRST, SEEN, SEEN])
    late = [replace(frame, label=np.full(len(frame), 3, np.int32)) for frame in frames[2:]]
    first = told([*frames[:2], *late])[0]
    assert first.label.tolist() == [3]
    assert first.velocity_xy[0] == pytest.approx([10 / DT_S, 0])


def test_the_first_hit_after_a_long_gap_flies_towards_the_next() -> None:
    kinds = [SEEN, SEEN, *[GONE] * 9, SEEN, SEEN]
    frame = told(of(kinds))[11]
    assert frame.velocity_xy[0] == pytest.approx([10 / DT_S, 0])


def test_what_has_ended_is_forgotten() -> None:
    lookback: Lookback[int] = Lookback(3, movers=True)
    for key in range(1, 200):
        lookback.push(0, key * DT_S, rows((key, *FIRST, 0), ended=[key - 1]))
    assert len(lookback._lives) < 10


def test_without_looking_back_everything_comes_at_once_as_it_is() -> None:
    lookback: Lookback[str] = Lookback(0, movers=True)
    tracks = of([FIRST])[0]
    assert lookback.push("it", 0.0, tracks) == [("it", tracks)]
    assert lookback.flush() == []


def test_a_recording_is_looked_back_over_for_as_long_whatever_its_rate() -> None:
    assert [frames_held(fps) for fps in (None, 5.0, 25.0, 29.97, 50.0, 59.94, 240.0)] == [6, 6, 6, 6, 10, 12, 24]
