"""Memory layouts of the motion pass in `kernel.cu`: ``struct Motion``, ``Energy``, ``Picking``. Addresses are u8.

``motion_blocks`` (grid: blocks of 16 px across / 128, blocks down) brings the background up to date with the frame before, as
`streamdet.motion.background` does, and gives each block's largest differences, as `streamdet.motion.activity.BlockMaxima`
does; ``tile_energy`` (a thread block a tile) sums them up for the tiles that touch them; ``pick_tiles`` (a thread a tile) lists
the tiles in which enough moves, which `Job.picked` and `Job.count` of the packer take as they lie there.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ENERGY", "MOTION", "PICKING"]

MOTION = np.dtype(
    [(n, "u8") for n in ("now", "before", "background", "levels", "frozen", "change", "away", "sum", "moved")]
    + [(n, "i4") for n in ("pitch_now", "pitch_before", "pitch_background", "width", "height", "threshold")]
)
ENERGY = np.dtype([(n, "i4") for n in ("change", "away", "sum", "moved")])
PICKING = np.dtype(
    [(n, "u8") for n in ("tiles", "change", "away", "sum", "moved", "must", "energy", "picked", "count")]
    + [(n, "i4") for n in ("tile_count", "columns", "rows", "least_level", "least_moved", "room")]
)
