"""The noun Detections: what a detector found in a frame, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.arrays import F32, I32, U8, Bool

__all__ = ["STANDING", "Detections"]

STANDING = -2  # the tile of a detection that stands from an earlier frame


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N rows: ``xyxy`` (N,4) f32 frame px, ``score`` (N,) f32 0..1, ``label`` (N,) i32 class id, ``tile`` (N,) i32 row of
    the TilePlan it came from (-1 none; STANDING: none of this frame's, see :class:`streamdet.protocols.Memory`), ``truncated``
    (N,) u8 bits as :meth:`TilePlan.truncated`. ``masks`` (N,) of :class:`streamdet.masks.Mask` or None, frame px; None for
    detectors that give boxes only."""

    xyxy: F32
    score: F32
    label: I32
    tile: I32
    truncated: U8
    masks: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if (
            self.xyxy.shape != (n, 4)
            or not len(self.score) == len(self.label) == len(self.tile) == len(self.truncated) == n
        ):
            raise ValueError(
                f"columns disagree: xyxy {self.xyxy.shape}, score {self.score.shape}, label {self.label.shape}, "
                f"tile {self.tile.shape}, truncated {self.truncated.shape}"
            )
        if self.masks is not None and self.masks.shape != (n,):
            raise ValueError(f"columns disagree: xyxy {self.xyxy.shape}, masks {self.masks.shape}")

    @staticmethod
    def of(xyxy: Any, score: Any, label: Any = 0, tile: Any = -1, truncated: Any = 0) -> Detections:
        """Build from array-likes; scalars are repeated for every row."""
        box = np.asarray(xyxy, np.float32).reshape(-1, 4)
        n = len(box)

        def column(value: Any, dtype: type) -> Any:
            return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype), (n,)))

        return Detections(
            box, column(score, np.float32), column(label, np.int32), column(tile, np.int32), column(truncated, np.uint8)
        )

    @staticmethod
    def empty() -> Detections:
        return Detections.of(np.zeros((0, 4)), np.zeros(0))

    @staticmethod
    def concat(parts: Sequence[Detections]) -> Detections:
        if not parts:
            return Detections.empty()
        masked = any(p.masks is not None for p in parts)
        return Detections(
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.label for p in parts]),
            np.concatenate([p.tile for p in parts]),
            np.concatenate([p.truncated for p in parts]),
            np.concatenate([np.full(len(p), None) if p.masks is None else p.masks for p in parts]) if masked else None,
        )

    def moved(self, tiles: int) -> Detections:
        """The same rows, of tiles that lie so many rows further down."""
        return replace(self, tile=np.where(self.tile < 0, self.tile, self.tile + np.int32(tiles))) if tiles else self

    def of_tiles(self, tiles: int) -> Detections:
        """The same rows; those of tiles numbered `tiles` and above are STANDING."""
        beyond = self.tile >= tiles
        return replace(self, tile=np.where(beyond, np.int32(STANDING), self.tile)) if beyond.any() else self

    @property
    def held(self) -> Bool:
        """(N,) found in an earlier frame, and standing since nothing has changed there: not looked at in this one."""
        return np.asarray(self.tile == STANDING)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Any) -> Detections:
        masks = None if self.masks is None else self.masks[rows]
        return Detections(
            self.xyxy[rows], self.score[rows], self.label[rows], self.tile[rows], self.truncated[rows], masks
        )

    def __repr__(self) -> str:
        return f"Detections({len(self)} rows)"
