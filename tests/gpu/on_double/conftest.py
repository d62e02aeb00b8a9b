"""What the double knows: how much of each kind is alive, and failures on demand."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
sys.path += [str(HERE.parents[1]), str(HERE.parents[2] / "tiles")]

KINDS = ("memory", "pinned", "streams", "events", "graphs", "modules", "retained", "current")


class Driver:
    """Reads the double's books."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def live(self) -> dict[str, int]:
        return {kind: count for i, kind in enumerate(KINDS) if (count := self._library.double_live(i))}

    @property
    def launches(self) -> int:
        return int(self._library.double_live(8))

    def calls(self, name: str) -> int:
        return int(self._library.double_calls(name.encode()))

    def reset(self) -> None:
        self._library.double_reset()


@pytest.fixture
def driver() -> Iterator[Driver]:
    """Nothing may be left when the test is over."""
    double = Driver()
    double.reset()
    yield double
    double.reset()
    assert double.live() == {}
