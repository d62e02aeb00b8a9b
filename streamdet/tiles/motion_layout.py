"""Memory layouts of `motion.cu`: ``struct Motion`` and ``Levels``. Addresses are u8.

One frame's pass: ``heal_background`` (128 threads, some blocks), ``motion_blocks`` and ``list_blocks`` (grid: blocks of 16 px
across / 128, blocks down), ``sample_grid`` (grid columns / 128, grid rows), ``gather_blocks`` (64 threads, a block for each slot
there is room for). ``map_levels`` (grid: px across / 512, rows) makes a plane from another one.
``sample_points`` (``struct Points``; a thread a point) reads a picture here and there.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LEVELS", "MOTION", "POINTS"]

MOTION = np.dtype(
    [
        (name, "u8")
        for name in (
            "now", "before", "background", "levels", "frozen", "limit", "heal",
            "change", "away", "sample", "count", "listed", "pixels",
        )
    ]
    + [
        (name, "i4")
        for name in (
            "pitch_now", "pitch_before", "pitch_background", "width", "height",
            "heals", "grid_first", "grid_step", "grid_columns", "grid_rows", "room", "reserved",
        )
    ]
)  # fmt: skip
POINTS = np.dtype(
    [(name, "u8") for name in ("x", "y", "luma", "chroma", "out")]
    + [(name, "i4") for name in ("pitch_luma", "pitch_chroma", "count", "wide")]
)
LEVELS = np.dtype(
    [(name, "u8") for name in ("from", "to", "table")]
    + [(name, "i4") for name in ("pitch_from", "pitch_to", "width", "height", "wide", "reserved")]
)
