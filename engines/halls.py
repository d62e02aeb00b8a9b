"""Rendered courts in halls, apart from those trained on, as validation: shuttles and balls in play, and halls where none flies.

The footage for validation holds one court, outdoors: what is false beside players, rackets, lights, nets and rows of people
is not seen there. Rendered halls are no replacement for footage of one; they tell which of two networks invents less.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engines.render import WARM_UP, RenderedClip, render_rally
from streamdet.scoring.labels import Labels

__all__ = ["hall_clips"]

_SEED = 20251126  # never one of training's


def hall_clips(*, flying: bool, count: int) -> Iterator[tuple[Path, Labels]]:
    """Encoded clips and what is true in them after the warm-up; the file is gone when the next one is asked for."""
    for number in range(count):
        clip = render_rally(np.random.default_rng((_SEED, int(flying), number)), flying=flying)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"hall_{number:03d}.mp4"
            path.write_bytes(clip.encoded)
            yield path, _labels(clip)


def _labels(clip: RenderedClip) -> Labels:
    frames = np.arange(WARM_UP, len(clip.truth))
    rows = [(frame, row) for frame in frames for row in clip.truth[frame] if row[6] >= 0 or row[2] > 0]
    table = np.array([row for _, row in rows], np.float64).reshape(-1, 8)
    return Labels(
        frames=frames,
        frame=np.array([frame for frame, _ in rows], np.int64),
        id=np.full(len(rows), -1, np.int64),
        name=np.full(len(rows), "ball"),
        centre=table[:, :2],
        wh=table[:, 2:4],
        visible=table[:, 7] > 0,
    )
