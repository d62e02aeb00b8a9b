"""Annotated pictures of stills: names, formats, nothing written twice to one place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamdet.errors import OutputError
from streamdet.sinks.images import ImageSink
from streamdet.types import Detections, Frame, Picture, Result, Tracks


def result(index: int, name: str | None, wh: tuple[int, int] = (32, 24)) -> Result:
    bgr = np.full((wh[1], wh[0], 3), index * 20, np.uint8)
    frame = Frame("s/1", index, 0.0, Picture(bgr[..., 0], bgr=bgr), captured_s=0.0, still=True, name=name)
    return Result(frame, Detections.empty(), Tracks.empty(), painter=lambda r: r.frame.picture.bgr)


def write(target: Path, *results: Result) -> list[str]:
    with ImageSink(target) as sink:
        for one in results:
            sink.write(one)
        sink.finish(())
    folder = target if target.is_dir() else target.parent
    return sorted(path.name for path in folder.iterdir())


def test_named_like_the_source(tmp_path: Path) -> None:
    names = ["a.jpg", "b.PNG", "c.tif", "d[3]", "ä ö.jpeg", None]
    out = write(tmp_path / "out", *(result(i, name) for i, name in enumerate(names)))
    assert out == sorted(["a.jpg", "b.PNG", "c.tif.jpg", "d[3].jpg", "ä ö.jpeg", "s-1-000005.jpg"])
    for name in out:
        data = np.fromfile(tmp_path / "out" / name, np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (24, 32, 3)


def test_same_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    out = write(tmp_path / "out", *(result(i, name) for i, name in enumerate(["a.png", "a.png", "A.png", "a.jpg"])))
    assert out == ["A-3.png", "a-2.png", "a.jpg", "a.png"]
    assert cv2.imread(str(tmp_path / "out" / "a-2.png"))[0, 0, 0] == 20


def test_a_file_as_target(tmp_path: Path) -> None:
    assert write(tmp_path / "one.png", result(0, "x.jpg"), result(1, "y.jpg")) == ["one-2.png", "one.png"]


def test_too_long_for_jpeg(tmp_path: Path) -> None:
    assert write(tmp_path / "out", result(0, "x.jpg", wh=(65_600, 2))) == ["x.png"]


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"), ImageSink(tmp_path / "file" / "out"):
        pass
