"""The checks for a real card, rehearsed: real driver calls, host kernels."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from conftest import Driver

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks" / "gpu"))
from kernel_checks import battery


def test_the_batteries_run_through_the_device(driver: Driver) -> None:
    record = battery()
    assert record["pack_wrong"] == {}
    assert record["compact_wrong"] == {}
    assert record["motion_wrong"] == {}
    assert record["motion_cases"] > 30
    assert record["pack_cases"] > 90
    assert record["compact_cases"] > 40
    assert record["pack_largest_error_levels"] < 0.02
    gc.collect()
