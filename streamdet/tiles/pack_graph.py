"""What one stream has on the GPU as parts of a recorded frame: its pictures, the packer of their tiles, its motion pass.

The packer prepares, and leaves the launch to what comes after it.
"""

from __future__ import annotations

from streamdet.device import Device
from streamdet.frame_graph import FrameGraph
from streamdet.inputspec import InputSpec
from streamdet.tiles.gpu_pictures import GpuPictures
from streamdet.tiles.motion_cuda import MotionPass
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.types import Frame, Motion, TileBatch, TilePlan

__all__ = ["GraphPacker"]


class GraphPacker:
    """A Packer whose ``data`` is filled by the detector that is given the batch (`FrameGraph.run`), not before.

    Batches of several streams are packed into neighbouring rows and go through the network in one run.
    """

    collages = False

    def __init__(self, spec: InputSpec, frame: FrameGraph, device: Device) -> None:
        self.spec = spec
        self.frame = frame
        self._device = device
        self._pictures = GpuPictures(device, frame.here)
        self._packer = CudaPacker(spec, device, self._pictures)
        self._scene: MotionPass | None = None

    def scene(self) -> MotionPass:
        """The planes of this stream's motion model, on the same pictures."""
        self._scene = self._scene or MotionPass(self._device, self._pictures)
        return self._scene

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        with self.frame.here():
            return self._prepared(frame, motion, tiles)

    def close(self) -> None:
        """Give everything back to the device, between two frames of whoever runs. From any thread."""
        self.frame.later(self._free)

    def _free(self) -> None:
        if self._scene is not None:
            self._scene.close()
        self._packer.close()

    def _prepared(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        if not len(tiles):
            return self._packer(frame, motion, tiles)  # only remembers
        into = self.frame.rows(self.spec.shape(len(tiles), tiles.input_wh), self.spec.dtype)
        room = len(tiles) + self.frame.spare if into is None else 0
        batch = self._packer.prepare(frame, motion, tiles, room=room, into=into)
        self.frame.add(self._packer)
        return batch
