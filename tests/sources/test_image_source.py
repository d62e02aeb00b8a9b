"""Stills and numbered sequences."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from source_clips import corners_bgr, encode, moving_bgr

from streamdet.config import SourceConfig
from streamdet.errors import SourceOpenError
from streamdet.sources.images import (
    ImageSequenceSource,
    ImageSource,
    expand,
    expand_images,
    is_image,
)
from streamdet.types import Frame

CONFIG = SourceConfig()
PICTURE = corners_bgr((40, 30))


def save(path: Path, picture: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), PICTURE if picture is None else picture)
    return path


def stills(*paths: Path) -> tuple[list[Frame], ImageSource]:
    with ImageSource(paths, stream="pics", config=CONFIG) as source:
        return list(source), source


# --------------------------------------------------------------------------------------------------------------- stills


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jpg", "JPG"])
def test_one_image(tmp_path: Path, suffix: str) -> None:
    frames, source = stills(save(tmp_path / f"a.{suffix}"))
    (frame,) = frames
    assert frame.still
    assert frame.name == f"a.{suffix}"
    assert source.info.still
    assert source.info.frame_wh == frame.wh == (40, 30)
    assert source.info.frame_count == 1
    assert frame.picture.chroma is None
    assert np.abs(frame.picture.bgr[5:10, 5:10].astype(int) - (0, 0, 255)).max() < 12
    assert abs(int(frame.picture.luma[5, 5]) - 76) < 6  # red in BT.601
    assert frame.picture.full_range


def test_numbered_by_position(tmp_path: Path) -> None:
    frames, _ = stills(*(save(tmp_path / f"{name}.png") for name in "abc"))
    assert [(frame.index, frame.pts_s, frame.name) for frame in frames] == [
        (0, 0.0, "a.png"),
        (1, 1.0, "b.png"),
        (2, 2.0, "c.png"),
    ]


@pytest.mark.parametrize("kind", ["grey", "16 bit", "grey 16 bit", "alpha"])
def test_any_depth_and_channels(tmp_path: Path, kind: str) -> None:
    picture: np.ndarray = PICTURE
    if "grey" in kind:
        picture = picture[..., 2]
    if "16 bit" in kind:
        picture = picture.astype(np.uint16) * 257
    if kind == "alpha":
        picture = np.dstack([PICTURE, np.full((30, 40), 128, np.uint8)])
    frames, _ = stills(save(tmp_path / "a.png", picture))
    want = np.repeat(PICTURE[..., 2:], 3, 2) if "grey" in kind else PICTURE
    assert np.abs(frames[0].picture.bgr.astype(int) - want).max() <= 1
    assert frames[0].picture.bgr.dtype == np.uint8


def test_exif_orientation(tmp_path: Path) -> None:
    """Orientation 6: the camera was held upright; to be shown turned a quarter clockwise."""
    plain = save(tmp_path / "a.jpg").read_bytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    (tmp_path / "b.jpg").write_bytes(turned)
    frames, source = stills(tmp_path / "b.jpg")
    assert source.info.frame_wh == (30, 40)
    want = np.rot90(PICTURE, -1)
    for row, column in ((5, 5), (5, 25), (35, 5), (35, 25)):
        assert np.abs(frames[0].picture.bgr[row, column].astype(int) - want[row, column]).max() < 15


def test_extreme_sizes(tmp_path: Path) -> None:
    frames, _ = stills(
        save(tmp_path / "a.png", np.zeros((16, 16384, 3), np.uint8)), save(tmp_path / "b.png", PICTURE[:1, :1])
    )
    assert [frame.wh for frame in frames] == [(16384, 16), (1, 1)]


def test_damaged_among_others_is_left_out(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(5)]
    paths[0].write_bytes(b"no picture")
    paths[3].write_bytes(b"")
    frames, source = stills(*paths)
    assert [frame.name for frame in frames] == ["1.png", "2.png", "4.png"]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert source.counts["damaged"] == 2
    assert len(source.warnings) == 1
    assert "0.png and 1 more could not be used" in source.warnings[0]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(SourceOpenError, match=r"a\.png: it cannot be read"):
        stills(tmp_path / "a.png")
    with pytest.raises(SourceOpenError, match="empty"):
        stills(tmp_path / "b.png")
    with pytest.raises(SourceOpenError, match="none of its 2 images can"):
        stills(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(SourceOpenError, match="no such file"):
        stills(tmp_path / "none.png")


def test_close_ends_the_iterator(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.png") for name in "abcd"]
    with ImageSource(paths, stream="pics", config=CONFIG) as source:
        for _ in source:
            source.close()
    assert source.counts["decoded"] == 1


# -------------------------------------------------------------------------------------------------------------- expand


def test_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.png", "IMG1.png", "notes.txt", ".hidden.png"):
        if name.endswith("png"):
            save(tmp_path / name)
        else:
            (tmp_path / name).touch()
    encode(tmp_path / "film.mp4", moving_bgr((64, 48), 2))
    videos, images = expand(str(tmp_path))
    assert [path.name for path in images] == ["IMG1.png", "img2.png", "img10.png"]
    assert videos == [str(tmp_path / "film.mp4")]
    assert expand_images(str(tmp_path)) == images


def test_glob(tmp_path: Path) -> None:
    save(tmp_path / "x/1.png")
    save(tmp_path / "x/y/2.png")
    assert [path.name for path in expand(f"{tmp_path}/x/*.png").images] == ["1.png"]
    assert [path.name for path in expand(f"{tmp_path}/**/*.png").images] == ["1.png", "2.png"]


def test_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = save(tmp_path / "a[1].png")
    assert expand_images(str(path)) is None
    assert is_image(path)
    assert not is_image("a.mp4")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceOpenError, match="is empty"):
        expand(str(tmp_path))
    (tmp_path / "a.txt").touch()
    with pytest.raises(SourceOpenError, match="holds no image or video"):
        expand(str(tmp_path))
    with pytest.raises(SourceOpenError, match="matches no file"):
        expand(f"{tmp_path}/*.png")
    with pytest.raises(SourceOpenError, match="none of them an image"):
        expand(f"{tmp_path}/*.txt")


# ------------------------------------------------------------------------------------------------------------ sequence


def sequence(pattern: Path, fps: float | None = None) -> tuple[list[Frame], ImageSequenceSource]:
    with ImageSequenceSource(str(pattern), stream="seq", config=SourceConfig(fps=fps)) as source:
        return list(source), source


def test_sequence_is_a_video(tmp_path: Path) -> None:
    for number, picture in enumerate(moving_bgr((64, 48), 12)):
        save(tmp_path / f"shot_{number + 7:04d}.png", picture)
    save(tmp_path / "shot_12345.png", moving_bgr((64, 48), 1)[0]).unlink()
    frames, source = sequence(tmp_path / "shot_%04d.png")
    assert len(frames) == source.info.frame_count == 12
    assert not source.info.still
    assert source.info.fps == 25
    assert source.info.duration_s == pytest.approx(12 / 25)
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 25 for index in range(12)])
    assert not any(frame.still for frame in frames)
    assert source.warnings == []
    frames, _ = sequence(tmp_path / "shot_%04d.png", fps=29.97)
    assert frames[-1].pts_s == pytest.approx(11 / 29.97, rel=1e-6)


def test_gaps_and_odd_ones_in_a_sequence(tmp_path: Path) -> None:
    for number in (1, 2, 5, 6):
        save(tmp_path / f"{number}.png")
    save(tmp_path / "6.png", PICTURE[:10])
    frames, source = sequence(tmp_path / "%d.png")
    assert [frame.pts for frame in frames] == [0, 1, 4]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert source.counts == {"decoded": 3, "damaged": 1, "concealed": 0, "skipped": 2}
    assert any("2 numbers between 1 and 6 are missing" in warning for warning in source.warnings)
    assert any("it is 40x10, the first is 40x" in warning for warning in source.warnings)


def test_digits_of_the_pattern_count(tmp_path: Path) -> None:
    for name in ("a01.png", "a1.png", "a002.png", "a100.png", "a03.png"):
        save(tmp_path / name)
    frames, _ = sequence(tmp_path / "a%02d.png")  # printf: 01, 03, 100
    assert [frame.pts for frame in frames] == [0, 2, 99]


def test_no_sequence_there(tmp_path: Path) -> None:
    with pytest.raises(SourceOpenError, match="no file fits"):
        sequence(tmp_path / "a%04d.png")
    with pytest.raises(SourceOpenError, match="check the folder"):
        sequence(tmp_path / "none" / "a%04d.png")
