"""Which tiles are run: the sweep's promise, the fewest tiles for what moves, states, counters."""

from __future__ import annotations

import functools
import itertools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.config import TilesConfig
from streamdet.tiles.cover import cover
from streamdet.tiles.joined import plan_everywhere
from streamdet.tiles.plan import plan_tiles
from streamdet.tiles.schedule import MARGIN_PX, TileScheduler
from streamdet.tiles.sweep import Sweep
from streamdet.types import WHY_ALL, WHY_MOTION, WHY_SWEEP, WHY_TRACK, Frame, Motion, Picture, TilePlan, Tracks

WH = (1920, 1080)


@functools.cache
def picture(wh: tuple[int, int] = WH) -> Picture:
    return Picture(np.zeros(wh[::-1], np.uint8), bgr=np.zeros((*wh[::-1], 3), np.uint8))


def frame(pts_s: float, *, wh: tuple[int, int] = WH, **kw: Any) -> Frame:
    return Frame("s", round(pts_s * 1000), pts_s, picture(wh), 0.0, **kw)


def motion(*boxes: Any, state: Any = "steady", wh: tuple[int, int] = WH) -> Motion:
    regions = np.array(boxes, np.float32).reshape(-1, 4)
    return Motion(picture(wh).luma, regions=regions, strength=np.ones(len(regions), np.float32), state=state)


def tracks(*boxes: Any, velocity: Any = (0, 0)) -> Tracks:
    box = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(box)
    one = np.arange(1, n + 1)
    speed = np.tile(np.array(velocity, np.float32), (n, 1))
    flat = np.ones(n, np.float32)
    return Tracks(
        one, one, box, speed, flat, one.astype(np.int32), one.astype(np.uint8) * 0 + 1, flat, one.astype(np.int32)
    )


def scheduler(network: tuple[int, int] = (320, 320), **kw: Any) -> TileScheduler:
    config = TilesConfig(**kw)
    return TileScheduler(config, make_plan=functools.partial(plan_tiles, input_wh=network, config=config))


def keys(plan: TilePlan) -> list[tuple[int, ...]]:
    return [tuple(row) for row in plan.xyxy.tolist()]


NOTHING = Tracks.empty()


class TestLook:
    def test_all_runs_everything(self) -> None:
        look = scheduler(look="all")
        for i in range(3):
            plan = look(frame(i / 25), motion(), NOTHING)
            assert len(plan) == plan.of == 32
            assert (plan.why == WHY_ALL).all()

    def test_auto_looks_everywhere_first_and_while_the_camera_moves(self) -> None:
        look = scheduler(look="auto")
        assert len(look(frame(0.0), motion(state="first"), NOTHING)) == 32
        assert len(look(frame(0.04), motion(), NOTHING)) < 5
        assert len(look(frame(0.08), motion(state="moving"), NOTHING)) == 32
        assert len(look(frame(0.12), motion(state="exposure"), NOTHING)) < 5

    def test_everywhere_in_other_tiles(self) -> None:
        """A plan of its own for frames that are looked at all over; the sweep knows that all was seen."""
        config = TilesConfig(look="auto")
        plans = [functools.partial(plan, input_wh=(320, 320), config=config) for plan in (plan_tiles, plan_everywhere)]
        look = TileScheduler(config, make_plan=plans[0], make_everywhere=plans[1])
        first = look(frame(0.0), motion(state="first"), NOTHING)
        assert first.everywhere
        assert len(first) < 8
        assert (first.why == WHY_ALL).all()
        assert look.plan is not None
        assert look.plan.of == 32
        swept = [look(frame(i * 0.04), motion(), NOTHING) for i in range(1, 21)]
        assert all(plan.input_wh == (320, 320) for plan in swept)
        assert len(np.unique(np.concatenate([plan.xyxy for plan in swept]), axis=0)) < 32  # a second has not passed yet
        part = look.wanted(frame(0.84), motion(state="moving"), NOTHING)
        assert len(look.most_urgent(part, 2)) == 2
        assert len(look.wanted(frame(0.88), motion(state="repeat"), NOTHING)) == 0

    def test_tracks_are_expected_where_the_camera_has_moved_the_scene(self) -> None:
        look = scheduler(look="motion", sweep_s=1000)
        look(frame(0.0), motion(state="first"), NOTHING)
        pan = replace(motion(state="moving"), shift_xy=(400.0, 0.0))
        plan = look(frame(0.04), pan, tracks([1000, 500, 1010, 510]))
        shown = plan.xyxy[plan.why == WHY_TRACK]
        assert len(shown) == 1
        assert shown[0, 0] <= 1400
        assert shown[0, 2] >= 1410

    def test_motion_spreads_the_first_look_over_the_sweep(self) -> None:
        look = scheduler(look="motion")
        assert len(look(frame(0.0), motion(state="first"), NOTHING)) <= 3
        assert len(look(frame(0.04), motion(state="moving"), NOTHING)) <= 3

    @pytest.mark.parametrize("mode", ["auto", "motion", "all"])
    def test_still_cut_and_repeat(self, mode: Any) -> None:
        look = scheduler(look=mode)
        assert len(look(frame(0.0, still=True), motion(state="first"), NOTHING)) == 32
        assert len(look(frame(0.04), motion(state="cut"), NOTHING)) == 32
        assert len(look(frame(0.08), motion(state="repeat"), NOTHING)) == 0

    def test_more_movers_than_can_be_told_apart(self) -> None:
        boxes = np.random.default_rng(0).random((3000, 4)) * 200
        assert len(scheduler(look="motion")(frame(0.0), motion(*boxes), NOTHING)) == 32

    def test_coarse_tile_is_run_by_the_sweep_only(self) -> None:
        look = scheduler(look="motion", whole_frame=True)
        ran = [look(frame(i / 25), motion([100, 100, 110, 110]), NOTHING) for i in range(100)]
        whole = [i for i, plan in enumerate(ran) if (0, 0, *WH) in keys(plan)]
        assert 3 <= len(whole) <= 8  # in four seconds
        for i in whole:
            assert ran[i].why[keys(ran[i]).index((0, 0, *WH))] == WHY_SWEEP


class TestSweep:
    def ages(self, look: TileScheduler, times: list[float], **kw: Any) -> float:
        """The largest media time that any tile waited, start and end included."""
        seen: dict[tuple[int, ...], float] = {}
        worst = 0.0
        for t in times:
            plan = look(frame(t), motion(*kw.get("boxes", ())), NOTHING)
            for key in keys(plan):
                worst = max(worst, t - seen.get(key, times[0]))
                seen[key] = t
        assert look.plan is not None
        return max([worst, *(times[-1] - seen.get(key, times[0]) for key in keys(look.plan))])

    @pytest.mark.parametrize("fps", [1, 5, 12.5, 25, 29.97, 60, 240, 1000])
    @pytest.mark.parametrize("sweep_s", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize("boxes", [(), ([100, 100, 120, 120], [900, 500, 1500, 900])])
    def test_bound_holds_at_any_rate(self, fps: float, sweep_s: float, boxes: Any) -> None:
        times = [i / fps for i in range(int(max(4 * sweep_s, 3) * fps) + 2)]
        look = scheduler(look="motion", sweep_s=sweep_s)
        assert self.ages(look, times, boxes=boxes) <= max(sweep_s, 1 / fps) + 1e-6

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.sampled_from([0.01, 0.02, 0.04, 0.05, 0.3, 0.9]), min_size=30, max_size=120))
    def test_after_dropped_frames_it_is_late_by_the_gap_at_most(self, steps: list[float]) -> None:
        times = [0.0, *itertools.accumulate(steps)]
        assert self.ages(scheduler(look="motion"), times) <= 1.0 + max(steps) + 1e-6

    def test_work_is_even_and_no_more_than_needed(self) -> None:
        look = scheduler(look="motion")
        counts = [len(look(frame(i / 25), motion(), NOTHING)) for i in range(250)]
        assert max(counts) <= 3
        assert sum(counts[:25]) == pytest.approx(32, abs=3)
        assert sum(counts) == pytest.approx(10 * 32, rel=0.1)

    def test_even_again_soon_after_everything_was_run_at_once(self) -> None:
        look = scheduler(look="auto")
        look(frame(0.0), motion(state="first"), NOTHING)
        assert max(len(look(frame(i / 25), motion(), NOTHING)) for i in range(1, 100)) <= 3

    def test_where_nothing_moves_the_sweep_slows_down(self) -> None:
        config = TilesConfig(look="motion", sweep_s=1.0, still_sweep_s=4.0)
        make_plan = functools.partial(plan_tiles, input_wh=(320, 320), config=config)
        look = TileScheduler(config, make_plan=make_plan, movers=False)
        runs = [len(look(frame(i / 25), motion(), NOTHING)) for i in range(25 * 10)]
        of = 32
        first, later = sum(runs[:75]), sum(runs[125:225])
        assert of <= first <= 2 * of, "a visit each in the first second"
        assert of - 2 <= later <= of + 2, "then one in four seconds"

    def test_where_something_moved_the_sweep_comes_within_its_period_again(self) -> None:
        tiles = np.array([[0, 0, 100, 100], [80, 0, 180, 100]], np.int32)
        sweep = Sweep(tiles, 0.0, sweep_s=1.0, still_sweep_s=4.0)
        sweep.ran([0, 1], 0.0)
        sweep.stir(
            np.array([[10, 10, 40, 20], [120, 10, 130, 20]], np.float32), 0.0
        )  # the second is too small to count
        idle = np.ones(2, np.bool_)
        seen: list[list[int]] = []
        for i in range(1, 101):
            due = sweep.due(idle, i / 25, 1 / 25, 1 / 25)
            sweep.ran(due, i / 25)
            seen.append(due.tolist())
        first = [min(i for i, due in enumerate(seen, 1) if row in due) for row in (0, 1)]
        assert first[0] <= 25
        assert 25 < first[1] <= 100

    def test_the_time_within_which_the_sweep_comes_begins_when_something_moves(self) -> None:
        """Until then the picture was the one that was looked at."""
        sweep = Sweep(np.array([[0, 0, 100, 100]], np.int32), 0.0, sweep_s=1.0, still_sweep_s=4.0)
        sweep.ran([0], 0.0)
        idle, moved = np.ones(1, np.bool_), np.array([[10, 10, 40, 40]], np.float32)
        visits = []
        for i in range(1, 200):
            if i > 50:
                sweep.stir(moved, i / 25)
            due = sweep.due(idle, i / 25, 1 / 25, 1 / 25)
            sweep.ran(due, i / 25)
            visits += [i / 25] * len(due)
        assert 2.5 < visits[0] <= 51 / 25 + 1.0
        assert np.diff(visits).max() <= 1.0 + 1.5 / 25

    def test_tiles_that_move_need_no_sweep(self) -> None:
        look = scheduler(look="motion")
        plans = [look(frame(i / 25), motion([0, 0, *WH]), NOTHING) for i in range(60)]
        everywhere = [i for i, plan in enumerate(plans) if (plan.why == WHY_MOTION).sum() == 32]
        assert everywhere[0] == 0
        assert max(np.diff(everywhere)) <= 5  # 0.2 s: so much motion is never left alone, found or not

    def test_new_size_new_epoch_and_time_running_back(self) -> None:
        look = scheduler(look="motion")
        for i in range(50):
            look(frame(i / 25), motion(), NOTHING)
        plan = look(frame(2.0, wh=(640, 480)), motion(wh=(640, 480)), NOTHING)
        assert plan.frame_wh == (640, 480)
        assert self.ages(look, [i / 25 for i in range(60)]) <= 1.0 + 1e-6
        again = [look(frame(i / 25, epoch=1), motion(), NOTHING) for i in range(26)]
        assert len({key for plan in again for key in keys(plan)}) == 32


class TestChoice:
    def chosen(self, *boxes: Any, **kw: Any) -> TilePlan:
        """Tiles run for motion and tracks (no sweep) in the second frame."""
        look = scheduler(look="motion", **kw)
        look(frame(0.0), motion(), NOTHING)
        plan = look(frame(0.04), motion(*boxes), NOTHING)
        return plan[plan.why != WHY_SWEEP]

    def test_a_small_mover_takes_one_tile_and_the_most_central(self) -> None:
        rng = np.random.default_rng(1)
        every = plan_tiles(WH, input_wh=(320, 320), config=TilesConfig())
        for x, y in rng.random((100, 2)) * np.array(WH) * 0.98:
            box = np.array([x, y, min(x + 12, WH[0]), min(y + 9, WH[1])])
            (tile,) = self.chosen(box).xyxy

            def slack(t: Any, box: Any = box) -> float:
                low = np.where(t[:2] == 0, np.inf, box[:2] - t[:2])
                high = np.where(t[2:] == WH, np.inf, t[2:] - box[2:])
                return float(min(*low, *high))

            best = max(map(slack, every.xyxy))
            assert slack(tile) >= min(MARGIN_PX, best) - 1e-3

    def test_one_tile_for_several_that_fit_in_one(self) -> None:
        assert len(self.chosen([300, 300, 310, 310], [330, 330, 350, 350], [410, 400, 420, 410])) == 1

    def test_a_region_larger_than_a_tile_takes_all_it_touches(self) -> None:
        plan = self.chosen([100, 100, 900, 800])
        every = plan_tiles(WH, input_wh=(320, 320), config=TilesConfig()).xyxy
        touches = (every[:, 0] < 900) & (every[:, 2] > 100) & (every[:, 1] < 800) & (every[:, 3] > 100)
        assert sorted(keys(plan)) == sorted(tuple(row) for row in every[touches].tolist())

    def test_a_region_across_one_seam_takes_two(self) -> None:
        assert len(self.chosen([200, 100, 400, 120])) == 2

    def test_across_a_horizontal_seam_where_two_columns_would_do_only_one_is_taken(self) -> None:
        every = plan_tiles(WH, input_wh=(320, 320), config=TilesConfig())
        x = int(np.unique(every.xyxy[:, 0])[1]) + 40  # within columns 0 and 1
        plan = self.chosen([x, 200, x + 8, 420])
        assert len(plan) == 2
        assert len(np.unique(plan.xyxy[:, 0])) == 1

    def test_partly_outside_the_frame_is_whole_in_the_border_tile(self) -> None:
        assert len(self.chosen([-60, 150, 20, 170])) == 1
        assert len(self.chosen([-5, 150, 250, 170])) == 1  # would also touch the second column

    def test_tracks_are_expected_where_they_fly_to(self) -> None:
        look = scheduler(look="motion")
        look(frame(0.0), motion(), NOTHING)
        plan = look(frame(0.1), motion(), tracks([100, 500, 110, 510], velocity=(9000, 0)))
        (tile,) = plan[plan.why == WHY_TRACK].xyxy.tolist()
        assert tile[0] <= 1000
        assert tile[2] >= 1010
        plan = look(frame(0.2), motion(), tracks([1900, 500, 1910, 510], velocity=(9000, 0)))
        assert (plan.why == WHY_SWEEP).all()

    def test_why_motion_goes_before_track(self) -> None:
        look = scheduler(look="motion")
        look(frame(0.0), motion(), NOTHING)
        plan = look(frame(0.04), motion([100, 100, 110, 110]), tracks([125, 105, 135, 115], [1500, 900, 1510, 910]))
        assert sorted(plan.why[plan.why != WHY_SWEEP].tolist()) == [WHY_MOTION, WHY_TRACK]

    def test_counters_add_up(self) -> None:
        look = scheduler(look="auto")
        ran = 0
        box = np.array([50, 50, 60, 60])
        for i in range(20):
            ran += len(look(frame(i / 25), motion(box + 40 * i, state="steady" if i else "first"), NOTHING))
        assert look.frames == 20
        assert look.of_total == 20 * 32
        assert sum(look.counters.values()) == ran
        assert look.counters["all"] == 32
        assert look.counters["motion"] == 19


class TestCover:
    def test_never_more_than_the_best_choice_by_much_and_every_region_is_shown(self) -> None:
        rng = np.random.default_rng(3)
        tiles = plan_tiles((600, 400), input_wh=(200, 200), config=TilesConfig(overlap=0.4)).xyxy
        extra = 0
        for _ in range(30):
            corner = rng.random((6, 2)) * (570, 370)
            boxes = np.concatenate([corner, corner + rng.random((6, 2)) * 30], 1)
            run, shows = cover(tiles, boxes, frame_wh=(600, 400), margin_px=0.0)
            assert shows.any(1).all()
            assert not shows[:, ~run].any()
            holds = np.array([[(b[:2] >= t[:2]).all() and (b[2:] <= t[2:]).all() for t in tiles] for b in boxes])
            fewest = next(
                n
                for n in range(1, len(tiles) + 1)
                if any(holds[:, list(pick)].any(1).all() for pick in itertools.combinations(range(len(tiles)), n))
            )
            extra += int(run.sum()) - fewest
            assert run.sum() <= fewest + 1
        assert extra <= 6

    def test_nothing_to_cover(self) -> None:
        run, shows = cover(np.array([[0, 0, 10, 10]]), np.zeros((0, 4)), frame_wh=(10, 10), margin_px=4.0)
        assert run.tolist() == [False]
        assert shows.shape == (0, 1)

    def test_tiles_missing_where_the_region_is(self) -> None:
        run, _ = cover(np.array([[0, 0, 10, 10]]), np.array([[50, 50, 60, 60.0]]), frame_wh=(100, 100), margin_px=4.0)
        assert not run.any()

    def test_fast_enough(self) -> None:
        rng = np.random.default_rng(0)
        tiles = plan_tiles((3840, 2160), input_wh=(320, 320), config=TilesConfig()).xyxy
        corner = rng.random((200, 2)) * (3800, 2100)
        boxes = np.concatenate([corner, corner + rng.random((200, 2)) * 40], 1)
        spent = []
        for _ in range(20):
            start = time.perf_counter()
            cover(tiles, boxes, frame_wh=(3840, 2160), margin_px=12.0)
            spent.append(time.perf_counter() - start)
        assert len(tiles) == 135
        assert min(spent) < 0.005  # 0.6 ms on an idle core


class TestMostUrgent:
    """With too little time for all tiles."""

    def test_what_moves_comes_before_the_sweep(self) -> None:
        look = scheduler(look="motion", sweep_s=0.2)
        for i in range(5):
            now = frame(i / 25)
            wanted = look.wanted(now, motion((900, 500, 910, 510)), NOTHING)
            assert len(wanted) > 2
            run = look.most_urgent(wanted, 1)
            look.ran(now, motion(), run)
            assert keys(run) == [key for key, why in zip(keys(wanted), wanted.why) if why == WHY_MOTION][:1]

    def test_all_tiles_have_their_turn_in_the_end(self) -> None:
        look = scheduler(look="motion", sweep_s=0.5)
        seen: set[tuple[int, ...]] = set()
        for i in range(1500):
            now = frame(i / 25)
            run = look.most_urgent(look.wanted(now, motion((900, 500, 910, 510)), NOTHING), 1)
            look.ran(now, motion(), run)
            assert len(run) <= 1
            seen.update(keys(run))
        assert len(seen) == 32

    def test_where_it_moves_everywhere_the_longest_unseen_come_first(self) -> None:
        look = scheduler(look="auto")
        seen: list[tuple[int, ...]] = []
        for i in range(5):
            now = frame(i / 25)
            run = look.most_urgent(look.wanted(now, motion(state="moving"), NOTHING), 8)
            look.ran(now, motion(), run)
            assert len(run) == 8
            seen += keys(run)
        assert len(set(seen)) == 32

    def test_all_is_all(self) -> None:
        look = scheduler(look="all")
        assert len(look.most_urgent(look.wanted(frame(0.0), motion(), NOTHING), 3)) == 32

    def test_with_time_for_all_it_is_the_same_as_one_call(self) -> None:
        one, two = scheduler(look="motion"), scheduler(look="motion")
        for i in range(60):
            now, moves = frame(i / 25), motion((40 + 9 * i, 300, 50 + 9 * i, 310))
            tiles = two.most_urgent(two.wanted(now, moves, NOTHING), 1000)
            two.ran(now, moves, tiles)
            assert keys(one(now, moves, NOTHING)) == keys(tiles)
        assert one.counters == two.counters
