"""Which tiles of a plan are run in this frame, and why.

- ``all``: every tile of every frame.
- ``motion``: the fewest tiles that show whatever moves and wherever a track should be now, as far as it is time to look
  there again (`streamdet.tiles.revisit`), plus a rotating sweep that visits every tile at least once in ``sweep_s`` of
  media time, so that what stands still is found too.
- ``auto``: all tiles of a still, of the first frame of a video, and while the camera moves; else ``motion``.

In either, the first frame after a cut runs all tiles once, and an exact repeat of the preceding frame runs none (the
pipeline holds what was found there). A tile that shows the whole frame beside finer ones is run by the sweep only.

A live stream on a machine that is too slow gets fewer tiles than it wants: :meth:`TileScheduler.most_urgent` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdet.config import TilesConfig
from streamdet.tiles.cover import cover
from streamdet.tiles.plan import coarse_rows
from streamdet.tiles.revisit import Visits, explained, patience_s
from streamdet.types import (
    F32,
    TENTATIVE,
    WHY_ALL,
    WHY_MOTION,
    WHY_NAMES,
    WHY_SWEEP,
    WHY_TRACK,
    Bool,
    Frame,
    Motion,
    TilePlan,
    Tracks,
)

__all__ = ["TileScheduler"]

MARGIN_PX = 12.0  # room round a moving region or a predicted track inside its tile
MOST_REGIONS = 2000  # more moving things than this: everything moves, run all tiles
FIRST_DT_S = 1 / 30  # before two frames were seen
PATIENT_SWEEPS, SWEEP_TILE_IN = 4.0, 4  # with too little time for all tiles: see most_urgent

F64 = NDArray[np.float64]


class TileScheduler:
    """A Scheduler for one stream. It plans anew when the frame size changes and starts afresh with a new epoch.

    A tile's age (media time since it was last run) never exceeds ``sweep_s`` when a frame arrives as long as frames come
    evenly; after a gap all that became overdue meanwhile is run at once.

    Attributes:
        frames: frames seen. of_total: tiles a look everywhere would have run. counters: tiles run, by why.
    """

    def __init__(self, config: TilesConfig, *, make_plan: Callable[[tuple[int, int]], TilePlan]) -> None:
        self._config = config
        self._make_plan = make_plan
        self._plan: TilePlan | None = None
        self._coarse: Bool = np.zeros(0, np.bool_)
        self._last_run_s: F64 = np.zeros(0)
        self._visits = Visits((1, 1))
        self._pts_s: float | None = None
        self._dt_s = FIRST_DT_S
        self._epoch = 0
        self._credit = 0.0
        self._sweep_credit = 0.0
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)  # of the plan, in what was given out last
        self.frames = 0
        self.of_total = 0
        self.counters: dict[str, int] = dict.fromkeys(WHY_NAMES, 0)

    @property
    def plan(self) -> TilePlan | None:
        """The full plan in use; None before the first frame."""
        return self._plan

    def __call__(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        """Choose, and take it as run: :meth:`wanted` and :meth:`ran` in one."""
        tiles = self.wanted(frame, motion, tracks)
        self.ran(frame, motion, tiles)
        return tiles

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        """The tiles that ought to be run in this frame, in the order of the plan. Nothing counts as run yet."""
        plan = self._current(frame)
        since_s = self._tick(frame)
        why = self._choose(frame, motion, tracks, plan, since_s)
        self._rows = np.flatnonzero(why >= 0)
        return replace(plan[self._rows], why=why[self._rows].astype(np.uint8))

    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan:
        """At most so many of the `tiles` that :meth:`wanted` gave last, for want of time; the others wait.

        First what moves and what is tracked, longest unseen first; then the sweep. A sweep that has waited for `PATIENT_SWEEPS`
        times its period gets one tile in `SWEEP_TILE_IN`, so that what stands still is found at last.
        """
        if most >= len(tiles) or self._config.look == "all":  # "all" was asked for: frames are dropped instead
            return tiles
        assert self._pts_s is not None
        age_s = self._pts_s - self._last_run_s[self._rows]
        swept = tiles.why == WHY_SWEEP
        order = np.lexsort((-age_s, swept))
        overdue = np.flatnonzero(swept & (age_s > PATIENT_SWEEPS * self._config.sweep_s))
        self._sweep_credit = min(self._sweep_credit + most / SWEEP_TILE_IN, 1.0 + most / SWEEP_TILE_IN)
        first = overdue[np.argsort(-age_s[overdue], kind="stable")][: int(self._sweep_credit)]
        chosen = np.sort(np.concatenate([first, order[~np.isin(order, first)]])[:most])
        self._sweep_credit -= int(np.isin(first, chosen).sum())
        self._rows = self._rows[chosen]
        return tiles[chosen]

    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None:
        """These `tiles`, the last that were given out, are run in this frame."""
        assert self._plan is not None
        rows = self._rows
        self._last_run_s[rows] = frame.pts_s
        self._visits.mark(self._plan.xyxy[rows[~self._coarse[rows]]], frame.pts_s)
        self._visits.watch(motion.regions, frame.pts_s)
        self.frames += 1
        self.of_total += tiles.of
        for name, count in zip(WHY_NAMES, np.bincount(tiles.why, minlength=len(WHY_NAMES)).tolist()):
            self.counters[name] += count

    def _current(self, frame: Frame) -> TilePlan:
        """The plan for this frame's size; new ones, and new epochs, know of no earlier visit."""
        plan = self._plan
        if plan is None or plan.frame_wh != frame.wh:
            plan = self._plan = self._make_plan(frame.wh)
            self._coarse = coarse_rows(plan)
            self._pts_s = None
        if self._pts_s is None or frame.epoch != self._epoch or frame.pts_s < self._pts_s:
            self._epoch, self._pts_s, self._credit = frame.epoch, None, 0.0
            self._visits = Visits(frame.wh)
            turn = (np.arange(len(plan)) + 1) / max(1, len(plan))  # the last tile is due in sweep_s, the first at once
            self._last_run_s = frame.pts_s - self._config.sweep_s * (1 - turn)
        return plan

    def _tick(self, frame: Frame) -> float:
        """Media seconds since the preceding call (0 on the first)."""
        since_s = 0.0 if self._pts_s is None else frame.pts_s - self._pts_s
        self._pts_s = frame.pts_s
        if since_s > 0:
            self._dt_s = since_s
        return since_s

    def _choose(self, frame: Frame, motion: Motion, tracks: Tracks, plan: TilePlan, since_s: float) -> NDArray[np.int8]:
        """(T,) why each tile is run, -1 if it is not."""
        why = np.full(len(plan), -1, np.int8)
        if motion.state == "repeat" and not frame.still:
            return why
        if self._everywhere(frame, motion):
            why[:] = WHY_ALL
            return why
        self._where_it_moves(why, plan, motion, tracks, since_s)
        why[self._due(why < 0, frame.pts_s, since_s)] = WHY_SWEEP
        return why

    def _everywhere(self, frame: Frame, motion: Motion) -> bool:
        look = self._config.look
        if look == "all" or frame.still or motion.state == "cut" or len(motion.regions) > MOST_REGIONS:
            return True
        return look == "auto" and motion.state in ("first", "moving")

    def _where_it_moves(
        self, why: NDArray[np.int8], plan: TilePlan, motion: Motion, tracks: Tracks, since_s: float
    ) -> None:
        """Mark the tiles that show moving regions and expected tracks."""
        expected: F32 = tracks.xyxy + np.tile(tracks.velocity_xy * np.float32(since_s), 2)
        regions = np.concatenate([motion.regions.reshape(-1, 4), expected.reshape(-1, 4)])
        width, height = plan.frame_wh
        seen = (regions[:, 0] < width) & (regions[:, 1] < height) & (regions[:, 2] > 0) & (regions[:, 3] > 0)
        seen &= self._is_time(regions, motion, tracks)
        fine = np.flatnonzero(~self._coarse)
        if not seen.any() or not len(fine):
            return
        moving = (np.arange(len(regions)) < len(motion.regions))[seen]
        run, shows = cover(plan.xyxy[fine], regions[seen], frame_wh=plan.frame_wh, margin_px=MARGIN_PX)
        why[fine[run]] = np.where(shows[moving][:, run].any(0), WHY_MOTION, WHY_TRACK)

    def _is_time(self, regions: F32, motion: Motion, tracks: Tracks) -> Bool:
        """(R + M,) which moving regions, then expected tracks, have to be looked at in this frame."""
        assert self._pts_s is not None
        count = len(motion.regions)
        unseen_s = self._pts_s - self._visits.last_s(regions)
        self._visits.learn(regions[count:], self._pts_s)
        wait = np.concatenate(
            [self._visits.patience_s(regions[:count], self._dt_s), patience_s(tracks, unseen_s[count:], self._dt_s)]
        )
        due = np.asarray(unseen_s + self._dt_s / 2 >= wait)  # nearer to its time now than in the next frame
        due[:count] &= ~explained(regions[:count], regions[count:][tracks.state != TENTATIVE])
        return due

    def _due(self, idle: Bool, now_s: float, since_s: float) -> NDArray[np.intp]:
        """Rows of `idle` tiles the sweep visits now: an even share of them, oldest first, and all that cannot wait."""
        sweep_s = self._config.sweep_s
        rows = np.flatnonzero(idle)
        ages = now_s - self._last_run_s[rows]
        oldest = np.argsort(-ages, kind="stable")
        self._credit = min(self._credit + len(rows) * (since_s or self._dt_s) / sweep_s, float(len(rows)))
        overdue = int((ages + self._dt_s > sweep_s * (1 + 1e-6)).sum())  # before the next frame comes
        count = max(int(self._credit), overdue)
        self._credit = max(0.0, self._credit - count)
        return rows[oldest[:count]]
