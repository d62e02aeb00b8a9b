"""The node ``gpu``: how a network is compiled and run on an NVIDIA GPU. The CPU path reads none of it."""

from __future__ import annotations

from typing import Literal

from streamdet.config.tree import Node, Size

__all__ = ["GpuConfig", "Precision"]

Precision = Literal["fp16", "fp32", "int8"]


class GpuConfig(Node, frozen=True):
    """Settings of ``--device cuda:N``."""

    precision: Precision = "fp16"  # int8 needs `streamdet build MODEL --precision int8 --calibrate CLIP` once
    batch: Size = 32  # tiles in one run at most; a partial batch costs its share
    plans: str | None = (
        None  # folder of compiled plans; None: engines/cache of a checkout, else the user's cache folder
    )
    workspace_mib: Size = 2048  # GPU memory TensorRT may use while it looks for fast kernels
    motion: bool = True  # measure motion on the GPU too; False: on the CPU, which the planes come down for
    graphs: bool = True  # replay a frame's work as one CUDA graph
