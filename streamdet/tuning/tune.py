"""``streamdet tune``: from a user's own clip to a way of looking at it that keeps up, and the table it was chosen from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.config import Config, with_values
from streamdet.errors import ConfigError
from streamdet.tiles.plan import plan_tiles
from streamdet.tuning.sizes import ObjectSizes, sizes_from_labels, sizes_from_motion
from streamdet.tuning.tile_speed import Material, look_at
from streamdet.tuning.trials import Candidate, Trial, candidates, run_once, score
from streamdet.types import TilePlan

__all__ = ["Tuned", "choose", "tune"]

HEADROOM = 1.1  # a way to look keeps up if it is this much faster than wanted
HOPELESS = 8.0
AS_GOOD = 0.01  # F1 within so much of the best is as good; then the faster one is taken
_CONF_STEPS = (0.6, 0.8, 1.25)  # of the card's threshold, tried with labels


@dataclass(slots=True)
class Tuned:
    """Everything that was measured, and what was chosen. ``thresholds``: (score, F1) tried on the chosen way to look."""

    config: Config
    material: Material
    sizes: ObjectSizes | None
    trials: list[Trial]
    chosen: Trial
    wanted_fps: float
    within_px: float
    labels: str | None
    frames: int
    thresholds: list[tuple[float, float | None]] = field(default_factory=list)
    conf: float | None = None

    @property
    def keeps_up(self) -> bool:
        return self.chosen.speed >= self.wanted_fps

    @property
    def plan(self) -> TilePlan:
        """The tile plan of the chosen way to look."""
        spec = self.material.spec
        assert spec is not None
        tiles = with_values(self.config, self.chosen.candidate.values()).tiles
        return plan_tiles(
            self.material.frame.wh, input_wh=spec.wh, config=tiles, stretch=spec.stretch, stride=spec.stride
        )

    def values(self) -> dict[str, Any]:
        """Leaves that make the chosen configuration."""
        leaves = {**self.chosen.candidate.values(), "model.name": self.config.model.name}
        if self.sizes is not None:
            leaves["tiles.smallest_px"] = round(max(1.0, self.sizes.at(5)), 1)
        if self.conf is not None:
            leaves["model.conf"] = self.conf
        for name in ("backend", "threads", "classes", "rename"):
            value = getattr(self.config.model, name)
            if value != getattr(Config().model, name):
                leaves[f"model.{name}"] = value
        return leaves

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "source": self.material.info.uri,
            "frame_wh": list(self.material.frame.wh),
            "source_fps": self.material.info.fps,
            "model": self.material.model,
            "wanted_fps": self.wanted_fps,
            "objects": None if self.sizes is None else self.sizes.to_dict(),
            "tile_speed": [one.to_dict() for one in self.material.speeds],
            "judged_by": self.labels or "agreement with the finest look at everything",
            "within_px": self.within_px,
            "frames": self.frames,
            "trials": [trial.to_dict() for trial in self.trials],
            "chosen": self.trials.index(self.chosen),
            "keeps_up": self.keeps_up,
            "thresholds": [list(pair) for pair in self.thresholds],
            "settings": self.values(),
        }


def choose(trials: Sequence[Trial], wanted_fps: float) -> Trial:
    """The best of those that keep up, the fastest of equally good ones.

    Where none keeps up, frames will be dropped: then the one whose F1, times the share of frames it gets to, is best.
    """
    fast = [trial for trial in trials if trial.speed >= HEADROOM * wanted_fps]
    if not fast:
        return max(trials, key=lambda trial: ((trial.f1 or 0.0) * min(1.0, trial.speed / wanted_fps), trial.speed))
    best = max(trial.f1 or 0.0 for trial in fast)
    return max((trial for trial in fast if (trial.f1 or 0.0) >= best - AS_GOOD), key=lambda trial: trial.speed)


def _worth_trying(
    ways: list[Candidate], config: Config, material: Material, wanted: float, *, labelled: bool
) -> list[Candidate]:
    """Without those whose tiles alone take HOPELESS times the time there is; the first stays where it is the reference."""
    spec = material.spec
    assert spec is not None
    best = {
        input_wh: min(one.ms for one in material.speeds if one.input_wh == input_wh)
        for input_wh in {s.input_wh for s in material.speeds}
    }
    kept = []
    for number, way in enumerate(ways):
        tiles = with_values(config, way.values()).tiles
        plan = plan_tiles(material.frame.wh, input_wh=spec.wh, config=tiles, stretch=spec.stretch, stride=spec.stride)
        ms = best.get(plan.input_wh, 0.0) * len(plan)
        hopeless = way.look == "all" and ms * wanted / 1000 > HOPELESS
        if not hopeless or (number == 0 and not labelled):
            kept.append(way)
    return kept or ways[-1:]


def tune(
    config: Config,
    *,
    labels: str | None = None,
    fps: float | None = None,
    frames: int = 150,
    seconds: float = 15.0,
    rounds: int = 2,
    within_px: float | None = None,
    within_box: bool = False,
    told: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Measure and choose (module docstring). `config`: one source, the network, whatever else shall hold in every trial.

    `fps` wanted; None: the source's own. Every trial sees up to `frames` frames or `seconds`; all are tried `rounds` times
    in turn, so that a busy machine meets them alike. Raises StreamdetError.
    """
    told("looking at the clip and the network")
    material = look_at(config, frame=min(frames, 60))
    if material.spec is None:
        raise ConfigError("`motion` looks at no tiles, so there is nothing to tune; name a network with --model")
    still = material.info.still
    sizes = sizes_from_labels(labels) if labels is not None else None
    if sizes is None and not still:
        sizes = sizes_from_motion(config, frames=frames)
    wanted = fps if fps is not None else 0.0 if still else float(material.info.fps or 0.0)
    radius = within_px if within_px is not None else max(5.0, 0.5 * sizes.at(50)) if sizes is not None else 5.0
    with tempfile.TemporaryDirectory(prefix="streamdet-tune-") as folder:
        ways = candidates(material.frame.wh, material.spec, sizes, still=still)
        ways = _worth_trying(ways, config, material, wanted, labelled=labels is not None)
        trials = [Trial(way, Path(folder) / f"{number}.frames.jsonl") for number, way in enumerate(ways)]
        trials[0].is_reference = True
        for turn in range(rounds):
            for number, trial in enumerate(trials):
                where = f"round {turn + 1} of {rounds}, way {number + 1} of {len(trials)}"
                told(where)
                run_once(config, trial, frames=frames, seconds=seconds / (1 + turn), first=turn == 0)
        shared = min(trial.frames for trial in trials)
        span = (0, shared)
        score(trials, labels, within_px=radius, within_box=within_box, span=span)
        tuned = Tuned(config, material, sizes, trials, choose(trials, wanted), wanted, radius, labels, shared)
        if labels is not None:
            _choose_threshold(tuned, Path(folder), span=span, within_box=within_box, told=told)
        return tuned


def _choose_threshold(
    tuned: Tuned, folder: Path, *, span: tuple[int, int], within_box: bool, told: Callable[[str], None]
) -> None:
    """Other thresholds on the chosen way to look, judged by the labels; the card's stays unless another is clearly better."""
    usual = tuned.material.threshold
    tuned.thresholds.append((round(usual, 3), tuned.chosen.f1))
    if isinstance(tuned.config.model.conf, dict):
        return
    for number, share in enumerate(_CONF_STEPS):
        conf = round(min(usual * share, 0.95), 3)
        trial = Trial(tuned.chosen.candidate, folder / f"conf{number}.frames.jsonl", is_reference=True)
        told(f"threshold {conf}")
        at = with_values(tuned.config, {"model.conf": conf})
        run_once(at, trial, frames=span[1], seconds=np.inf, first=True)
        score([trial], tuned.labels, within_px=tuned.within_px, within_box=within_box, span=span)
        tuned.thresholds.append((conf, trial.f1))
    best = max(tuned.thresholds, key=lambda pair: pair[1] or 0.0)
    if (best[1] or 0.0) > (tuned.chosen.f1 or 0.0) + AS_GOOD:
        tuned.conf = best[0]
    tuned.thresholds.sort()


def describe_way(one: Candidate) -> str:
    """A way to look, in words."""
    whole = ", and the whole frame" if one.whole_frame else ""
    tile = "whole frame" if one.tile == "none" else f"tile {one.tile}, overlap {one.overlap:g}"
    return f"{tile}, look {one.look}{whole}"
