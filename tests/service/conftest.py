from __future__ import annotations

from collections.abc import Iterator

import pytest
from station_up import Running, running


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One camera, a rendered scene, that gave frames already."""
    with running(tmp_path_factory.mktemp("court")) as up:
        up.wait_for_frames("court")
        yield up
