"""schemathesis, which knows only the OpenAPI document, against a real station."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from station_up import running

from streamdet.config import ServeConfig

# so that it gets past 404, and the one camera stays
SETTINGS = """
[parameters]
"path.camera" = "court"

[[operations]]
include-method = "DELETE"
parameters = { "path.camera" = "nobody" }
"""


@pytest.mark.timeout(400)
def test_the_api_keeps_what_its_document_promises(tmp_path: Path) -> None:
    settings = {"source.demo_size": "320x180", "source.fps": 5}
    with running(tmp_path, serve=ServeConfig(port=0, token="fuzzing-is-fun"), settings=settings) as up:
        up.wait_for_frames("court")
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{up.url}/api/openapi.json",
                "--header", "Authorization: Bearer fuzzing-is-fun",
                "--max-examples", "20", "--no-color", "--request-timeout", "20", "--seed", "1",
                "--exclude-path-regex", "(mjpeg|/stream)$",  # without end
                # a camera's address, a moment, a path of a file: what is right is more than their schemas can say
                "--exclude-checks", "positive_data_acceptance",
                "--phases", "examples,coverage,fuzzing",
            ],
            capture_output=True, text=True, timeout=380, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        up.client.headers["authorization"] = "Bearer fuzzing-is-fun"
        assert "court" in [camera["name"] for camera in up.client.get("/api/cameras").json()["cameras"]]
