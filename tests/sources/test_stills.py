"""Stills of any size and kind: headers, depths, orientation, windows that equal the whole, PDF pages."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pypdfium2
import pytest
import pyvips

from streamdet.config import TilesConfig
from streamdet.errors import SourceLostError, UsageError
from streamdet.inputspec import InputSpec
from streamdet.sources import stills, windows
from streamdet.sources.header import Header, header_of, header_of_file
from streamdet.sources.stills import picture_of_array, stills_of
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import U8, Frame, Motion, Picture

RNG = np.random.default_rng(7)


def scene(width: int = 700, height: int = 530) -> U8:
    """Smooth, so that lossy files stay close."""
    small = RNG.integers(0, 256, (height // 20 + 2, width // 20 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has more than 100,000 px is read in windows, with an overview of at most 128 px."""
    monkeypatch.setattr(stills, "HELD_PX", 100_000)
    monkeypatch.setattr(windows, "OVERVIEW_PX", 128)


def one(path: Path) -> Picture:
    [still] = stills_of(path, dpi=200)
    return still.picture


def vips_of(bgr: U8) -> Any:
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    return pyvips.Image.new_from_memory(rgb.tobytes(), rgb.shape[1], rgb.shape[0], 3, "uchar").copy(
        interpretation="srgb"
    )


WRITERS = {
    "strips.tif": lambda image, path: image.tiffsave(path, compression="deflate", predictor="horizontal"),
    "tiles.tif": lambda image, path: image.tiffsave(
        path, compression="lzw", tile=True, tile_width=128, tile_height=128
    ),
    "big.tif": lambda image, path: image.tiffsave(path, bigtiff=True),
    "lossy.tif": lambda image, path: image.tiffsave(path, compression="jpeg", Q=98, tile=True),
    "a.jpg": lambda image, path: image.jpegsave(path, Q=98),
    "a.png": lambda image, path: image.pngsave(path),
    "a.webp": lambda image, path: image.webpsave(path, lossless=True),
}


@pytest.mark.parametrize("name", sorted(WRITERS))
@pytest.mark.usefixtures("small_windows")
def test_windows_are_the_picture(name: str, tmp_path: Path) -> None:
    bgr, path = scene(), tmp_path / name
    WRITERS[name](vips_of(bgr), str(path))
    assert header_of_file(path).wh == (700, 530)
    picture = one(path)
    assert picture.windows is not None
    assert picture.wh == (700, 530)
    with pytest.raises(ValueError, match="not held whole"):
        _ = picture.bgr
    tolerance = 24 if name in ("lossy.tif", "a.jpg") else 0
    for box in ([0, 0, 416, 300], [284, 0, 700, 300], [0, 230, 416, 530], [284, 230, 700, 530], [10, 3, 11, 4]):
        x1, y1, x2, y2 = box
        got = picture.bgr_of(box)
        assert got.shape == (y2 - y1, x2 - x1, 3)
        assert np.abs(got.astype(int) - bgr[y1:y2, x1:x2]).max() <= tolerance
    assert picture.windows.passes == 2  # the last box went back to the top, the others did not
    overview = picture.windows.overview()
    assert max(overview.shape) <= 128
    small = cv2.resize(bgr[:528], (117, 88), interpolation=cv2.INTER_AREA)  # 6 rows become one; the last is of two rows
    assert np.abs(overview[:88].astype(int) - small).max() <= (24 if tolerance else 2)


@pytest.mark.usefixtures("small_windows")
def test_a_windowed_picture_is_packed_like_the_whole_one(tmp_path: Path) -> None:
    bgr, path = scene(1500, 900), tmp_path / "a.png"
    cv2.imwrite(str(path), bgr)
    spec = InputSpec(wh=(320, 320), std=(255.0,), channels=("r", "g", "b", "y"))
    plan = plan_tiles((1500, 900), input_wh=spec.wh, config=TilesConfig(whole_frame=True, tile=320))
    packed = []
    for picture in (one(path), Picture(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), bgr=bgr, full_range=True)):
        frame = Frame("still", 0, 0.0, picture, 0.0, still=True)
        packed.append(CpuPacker(spec)(frame, Motion(np.zeros((0, 0), np.uint8)), plan).data.copy())
    assert packed[0].shape[0] == plan.of > 10
    difference = np.abs(packed[0] - packed[1]).max((1, 2, 3)) * 255
    assert difference[:-1].max() < 1e-3
    assert difference[-1] <= 2.5  # the whole frame, taken from the overview


@pytest.mark.usefixtures("small_windows")
def test_the_whole_frame_of_a_windowed_picture_costs_no_second_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene(1500, 900))
    picture, spec = one(path), InputSpec(wh=(48, 48))
    plan = plan_tiles((1500, 900), input_wh=spec.wh, config=TilesConfig(whole_frame=True, tile=640))
    CpuPacker(spec)(Frame("s", 0, 0.0, picture, 0.0, still=True), Motion(np.zeros((0, 0), np.uint8)), plan)
    assert picture.windows.passes == 1


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("windowed", [True, False])
def test_exif_orientation(orientation: int, windowed: bool, tmp_path: Path) -> None:
    bgr = scene(700, 530) if windowed else scene(300, 200)
    image = vips_of(bgr).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    path = tmp_path / "a.jpg"
    image.jpegsave(str(path), Q=98)
    upright = {
        1: bgr, 2: bgr[:, ::-1], 3: bgr[::-1, ::-1], 4: bgr[::-1], 5: bgr.swapaxes(0, 1),
        6: bgr.swapaxes(0, 1)[:, ::-1], 7: bgr.swapaxes(0, 1)[::-1, ::-1], 8: bgr.swapaxes(0, 1)[::-1],
    }[orientation]  # fmt: skip
    picture = one(path)
    assert (picture.windows is not None) == windowed
    got = picture.bgr_of([0, 0, *picture.wh])
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 3


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (12, 4), (16, 8)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("wh", [(700, 530), (90, 70)])
def test_sixteen_bits(bits: int, shift: int, suffix: str, wh: tuple[int, int], tmp_path: Path) -> None:
    deep = (scene(*wh).astype(np.uint16) << shift) | (1 << (bits - 1))  # the top bit is in use somewhere
    deep[0, 0] = (1 << bits) - 1
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), deep)
    expected = (deep >> (bits - 8)).astype(np.uint8)
    assert np.array_equal(one(path).bgr_of([0, 0, *wh]), expected)
    assert np.array_equal(picture_of_array(deep).bgr_of([0, 0, *wh]), expected)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("wh", [(700, 530), (90, 70)])
def test_grey_alpha_and_near_infrared(wh: tuple[int, int], tmp_path: Path) -> None:
    bgr = scene(*wh)
    grey = np.ascontiguousarray(bgr[..., 0])
    spread = np.repeat(grey[..., None], 3, 2)
    box = [0, 0, *wh]
    for name, array, expected in (
        ("grey.png", grey, spread),
        ("bgra.png", np.dstack([bgr, grey]), bgr),
        ("grey.tif", grey, spread),
    ):
        cv2.imwrite(str(tmp_path / name), array)
        assert np.array_equal(one(tmp_path / name).bgr_of(box), expected), name
        assert np.array_equal(picture_of_array(array).bgr_of(box), expected), name
    five = vips_of(bgr).bandjoin([7, 9])
    five.tiffsave(str(tmp_path / "five.tif"))
    if wh == (700, 530):
        assert np.array_equal(one(tmp_path / "five.tif").bgr_of(box), bgr)
    assert np.array_equal(
        picture_of_array(grey > 99).bgr_of(box), np.repeat((grey > 99)[..., None] * np.uint8(255), 3, 2)
    )


@pytest.mark.parametrize("array", [np.zeros((4, 4, 2), np.uint8), np.zeros(9, np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match="is no picture"):
        picture_of_array(array)
    with pytest.raises(UsageError, match="float32 is no picture; give uint8"):
        picture_of_array(np.zeros((4, 4, 3), np.float32))


@pytest.mark.usefixtures("small_windows")
def test_a_file_cut_off_is_damaged_not_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    picture = one(path)
    picture.bgr_of([0, 0, 700, 64])
    with pytest.raises(SourceLostError, match=r"damaged at row \d+ of 530"):
        picture.bgr_of([0, 466, 700, 530])


@pytest.mark.usefixtures("small_windows")
def test_float_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), scene().astype(np.float32))
    with pytest.raises(ValueError, match=r"samples are float; convert it to 8 bits"):
        one(path)


# --------------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".ppm", ".pgm"])
def test_header_says_the_size(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), scene(123, 45) if suffix != ".pgm" else scene(123, 45)[..., 0])
    assert header_of_file(path).wh == (123, 45)


def test_header_of_a_png_bomb() -> None:
    ihdr = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr))
    assert header_of(data) == Header("png", (60_000, 50_000))


@pytest.mark.parametrize("seed", range(300))
def test_garbage_has_no_header_and_breaks_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    start = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"P5", b""]
    data = start[seed % len(start)] + random.bytes(int(random.integers(0, 200)))
    header = header_of(data)
    assert header is None or min(header.wh) > 0


# -------------------------------------------------------------------------------------------------------------------- PDF


def pdf(path: Path, pages: int = 3, *, wh: tuple[float, float] = (360, 216)) -> Path:
    """Pages with a black square of 72 pt whose left edge lies at 36 pt times the page's number, its top at 72 pt."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(pages))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>")
    for n in range(pages):
        drawing = f"0 0 0 rg {36 * n} {wh[1] - 144} 72 72 re f"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {wh[0]} {wh[1]}] /Contents {4 + 2 * n} 0 R >>")
        objects.append(f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream")
    body, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{o:010d} 00000 n \n" for o in offsets)
    end = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    path.write_bytes(body + table.encode() + end.encode())
    return path


@pytest.mark.parametrize("windowed", [True, False])
def test_pdf_pages(windowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if windowed:
        monkeypatch.setattr(stills, "HELD_PX", 10_000)
    found = list(stills_of(pdf(tmp_path / "a.pdf"), dpi=144))
    assert [still.page for still in found] == [0, 1, 2]
    for still in found:
        assert still.picture.wh == (720, 432)
        assert (still.picture.windows is not None) == windowed
        page = np.concatenate([still.picture.bgr_of([0, y, 720, min(432, y + 100)]) for y in range(0, 432, 100)])
        expected = np.full((432, 720, 3), 255, np.uint8)
        expected[144:288, 72 * still.page : 72 * still.page + 144] = 0
        assert np.abs(page.astype(int) - expected).max() <= 1


def test_pdf_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7\nnothing")
    with pytest.raises(ValueError, match="PDFium cannot read it"):
        list(stills_of(path, dpi=100))


def test_pdf_at_a_dpi_that_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page 0 would be 1 *\d+x\d+ px at 100 dpi|would be"):
        list(stills_of(pdf(tmp_path / "a.pdf", wh=(200_000, 100)), dpi=100))


def test_pdfium_is_the_version_the_door_was_written_for() -> None:
    assert hasattr(pypdfium2.raw, "FPDF_RenderPageBitmap")
    assert hasattr(pypdfium2.raw, "FPDF_FFLDraw")
