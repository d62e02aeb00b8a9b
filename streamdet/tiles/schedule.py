"""Which tiles of a plan are run in this frame, and why.

- ``all``: every tile of every frame.
- ``motion``: the fewest tiles that show whatever moves and wherever a track should be now, as far as it is time to look
  there again (`streamdet.tiles.revisit`), plus a rotating sweep (`streamdet.tiles.sweep`), so that what stands still is found
  too. Where they need fewer inputs, pieces of the frame take the place of tiles (`streamdet.tiles.collage`); what room is then
  left in these inputs is given to tracks that are not due yet.
- ``auto``: all tiles of a still, of the first frame of a video, and while the camera moves; else ``motion``.

For networks that see what stands still, the first frame runs all tiles in ``motion`` too: what is found stands as long as nothing
moves there (`streamdet.tiles.standing`) and is given again in every frame. Candidates larger than a speck are looked at in whole
tiles, as with ``all``; pieces serve what is known, and what moves and may turn out to be anything.

In any, the first frame after a cut runs all tiles once, and an exact repeat of the preceding frame runs none (the
pipeline holds what was found there). A tile that shows the whole frame beside finer ones is run by the sweep only.

A live stream on a machine that is too slow gets fewer tiles than it wants: :meth:`TileScheduler.most_urgent` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdet.boxes import area, intersection, ios
from streamdet.config import TilesConfig
from streamdet.tiles.attention import Attention
from streamdet.tiles.collage import MOST_PIECES, MOVERS, ORDINARY, collage, fit_in_pieces
from streamdet.tiles.cover import cover, cut, shown
from streamdet.tiles.plan import coarse_rows
from streamdet.tiles.sweep import Sweep
from streamdet.types import (
    F32,
    U8,
    WHY_ALL,
    WHY_MOTION,
    WHY_NAMES,
    WHY_SWEEP,
    WHY_TRACK,
    Bool,
    Detections,
    Frame,
    Motion,
    TilePlan,
    Tracks,
)

__all__ = ["TileScheduler"]

MET_SHARE = 0.5  # of the smaller one that what is found in a piece shares with what the piece is to show
ACROSS, DOWN = np.uint8(1 | 4), np.uint8(2 | 8)  # truncated at both edges: see TilePlan.truncated
MARGIN_PX = 12.0  # room round a moving region or a predicted track inside its tile
MOST_FILLED = 64  # regions up to which it is worth trying to fill inputs up
MOST_REGIONS = 2000  # more moving things than this: everything moves, run all tiles
FIRST_DT_S = 1 / 30  # before two frames were seen
PATIENT_SWEEPS, SWEEP_TILE_IN = 4.0, 4  # with too little time for all tiles: see most_urgent
PIECE, JOINED = -1, -2  # rows of what was given out that are none of the plan

F64 = NDArray[np.float64]


class TileScheduler:
    """A Scheduler for one stream. It plans anew when the frame size changes and starts afresh with a new epoch.

    A tile's age (media time since it was last run) never exceeds ``sweep_s`` when a frame arrives as long as frames come
    evenly; after a gap all that became overdue meanwhile is run at once. For networks that see what stands still, the time from
    when something first moved in it never does, and the age never exceeds ``still_sweep_s`` (`streamdet.tiles.sweep`).

    `make_everywhere`: plans frames that are looked at all over, where that is better done in other tiles.

    Attributes:
        frames: frames seen. of_total: tiles a look everywhere would have run. counters: tiles run, by why.
    """

    def __init__(
        self,
        config: TilesConfig,
        *,
        make_plan: Callable[[tuple[int, int]], TilePlan],
        make_everywhere: Callable[[tuple[int, int]], TilePlan] | None = None,
        collages: bool = False,
        movers: bool = True,
    ) -> None:
        self._config = config
        self._collages = collages
        self._movers = movers
        self._sight = MOVERS if movers else ORDINARY
        self._make_plan = make_plan
        self._make_everywhere = make_everywhere
        self._plan: TilePlan | None = None
        self._everything: TilePlan | None = None  # shows all of a frame, where that is another plan
        self._coarse: Bool = np.zeros(0, np.bool_)
        self._sweep = Sweep(np.zeros((0, 4), np.int32), 0.0, sweep_s=1.0, still_sweep_s=1.0)
        self._attention = self._fresh_attention((1, 1))
        self._pts_s: float | None = None
        self._dt_s = FIRST_DT_S
        self._epoch = 0
        self._sweep_credit = 0.0
        self._subjects: F32 = np.zeros((0, 4), np.float32)  # what pieces were laid out for last
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)  # of the plan, in what was given out last
        self.frames = 0
        self.of_total = 0
        self.counters: dict[str, int] = dict.fromkeys(WHY_NAMES, 0)

    @property
    def plan(self) -> TilePlan | None:
        """The full plan in use; None before the first frame."""
        return self._plan

    def recall(self, frame: Frame, tiles: TilePlan, found: Detections) -> Detections:
        """See :class:`streamdet.protocols.Memory`."""
        found = self._of_subjects(tiles, found)
        return self._attention.standing.recall(frame, tiles, found, turns=self._rows >= 0)

    def _of_subjects(self, tiles: TilePlan, found: Detections) -> Detections:
        """Without what is found in pieces beside what they are to show: cut off, and with no surroundings, anything is found."""
        whole = int((self._rows != PIECE).sum())
        if whole == len(tiles) or not len(found):
            return found
        met = (ios(found.xyxy, self._subjects) >= MET_SHARE).any(1)
        across = ((found.truncated & ACROSS) == ACROSS) | ((found.truncated & DOWN) == DOWN)
        met &= ~(across & (tiles.why[found.tile] == WHY_TRACK))  # the piece itself: what is known has room on all sides
        return found[(found.tile < whole) | met]

    def stands(self) -> Bool | None:
        """See :class:`streamdet.protocols.Memory`."""
        return None if self._plan is None else self._attention.visits.unchanged()

    def __call__(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        """Choose, and take it as run: :meth:`wanted` and :meth:`ran` in one."""
        tiles = self.wanted(frame, motion, tracks)
        self.ran(frame, motion, tiles)
        return tiles

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan:
        """The tiles that ought to be run in this frame, in the order of the plan. Nothing counts as run yet."""
        plan = self._current(frame)
        since_s = self._tick(frame)
        why, pieces = self._choose(frame, motion, tracks, plan, since_s)
        if self._everything is not None and len(why) and (why == WHY_ALL).all():
            self._rows = np.full(len(self._everything), JOINED)
            return self._everything
        self._rows = np.flatnonzero(why >= 0)
        tiles = replace(plan[self._rows], why=why[self._rows].astype(np.uint8))
        if pieces is None:
            return tiles
        self._rows = np.concatenate([self._rows, np.full(len(pieces), PIECE)])
        return tiles.beside(pieces, counted=False)

    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan:
        """At most so many of the `tiles` that :meth:`wanted` gave last, for want of time; the others wait.

        First what moves and what is tracked, longest unseen first; then the sweep. A sweep that has waited for `PATIENT_SWEEPS`
        times its period gets one tile in `SWEEP_TILE_IN`, so that what stands still is found at last.
        """
        if most >= tiles.slots or self._config.look == "all":  # "all" was asked for: frames are dropped instead
            return tiles
        age_s = self._ages(tiles)
        swept = tiles.slot_why == WHY_SWEEP
        order = np.lexsort((-age_s, swept))
        overdue = np.flatnonzero(swept & (age_s > PATIENT_SWEEPS * self._config.sweep_s))
        self._sweep_credit = min(self._sweep_credit + most / SWEEP_TILE_IN, 1.0 + most / SWEEP_TILE_IN)
        first = overdue[np.argsort(-age_s[overdue], kind="stable")][: int(self._sweep_credit)]
        chosen = np.concatenate([first, order[~np.isin(order, first)]])[:most]
        self._sweep_credit -= int(np.isin(first, chosen).sum())
        rows = np.flatnonzero(np.isin(tiles.slot_rows, chosen))
        self._rows = self._rows[rows]
        return tiles[rows]

    def _ages(self, tiles: TilePlan) -> F64:
        """(S,) seconds since the longest unseen tile of every input was run."""
        assert self._pts_s is not None
        rows = self._rows
        last_s = np.where(
            rows >= 0, self._sweep.last_run_s[rows], self._attention.visits.last_s(tiles.xyxy.astype(np.float32))
        )
        age_s = np.zeros(tiles.slots)
        np.maximum.at(age_s, tiles.slot_rows, self._pts_s - last_s)
        return age_s

    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None:
        """These `tiles`, the last that were given out, are run in this frame."""
        rows = self._rows
        whole = np.flatnonzero(rows >= 0)
        self._sweep.ran(self._within(tiles) if (rows == JOINED).any() else rows[whole], frame.pts_s)
        fine = np.ones(len(rows), np.bool_)
        fine[whole] = ~self._coarse[rows[whole]]
        self._attention.visits.mark(tiles.xyxy[fine], frame.pts_s)
        self._attention.visits.watch(motion.regions, frame.pts_s)
        self.frames += 1
        self.of_total += tiles.of
        for name, count in zip(WHY_NAMES, np.bincount(tiles.slot_why, minlength=len(WHY_NAMES)).tolist()):
            self.counters[name] += count

    def _within(self, joined: TilePlan) -> NDArray[np.intp]:
        """Rows of the plan that these larger tiles show; all of them show all."""
        assert self._plan is not None
        if len(joined) == joined.of:
            return np.arange(len(self._plan))
        own = area(self._plan.xyxy)
        return np.flatnonzero(intersection(self._plan.xyxy, joined.xyxy).max(1, initial=0) >= own)

    def _current(self, frame: Frame) -> TilePlan:
        """The plan for this frame's size; new ones, and new epochs, know of no earlier visit."""
        plan = self._plan
        if plan is None or plan.frame_wh != frame.wh:
            plan = self._plan = self._make_plan(frame.wh)
            everything = self._make_everywhere(frame.wh) if self._make_everywhere is not None else plan
            self._everything = everything if everything.input_wh != plan.input_wh else None
            self._coarse = coarse_rows(plan)
            self._pts_s = None
        if self._pts_s is None or frame.epoch != self._epoch or frame.pts_s < self._pts_s:
            self._epoch, self._pts_s = frame.epoch, None
            self._attention = self._fresh_attention(frame.wh)
            sweep_s = self._config.sweep_s
            still_s = sweep_s if self._movers else self._config.still_sweep_s
            self._sweep = Sweep(plan.xyxy, frame.pts_s, sweep_s=sweep_s, still_sweep_s=still_s)
        return plan

    def _fresh_attention(self, frame_wh: tuple[int, int]) -> Attention:
        return Attention(frame_wh, movers=self._movers, sight=self._sight, still_sweep_s=self._config.still_sweep_s)

    def _tick(self, frame: Frame) -> float:
        """Media seconds since the preceding call (0 on the first)."""
        since_s = 0.0 if self._pts_s is None else frame.pts_s - self._pts_s
        self._pts_s = frame.pts_s
        if since_s > 0:
            self._dt_s = since_s
        return since_s

    def _choose(
        self, frame: Frame, motion: Motion, tracks: Tracks, plan: TilePlan, since_s: float
    ) -> tuple[NDArray[np.int8], TilePlan | None]:
        """(T,) why each tile is run, -1 if it is not; and pieces to run beside them."""
        why = np.full(len(plan), -1, np.int8)
        if motion.state == "repeat" and not frame.still:
            return why, None
        if self._attention.stir(frame, motion):
            self._sweep.stir(np.array([[0, 0, *frame.wh]], np.float32), frame.pts_s)
        if self._everywhere(frame, motion):
            why[:] = WHY_ALL
            return why, None
        fine = ~self._coarse
        regions, reason, due, piecewise, unknown = self._attention.looks(
            plan[fine], motion, tracks, frame.pts_s, since_s, self._dt_s
        )
        self._sweep.stir(unknown, frame.pts_s)
        fits = np.zeros(len(regions), np.bool_)
        if self._collages and fine.sum() > 1 and due.sum() <= MOST_PIECES:
            fits = piecewise & fit_in_pieces(regions, reason, plan[fine], self._sight)
        self._in_tiles(why, plan, regions[due & ~fits], reason[due & ~fits])
        why[self._sweep.due(why < 0, frame.pts_s, since_s, self._dt_s)] = WHY_SWEEP
        run = plan.xyxy[fine & (why >= 0)]
        whole = shown(run, regions, frame_wh=plan.frame_wh, margin_px=MARGIN_PX)
        rest = fits & ~whole & (due | ((reason == WHY_TRACK) & cut(run, regions)))
        pieces = self._in_pieces(why, plan, regions[rest], reason[rest])
        if pieces is None:
            return why, None
        self._subjects = regions[fits]
        spare = fits & ~whole & ~rest
        if not self._movers:  # what stands is known
            spare &= ~self._attention.standing.holds(regions)
        return why, self._filled_up(pieces, plan, (regions[rest], reason[rest]), (regions[spare], reason[spare]))

    def _everywhere(self, frame: Frame, motion: Motion) -> bool:
        look = self._config.look
        if look == "all" or frame.still or motion.state == "cut" or len(motion.regions) > MOST_REGIONS:
            return True
        if motion.state == "first" and not self._movers:  # what stands there is known from the first frame on
            return True
        return look == "auto" and motion.state in ("first", "moving")

    def _in_tiles(self, why: NDArray[np.int8], plan: TilePlan, regions: F32, reason: U8) -> None:
        """Mark the fewest fine tiles that show the regions."""
        fine = np.flatnonzero(~self._coarse)
        if not len(regions) or not len(fine):
            return
        run, shows = cover(plan.xyxy[fine], regions, frame_wh=plan.frame_wh, margin_px=MARGIN_PX)
        moving = shows[reason == WHY_MOTION][:, run].any(0)
        why[fine[run]] = np.where(moving, WHY_MOTION, WHY_TRACK)

    def _in_pieces(self, why: NDArray[np.int8], plan: TilePlan, regions: F32, reason: U8) -> TilePlan | None:
        """Regions that no tile marked so far shows: in pieces, or in more tiles where that takes no more inputs."""
        if not len(regions):
            return None
        pieces = collage(regions, reason, plan[~self._coarse], self._sight)
        more = np.full(len(plan), -1, np.int8)
        self._in_tiles(more, plan, regions, reason)
        added = (more >= 0) & (why < 0)
        if added.sum() > pieces.slots:
            return pieces
        why[more >= 0] = more[more >= 0]
        return None

    def _filled_up(self, pieces: TilePlan, plan: TilePlan, due: tuple[F32, U8], spare: tuple[F32, U8]) -> TilePlan:
        """As many more regions as find room in the inputs that are run anyway, those unseen longest first."""
        order = np.argsort(self._attention.visits.last_s(spare[0]), kind="stable")[: max(0, MOST_FILLED - len(due[0]))]
        for count in (len(order), len(order) // 2, len(order) // 4):  # not the most there is room for, but soon known
            regions = np.concatenate([due[0], spare[0][order[:count]]])
            more = collage(regions, np.concatenate([due[1], spare[1][order[:count]]]), plan[~self._coarse], self._sight)
            if more.slots <= pieces.slots:
                return more
        return pieces
