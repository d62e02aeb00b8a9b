"""The kernels as host libraries, compiled once a session."""

from __future__ import annotations

import os

import pytest
from shim import Shim

if os.environ.get("STREAMDET_ON_DOUBLE") != "1":
    collect_ignore = ["on_double"]  # run by test_on_double.py in a process of their own, whose libcuda is the double


@pytest.fixture(scope="session")
def tile_kernel(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim("tiles/kernel", tmp_path_factory.mktemp("kernel"))
