"""Fill a folder with shards of crops: ``python -m engines.cache WORK/crops --data DATA``. Seeded; what is there is kept."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from engines import data
from engines.footage import Footage, air_clips, background_clips
from engines.render import render_clip

__all__ = ["fill"]

_PER_SHARD = 40  # rendered clips


def fill(work: Path, root: Path, *, rendered: int, passes: int, seed: int) -> None:
    """Shards ``air_*``, ``background_*``, ``rendered_*`` for training; ``val_air``, ``val_rendered`` held out."""
    work.mkdir(parents=True, exist_ok=True)
    held, footage, backgrounds = air_clips(root, held_out=True), air_clips(root, held_out=False), background_clips(root)
    _real(work, "val_air", held, seed + 900)
    _rendered(work, "val_rendered", held, backgrounds, seed + 901)
    for index, clip in enumerate(backgrounds):
        _background(work, f"background_{index}", clip, seed + index)
    shards = -(-rendered // _PER_SHARD)
    for shard in range(max(shards, 8)):  # interleaved, so that training may start on an unfinished cache
        if shard < 8:
            for turn in range(passes):
                _real(work, f"air_{turn}_{shard}", footage[shard::8], seed + 10 * turn + shard)
        if shard < shards:
            _rendered(work, f"rendered_{seed}{shard:03d}", footage, backgrounds, seed * 1000 + shard)


def _done(work: Path, name: str) -> bool:
    return (work / f"{name}.crops.npy").is_file()


def _say(name: str, count: int, start: float) -> None:
    print(f"{name}: {count} crops, {time.process_time() - start:.0f} s", flush=True)


def _real(work: Path, name: str, clips: list[Footage], seed: int) -> None:
    if _done(work, name):
        return
    start, rng = time.process_time(), np.random.default_rng(seed)
    _say(name, data.save(work, name, [part for clip in clips for part in data.from_footage(clip, rng)]), start)


def _background(work: Path, name: str, clip: Footage, seed: int) -> None:
    if _done(work, name):
        return
    start, rng = time.process_time(), np.random.default_rng(seed)
    _say(name, data.save(work, name, list(data.from_background(clip, rng))), start)


def _rendered(work: Path, name: str, footage: list[Footage], backgrounds: list[Footage], seed: int) -> None:
    if _done(work, name):
        return
    start, rng = time.process_time(), np.random.default_rng(seed)
    clips = (render_clip(rng, footage, backgrounds=backgrounds) for _ in range(_PER_SHARD))
    _say(name, data.save(work, name, [part for clip in clips for part in data.from_rendered(clip, rng)]), start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.cache", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_air and clips")
    parser.add_argument("--rendered", type=int, default=800, help="rendered clips")
    parser.add_argument("--passes", type=int, default=2, help="windows per real clip")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    fill(given.work, given.data, rendered=given.rendered, passes=given.passes, seed=given.seed)


if __name__ == "__main__":
    main()
