"""Exported tensors are the pipeline's own, frame for frame and bit for bit; their boxes lie where the objects are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamdet.api import Run
from streamdet.cli import main
from streamdet.config import Config, with_values
from streamdet.errors import UsageError
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tuning.export import export_frames, spec_of
from streamdet.tuning.tiff import write_tiff
from streamdet.types import Frame, Motion, TileBatch, TilePlan

DEMO = {"source.demo_size": "320x180", "source.demo_seconds": 1.0, "source.demo_movers": 3, "sources": ["demo"]}


def clip_of(folder: Path, frames: int = 8) -> tuple[Path, Path]:
    """A film with a bright square that walks 4 px a frame, and its labels."""
    import av

    path, labels = folder / "walk.mp4", folder / "walk.csv"
    rows = ["frame,class,x,y,w,h,visible"]
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for n in range(frames):
            picture = np.full((128, 192, 3), 40, np.uint8)
            picture[60:68, 20 + 4 * n : 28 + 4 * n] = 230
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
            rows.append(f"{n},ball,{20 + 4 * n},60,8,8,1")
        film.mux(stream.encode())
    labels.write_text("\n".join(rows) + "\n")
    return path, labels


def test_tensors_are_those_the_network_of_a_run_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run with our own network, its packer listened to; looking at everything, so that all tiles are packed."""
    clip, _ = clip_of(tmp_path)
    fed: dict[int, np.ndarray] = {}
    pack = CpuPacker.__call__

    def listen(self: CpuPacker, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        batch = pack(self, frame, motion, tiles)
        fed[frame.index] = np.array(batch.data)
        return batch

    with monkeypatch.context() as patched:
        patched.setattr(CpuPacker, "__call__", listen)
        config = with_values(
            Config(), {"sources": [str(clip)], "tiles.look": "all", "tiles.tile": 64, "tiles.overlap": 0.25}
        )
        Run(with_values(config, {"model.backend": "onnxruntime"})).finish()
    assert (
        main(
            [
                "export-frames",
                str(clip),
                "--like",
                "auto",
                "--tile",
                "64",
                "--overlap",
                "0.25",
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    files = sorted((tmp_path / "out").glob("*.npz"))
    assert len(files) == len(fed) == 8
    for number, file in enumerate(files):
        with np.load(file) as exported:
            assert int(exported["frame"]) == number
            np.testing.assert_array_equal(exported["data"], fed[number])
    assert float(np.abs(fed[5][:, 3:]).max()) > 0.5  # there is motion in it


def test_boxes_lie_where_the_objects_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, labels = clip_of(tmp_path)
    words = ["export-frames", str(clip), "--tile", "64", "--labels", str(labels), "--every", "3", "--only-labelled"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "3 frames" in capsys.readouterr().out
    for file in sorted((tmp_path / "out").glob("*.npz")):
        with np.load(file) as one:
            assert set(one["box_tile"].tolist()) == set(range(len(one["data"])))
            for (x1, y1, x2, y2), tile in zip(one["boxes"].round().astype(int), one["box_tile"]):
                red = one["data"][tile, 0]
                assert red[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 0.8
                assert (red > 0.6).sum() <= (x2 - x1 + 2) * (y2 - y1 + 2)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["channels"] == ["r", "g", "b", "difference", "background_difference"]
    assert record["labels"] == ["ball"]


def test_frames_between_are_seen_by_the_motion_model(tmp_path: Path) -> None:
    clip, _ = clip_of(tmp_path)
    for every in ("1", "3"):
        words = ["export-frames", str(clip), "--every", every, "--channels", "y+difference+previous+y[-2]"]
        assert main([*words, "--output", str(tmp_path / every)]) == 0
    for file in sorted((tmp_path / "3").glob("*.npz")):
        with np.load(file) as few, np.load(tmp_path / "1" / file.name) as all_of_them:
            np.testing.assert_array_equal(few["data"], all_of_them["data"])


@settings(max_examples=25, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20)),
        elements=st.floats(-9, 9, width=32),
    )
)
def test_tiff_files_are_read_by_others_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, planes: np.ndarray
) -> None:
    import tifffile

    path = tmp_path_factory.mktemp("tiff") / "x.tiff"
    write_tiff(path, planes, about={"channels": ["r"] * len(planes)})
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert page.samplesperpixel == len(planes)
        assert json.loads(page.description)["channels"] == ["r"] * len(planes)
        np.testing.assert_array_equal(page.asarray().reshape(planes.shape), planes)


def test_the_command_writes_tiff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tifffile

    clip, labels = clip_of(tmp_path)
    words = ["export-frames", str(clip), "--format", "tiff", "--labels", str(labels), "--max-frames", "4"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    files = sorted((tmp_path / "out").glob("*.tiff"))
    assert len(files) == 4
    planes = tifffile.imread(files[3])
    assert planes.shape == (5, 128, 192)
    assert planes[3, 62, 38] > 1  # bright now, dark before
    assert planes[3, 62, 30] < -1  # and the other way round where it was
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["tiles"][3]["boxes"] == [[32, 60, 40, 68]]
    assert main([*words, "--output", str(tmp_path / "out")]) == 3
    assert "is not empty" in capsys.readouterr().err


def test_channels_are_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert spec_of("rgb[-1]+y").channels == ("r[-1]", "g[-1]", "b[-1]", "y")
    with pytest.raises(UsageError, match="--channels rgb"):
        spec_of("rgb+flow")
    assert main(["export-frames", "demo", "--like", "motion", "--output", str(tmp_path / "o")]) == 2
    assert "fed nothing" in capsys.readouterr().err


def test_who_waits_is_told_how_far_it_is(tmp_path: Path) -> None:
    clip, _ = clip_of(tmp_path)
    told: list[int] = []
    config = with_values(Config(), {"sources": [str(clip)], "tiles.tile": "none"})
    export_frames(config, spec_of("rgb+difference"), tmp_path / "tensors", every=2, on_frame=told.append)
    assert told == [1, 3, 5, 7]
