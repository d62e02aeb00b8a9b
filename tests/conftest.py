"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # at the end: streamdet is the installed one, `engines` the recipe here

# how long it takes to draw examples says something of the machine only
settings.register_profile("streamdet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamdet")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and models beside the checkout; tests that need it skip for a stranger who has none."""
    folder = Path(os.environ.get("STREAMDET_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder} (set STREAMDET_SHARED)")
    return folder
