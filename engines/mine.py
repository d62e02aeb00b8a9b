"""Hard examples: run a model over footage and fresh renderings, keep crops of what it invents and what it misses.

``python -m engines.mine MODEL.onnx WORK/crops --data DATA``; `engines.train --start` then goes on with them. `train_air` is not
mined: only one object is labelled per frame there, and what looks invented may be a second bird.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from engines import data
from engines.data import CROP_PX, NETWORK_INPUT, Crops, Seen
from engines.footage import ROW, Footage, air_clips, background_clips
from engines.render import WARM_UP, render_clip
from streamdet.config import Config, ModelConfig
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles

__all__ = ["hard_crops", "mine"]

_INVENTED, _MISSED = 0.25, 0.35  # scores above which a find is wrong, below which a target is missed
_AWAY_PX, _NEAR_PX = 14.0, 9.0
_PER_FRAME = 3


def hard_crops(
    detector: NetworkDetector, packer: CpuPacker, seen: Seen, rows: np.ndarray, rng: np.random.Generator
) -> Crops | None:
    """Crops round the worst mistakes in one frame, or None if there are none."""
    plan = plan_tiles(seen.frame.wh, input_wh=None, config=Config().tiles, stride=NETWORK_INPUT.stride)
    found = detector(packer(seen.frame, seen.motion, plan))
    centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    gap = np.linalg.norm(centre[:, None] - rows[None, :, :2], axis=2) if len(rows) else np.full((len(centre), 1), 1e9)
    reach = (
        np.maximum(_AWAY_PX, rows[:, 2:4].max(1) / 2 + 6 + np.hypot(rows[:, 4], rows[:, 5]) / 2)
        if len(rows)
        else np.zeros(1)
    )
    invented = np.flatnonzero((gap > reach).all(1) & (found.score > _INVENTED))
    invented = invented[np.argsort(-found.score[invented])][:_PER_FRAME]
    wanted = rows[rows[:, 7] > 0]
    hit = (
        np.linalg.norm(centre[:, None] - wanted[None, :, :2], axis=2)
        < _NEAR_PX + np.hypot(wanted[:, 4], wanted[:, 5]) / 4
    ) & (found.score > _MISSED)[:, None]
    missed = wanted[~hit.any(0)][:2, :2]
    middles = np.concatenate([centre[invented], missed]).astype(np.float64)
    if not len(middles):
        return None
    side = min(CROP_PX, *seen.frame.wh)
    corner = np.round(middles + rng.uniform(-0.35, 0.35, middles.shape) * side - side / 2).astype(int)
    corner = corner.clip(0, np.array(seen.frame.wh) - side)
    return data.cut(seen, rows, np.concatenate([corner, corner + side], 1).astype(np.int32))


def _backgrounds(detector: NetworkDetector, clip: Footage, rng: np.random.Generator, every: int) -> Iterator[Crops]:
    packer, empty = CpuPacker(NETWORK_INPUT), np.zeros((0, ROW), np.float32)
    for seen in data.watch(clip.path):
        if seen.frame.index >= clip.frames:
            return
        rows = (clip.truth or {}).get(seen.frame.index)
        if seen.frame.index % every or seen.motion.state == "repeat" or (rows is None and clip.labelled_only):
            continue
        crop = hard_crops(detector, packer, seen, empty if rows is None else rows, rng)
        if crop is not None:
            yield crop


def _rendered(
    detector: NetworkDetector, footage: list[Footage], backgrounds: list[Footage], rng: np.random.Generator
) -> Iterator[Crops]:
    clip = render_clip(rng, footage, backgrounds=backgrounds)
    packer = CpuPacker(NETWORK_INPUT)
    for seen, rows in data.watch_rendered(clip):
        if seen.frame.index >= WARM_UP and seen.frame.index % 2:
            crop = hard_crops(detector, packer, seen, rows, rng)
            if crop is not None:
                yield crop


def mine(model: Path, crops: Path, root: Path, *, rendered: int, seed: int) -> None:
    """Write ``hard_*`` shards."""
    rng = np.random.default_rng((seed, 77))
    footage, backgrounds = air_clips(root, held_out=False), background_clips(root)
    config = ModelConfig(name=str(model), backend="onnxruntime", threads=1, conf=_INVENTED)
    with open_detector(config, model) as detector:
        for index, clip in enumerate(backgrounds):
            parts = list(_backgrounds(detector, clip, rng, every=2 if index < 3 else 4))
            print(
                f"{clip.path.name}: {data.save(crops, f'hard_{seed}_background{index}', parts) if parts else 0} hard crops",
                flush=True,
            )
        for part in range(-(-rendered // 40)):
            parts = [crop for _ in range(40) for crop in _rendered(detector, footage, backgrounds, rng)]
            print(f"rendered: {data.save(crops, f'hard_{seed}_rendered{part:02d}', parts)} hard crops", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.mine", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rendered", type=int, default=120, help="fresh rendered clips")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    mine(given.model, given.crops, given.data, rendered=given.rendered, seed=given.seed)


if __name__ == "__main__":
    main()
