"""Tracks: identity over time."""

from streamdet.tracking.tracker import Tracker

__all__ = ["Tracker"]
