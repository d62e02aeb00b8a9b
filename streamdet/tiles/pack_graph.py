"""The GPU packer as a part of a recorded frame: it prepares, and leaves the launch to what comes after it."""

from __future__ import annotations

from streamdet.frame_graph import FrameGraph
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.types import Frame, Motion, TileBatch, TilePlan

__all__ = ["GraphPacker"]


class GraphPacker:
    """A Packer whose ``data`` is filled by the detector that is given the batch (`FrameGraph.run`), not before.

    Batches of several streams are packed into neighbouring rows and go through the network in one run.
    """

    def __init__(self, spec: InputSpec, frame: FrameGraph, packer: CudaPacker) -> None:
        self.spec = spec
        self._frame = frame
        self._packer = packer

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        with self._frame.here():
            return self._prepared(frame, motion, tiles)

    def _prepared(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        if not len(tiles):
            return self._packer(frame, motion, tiles)  # only remembers
        into = self._frame.rows(self.spec.shape(len(tiles), tiles.input_wh), self.spec.dtype)
        room = len(tiles) + self._frame.spare if into is None else 0
        batch = self._packer.prepare(frame, motion, tiles, room=room, into=into)
        self._frame.add(self._packer)
        return batch
