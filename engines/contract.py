"""What network, packer and decoder agree on."""

from __future__ import annotations

__all__ = ["CHANNELS", "LABELS", "MEAN", "STD", "STRIDE"]

CHANNELS = ("r", "g", "b", "difference", "previous_difference", "background_difference")
LABELS = ("ball", "bird", "drone", "plane")
STRIDE = 4  # px per cell of the answer
MEAN, STD = 114.0, 64.0  # grey levels
