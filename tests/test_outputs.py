"""Where a run writes, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamdet.cli import main
from streamdet.config import OutputConfig
from streamdet.errors import ConfigError, OutputError
from streamdet.places import outputs_of, run_folder, sources_of
from streamdet.report import expected_frames
from streamdet.types import SourceInfo

SCENE = ["--size", "160x120", "--seconds", "0.2", "--movers", "1", "--model", "motion"]


def test_two_runs_of_one_clip_begun_together_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with run_folder("match") as first, run_folder("match") as second:
        assert (first, second) == (Path("runs/match"), Path("runs/match-2"))
        (second / "match.mp4").write_bytes(b"film")
    assert not first.exists()
    assert (second / "match.mp4").exists()


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "nothere.mp4", "--model", "motion"]) == 3
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(OutputError, match="--output DIR"), run_folder("match"):
        pass


def test_what_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frames").mkdir()
    assert main(["demo", *SCENE, "--frames", str(tmp_path / "frames")]) == 3
    told = capsys.readouterr().err
    assert told.count("cannot write") == 1
    assert "wrote" not in told
    assert "0 frames" not in told


def test_stills_are_refused_by_a_model_of_movers_and_a_film_of_pictures_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2
    import numpy as np

    for number in range(98, 102):
        cv2.imwrite(str(tmp_path / f"im_{number:03d}.png"), np.zeros((40, 60, 3), np.uint8))
    for model in ("tiny", "motion"):
        assert main(["run", str(tmp_path), "--model", model]) == 2
        told = capsys.readouterr().err
        assert f"`{model}` finds only what moves" in told
        assert f"as the film they are: {tmp_path}/im_%03d.png" in told
        assert main(["run", str(tmp_path / "im_099.png"), "--model", model]) == 2
        assert "im_099.png is a still picture" in (told := capsys.readouterr().err)
        assert "as the film" not in told
    assert main(["run", f"{tmp_path}/im_%03d.png", "--output", str(tmp_path / "out"), "--quiet"]) == 0


def test_a_home_is_understood_in_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    spec = sources_of(["match.mp4"])[0]
    assert outputs_of(spec, OutputConfig(dir="~/out"), alone=True).video == "/home/ann/out/match.mp4"
    assert outputs_of(spec, OutputConfig(frames="~/f.jsonl"), alone=True).frames == "/home/ann/f.jsonl"
    assert outputs_of(spec, OutputConfig(frames="-"), alone=True).frames == "-"


def test_a_folder_called_like_a_film_is_none(tmp_path: Path) -> None:
    spec = sources_of(["match.mp4"])[0]
    with pytest.raises(ConfigError, match=r"called like a file.*--video .*out\.mp4"):
        outputs_of(spec, OutputConfig(dir=str(tmp_path / "out.mp4")), alone=True)
    with pytest.raises(ConfigError, match="--frames"):
        outputs_of(spec, OutputConfig(dir=str(tmp_path / "rows.jsonl")), alone=True)
    (tmp_path / "out.mp4").mkdir()  # it is one after all
    assert outputs_of(spec, OutputConfig(dir=str(tmp_path / "out.mp4")), alone=True).video
    assert outputs_of(spec, OutputConfig(dir=str(tmp_path / "v1.2")), alone=True).video


def test_names_are_unique_and_can_be_written_whatever_the_files_are_called() -> None:
    names = [
        spec.stream for spec in sources_of(["a.mp4", "b/a.mp4", "a-2.mp4", "b\udcff.mp4", "c\nd.mp4", "%d.mp4", "7"])
    ]
    assert names[:5] == ["a", "a-2", "a-2-2", "b_", "c_d"]
    assert len(set(names)) == len(names)


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """As old disks and cameras have them."""
    import json
    import os
    import shutil

    film = tmp_path / "film.mp4"
    assert main(["demo", *SCENE, "--video", str(film), "--quiet"]) == 0
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    shutil.move(film, odd)
    assert main(["run", odd, "--model", "motion", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    stream = json.loads((tmp_path / "out/summary.json").read_text())["streams"][0]
    assert (stream["stream"], stream["source"]) == ("caf_", f"{tmp_path}/caf_.mp4")
    assert (tmp_path / "out/caf_.mp4").exists()
    assert json.loads((tmp_path / "out/caf_.frames.jsonl").read_text().splitlines()[0])["stream"] == "caf_"


@pytest.mark.parametrize(
    ("frame_count", "duration_s", "fps", "expected"),
    [(90, 3.0, 25.0, 90), (None, 3.0, 25.0, 75), (None, None, 25.0, None)],
)
def test_the_progress_bar_of_a_matroska_film_knows_its_end(
    frame_count: int | None, duration_s: float | None, fps: float, expected: int | None
) -> None:
    info = SourceInfo("a", "a.mkv", (64, 48), fps=fps, frame_count=frame_count, duration_s=duration_s)
    assert expected_frames(info) == expected
