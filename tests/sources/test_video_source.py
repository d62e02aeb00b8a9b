"""Files: every frame, in order, upright, in the right colours, with honest time, whatever is wrong with the file."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from source_clips import corners_bgr, encode, moving_bgr

from streamdet.config import SourceConfig
from streamdet.errors import SourceOpenError
from streamdet.sources.clock import MediaClock
from streamdet.sources.picture import square_wh
from streamdet.sources.video import VideoSource
from streamdet.types import Frame

CONFIG = SourceConfig()


def read(path: Path) -> tuple[list[Frame], VideoSource]:
    with VideoSource(str(path), stream="cam", config=CONFIG) as source:
        return list(source), source


def index_first(path: Path, out: Path) -> Path:
    """The same mp4 with its index at the front, so that a cut file can still be opened."""
    with av.open(str(path)) as old, av.open(str(out), "w", options={"movflags": "faststart"}) as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = track
                new.mux(packet)
    return out


# --------------------------------------------------------------------------------------------------------- every frame


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "options"),
    [
        ("mp4", "libx264", "yuv420p", {"bf": "3"}),
        ("ts", "libx264", "yuv420p", {"bf": "3"}),
        ("avi", "libx264", "yuv420p", {"bf": "2"}),
        ("mkv", "libx264", "yuv422p", {}),
        ("mp4", "libx264", "yuv444p10le", {}),
        ("mp4", "libx264", "gray", {}),
        ("mkv", "libx264rgb", "rgb24", {}),
        ("avi", "rawvideo", "bgr24", {}),
        ("avi", "mjpeg", "yuvj422p", {}),
        ("mkv", "ffv1", "gray16le", {}),
        ("mov", "qtrle", "rgb24", {}),
        ("webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
        ("mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none", "preset": "ultrafast"}),
    ],
)
def test_every_frame_in_order_with_right_time(
    tmp_path: Path, suffix: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    pictures = moving_bgr((96, 64), 30)
    path = encode(
        tmp_path / f"a.{suffix}",
        pictures,
        codec=codec,
        pixel_format=pixel_format,
        options={"crf": "4", **options} if codec.startswith("libx26") else options,
    )
    frames, source = read(path)
    assert [frame.index for frame in frames] == list(range(30))
    assert np.allclose([frame.pts_s for frame in frames], np.arange(30) / 25, atol=2e-3)
    assert source.info.frame_wh == (96, 64)
    assert source.info.fps == pytest.approx(25, abs=0.01)
    assert source.counts["damaged"] == 0
    assert source.warnings == []
    for index, frame in enumerate(frames):
        block = frame.picture.luma[12:24, 2 * index + 2 : 2 * index + 14]
        assert block.mean() > 225, index  # the moving block is where it belongs: no frame lost, swapped or doubled
        assert frame.picture.bgr[12:24, 2 * index + 2 : 2 * index + 14].mean() > 235


def test_odd_sizes(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [corners_bgr((35, 27))] * 3, codec="ffv1", options={})
    frames, source = read(path)
    assert source.info.frame_wh == frames[0].wh == (35, 27)
    picture = frames[0].picture
    assert picture.chroma is not None
    assert picture.chroma[0].shape == (14, 18)
    assert picture.bgr.shape == (27, 35, 3)


def test_variable_frame_rate_keeps_the_files_time(tmp_path: Path) -> None:
    stamps = [0, 1, 2, 10, 11, 40, 41, 43]
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 8), pts=stamps)
    frames, _ = read(path)
    assert [frame.pts_s for frame in frames] == pytest.approx([stamp / 25 for stamp in stamps])
    assert all(frame.pts * frame.time_base == pytest.approx(frame.pts_s) for frame in frames)  # type: ignore[operator]


def test_recording_that_starts_late_starts_at_zero(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", moving_bgr((96, 64), 5), pts=[500, 501, 502, 503, 504])
    frames, _ = read(path)
    assert [frame.pts_s for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert frames[0].pts is not None
    assert frames[0].pts > 0


# ------------------------------------------------------------------------------------------------------------- colours

COLOURS = {"red": (20, 30, 220), "green": (40, 200, 30), "blue": (230, 60, 40), "grey": (128, 128, 128)}


@pytest.mark.parametrize(
    ("matrix", "levels", "pixel_format"),
    [
        *itertools.product([1, 5], [1, 2], ["yuv420p", "yuv444p", "yuv420p10le"]),
        (None, None, "yuv420p"),
        (None, None, "nv12"),  # raw: carries no tags
    ],
)
def test_colours_as_tagged(tmp_path: Path, pixel_format: str, matrix: int | None, levels: int | None) -> None:
    pictures = [np.full((64, 64, 3), bgr, np.uint8) for bgr in COLOURS.values()]
    codec = "rawvideo" if pixel_format == "nv12" else "libx264"
    options = {} if codec == "rawvideo" else {"qp": "1", "bf": "0"}
    path = encode(
        tmp_path / "a.nut",
        pictures,
        codec=codec,
        pixel_format=pixel_format,
        matrix=matrix,
        levels=levels,
        options=options,
    )
    frames, _ = read(path)
    assert len(frames) == len(pictures)
    for frame, want in zip(frames, COLOURS.values()):
        got = frame.picture.bgr[8:-8, 8:-8].reshape(-1, 3).mean(0)
        assert np.abs(got - want).max() <= 3, (frame.picture, got, want)
        assert frame.picture.full_range == (levels == 2)
        assert frame.picture.matrix == ("bt709" if matrix == 1 else "bt601")
        grey = np.dot(want, [0.0722, 0.7152, 0.2126] if matrix == 1 else [0.114, 0.587, 0.299])
        luma = grey if levels == 2 else 16 + grey * 219 / 255
        assert abs(frame.picture.luma.mean() - luma) <= 1.5


def test_untagged_hd_is_bt709(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [np.zeros((720, 1280, 3), np.uint8)])
    frames, _ = read(path)
    assert frames[0].picture.matrix == "bt709"


# --------------------------------------------------------------------------------------------- what a player would show


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p"])
@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_shown_upright(tmp_path: Path, angle: int, mirror: tuple[bool, bool], pixel_format: str) -> None:
    """Oracle: FFmpeg's own words: rotate counter-clockwise by the angle, then mirror."""
    coded = corners_bgr((64, 48))
    path = encode(tmp_path / "a.mp4", [coded] * 2, rotation=(angle, *mirror), pixel_format=pixel_format)
    frames, source = read(path)
    want = np.rot90(coded, round(angle / 90))
    want = want[:, ::-1] if mirror[0] else want
    want = want[::-1] if mirror[1] else want
    assert source.info.frame_wh == frames[0].wh == (want.shape[1], want.shape[0])
    for frame in frames:
        got = frame.picture.bgr
        assert got.flags.c_contiguous
        inner = np.abs(got.astype(int) - want).max(2)
        inner[want.shape[0] // 2 - 3 : want.shape[0] // 2 + 3] = 0  # chroma blurs where the colours meet
        inner[:, want.shape[1] // 2 - 3 : want.shape[1] // 2 + 3] = 0
        assert inner.max() < 12
        assert frame.picture.chroma is not None
        blue = frame.picture.chroma[0]
        corner = [blue[2, 2], blue[2, -3], blue[-3, 2], blue[-3, -3]]
        height, width = want.shape[:2]
        expected = [want[4, 4], want[4, width - 5], want[height - 5, 4], want[height - 5, width - 5]]
        assert int(np.argmax(corner)) == int(np.argmax([int(c[0]) - int(c[2]) - int(c[1]) for c in expected]))


@pytest.mark.parametrize(
    ("aspect", "rotation", "wh"),
    [("4/3", 0, (128, 72)), ("8/9", 0, (96, 81)), ("4/3", 90, (72, 128)), ("1/1", 0, (96, 72))],
)
def test_square_pixels(tmp_path: Path, aspect: str, rotation: int, wh: tuple[int, int]) -> None:
    path = encode(
        tmp_path / "a.mp4",
        [corners_bgr((96, 72))] * 2,
        pixel_aspect=Fraction(aspect),
        rotation=(rotation, False, False) if rotation else None,
    )
    frames, source = read(path)
    assert source.info.frame_wh == frames[0].wh == wh
    assert frames[0].picture.bgr.shape == (wh[1], wh[0], 3)


def test_senseless_pixel_aspect_is_ignored() -> None:
    assert square_wh((100, 50), None) == (100, 50)
    assert square_wh((100, 50), Fraction(0)) == (100, 50)
    assert square_wh((100, 50), Fraction(100, 1)) == (100, 50)


# ------------------------------------------------------------------------------------------------------ memory, no copy


def test_planes_are_the_decoders_and_stay_alive(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 40))
    source = VideoSource(str(path), stream="cam", config=CONFIG)
    with source:
        kept = [(frame.picture.luma, frame.picture.luma.copy()) for frame in source]
    del source
    gc.collect()
    assert all(np.array_equal(view, copy) for view, copy in kept)
    assert all(view.base is not None for view, _ in kept)  # views, not copies


def test_frames_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [np.zeros((720, 1280, 3), np.uint8)] * 120, options={"preset": "ultrafast"})
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc")
    gc.collect()
    gc.disable()
    try:
        with VideoSource(str(path), stream="cam", config=CONFIG) as source:
            sizes = [int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for _ in source]
    finally:
        gc.enable()
    assert sizes[-1] - sizes[30] < 30e6  # 90 kept frames would be 124 MB


# -------------------------------------------------------------------------------------------------------------- damage


def test_cut_file_gives_all_it_has_and_says_so(tmp_path: Path) -> None:
    whole = index_first(encode(tmp_path / "a.mp4", moving_bgr((96, 64), 100)), tmp_path / "b.mp4")
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    frames, source = read(cut)
    assert len(frames) == decodable_without_frame_threads(cut)
    assert len(frames) + source.counts["damaged"] == 100
    assert len(source.warnings) == 1
    assert "cut short" in source.warnings[0]
    assert f"{source.counts['damaged']} of 100" in source.warnings[0]


def decodable_without_frame_threads(path: Path) -> int:
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.InvalidDataError):
                count += len(packet.decode())
    return count


@pytest.mark.parametrize("position", [-1, -2, -3, -8, 40])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_one_bad_packet_costs_one_frame(tmp_path: Path, position: int, codec: str) -> None:
    options = {} if codec == "libx264" else {"cpu-used": "8", "deadline": "realtime"}
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 60), codec=codec, options=options)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[position]
    data[start + 4 : start + size] = bytes(size - 4)
    path.write_bytes(data)
    frames, source = read(path)
    # a decoder may take the zeros for a picture and patch it up; what it refuses costs that picture alone
    assert len(frames) >= 59
    assert len(frames) == decodable_without_frame_threads(path)
    assert len(frames) + source.counts["damaged"] == 60
    times = [frame.pts_s for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("seed", range(6))
def test_noise_never_stops_or_hangs(tmp_path: Path, seed: int) -> None:
    path = encode(tmp_path / "a.ts", moving_bgr((96, 64), 60))
    data = bytearray(path.read_bytes())
    noise = random.Random(seed)
    for _ in range(100):
        data[noise.randrange(2000, len(data))] = noise.randrange(256)
    path.write_bytes(data)
    frames, _ = read(path)
    assert len(frames) >= 30
    times = [frame.pts_s for frame in frames]
    assert times == sorted(set(times))


# ------------------------------------------------------------------------------------------------------- cannot be used


def refusal(path: Path | str) -> str:
    with pytest.raises(SourceOpenError) as caught, VideoSource(str(path), stream="cam", config=CONFIG) as source:
        list(source)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("frames", [20, 100])
def test_patched_pictures_are_told_though_nobody_read_to_the_end(tmp_path: Path, frames: int) -> None:
    clip = encode(tmp_path / "a.ts", moving_bgr((160, 120), 60), options={"bf": "0", "g": "60"})
    data = bytearray(clip.read_bytes())
    for at in range(len(data) // 6, len(data) // 3, 700):
        data[at : at + 60] = bytes(60)
    clip.write_bytes(data)
    with VideoSource(str(clip), stream="a", config=SourceConfig()) as source:
        for index, _ in enumerate(source, 1):
            if index == frames:
                break
    assert source.counts["concealed"] > 0
    count = source.counts["concealed"]
    told = "1 picture is damaged and was" if count == 1 else f"{count} pictures are damaged and were"
    assert [w for w in source.warnings if "patched up" in w] == [f"{clip}: {told} patched up by the decoder"]


def test_refusals_say_what_and_how_to_mend(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.mp4")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert "empty (0 bytes)" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    assert "cannot read it" in refusal(tmp_path / "text.mp4")
    whole = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 20)).read_bytes()
    (tmp_path / "unfinished.mp4").write_bytes(whole[: len(whole) // 2])
    assert "before its index" in refusal(tmp_path / "unfinished.mp4")
    assert "not built" in refusal("srt://127.0.0.1:1")
    os.mkfifo(tmp_path / "pipe.ts")
    assert "it is a pipe" in refusal(tmp_path / "pipe.ts")


def test_sound_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "no video stream, only audio" in refusal(path)


def test_unreadable_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 2))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "may not read" in refusal(path)


def test_names_that_look_like_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.mp4", moving_bgr((96, 64), 2)).rename(tmp_path / "12:30 #1?.mp4")
    monkeypatch.chdir(tmp_path)
    frames, source = read(Path("12:30 #1?.mp4"))
    assert len(frames) == 2
    assert source.info.path == "12:30 #1?.mp4"


# --------------------------------------------------------------------------------------------------------------- close


def test_close_ends_the_iterator_and_frees_the_container(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 50))
    with VideoSource(str(path), stream="cam", config=CONFIG) as source:
        seen = 0
        for frame in source:
            seen += 1
            if frame.index == 3:
                source.close()
    assert 4 <= seen < 15  # what was decoded already may still come
    assert source.warnings == []
    open_files = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if fd.isdecimal() and os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert str(path) not in open_files


def test_leaving_in_the_middle_frees_the_container(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving_bgr((96, 64), 50))
    with VideoSource(str(path), stream="cam", config=CONFIG) as source:
        next(iter(source))
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(path) not in links


# --------------------------------------------------------------------------------------------------------------- clock


def times(stamps: list[int | None], *, dts: list[int] | None = None) -> list[float]:
    clock, tick = MediaClock(), Fraction(1, 10)
    return [clock(pts, None if dts is None else dts[index], tick, step_s=0.1) for index, pts in enumerate(stamps)]


def test_clock_takes_sound_stamps_as_they_are() -> None:
    assert times([5, 6, 9, 100]) == pytest.approx([0, 0.1, 0.4, 9.5])


def test_clock_fills_what_is_missing() -> None:
    assert times([None, None, None]) == pytest.approx([0, 0.1, 0.2])
    assert times([None, 7, 8]) == pytest.approx([0, 0.1, 0.2])
    assert times([7, None, 9]) == pytest.approx([0, 0.1, 0.2])


def test_clock_catches_up_after_a_repeat() -> None:
    assert times([0, 1, 1, 2, 3]) == pytest.approx([0, 0.1, 0.15, 0.2, 0.3])
    assert times([0, 1, 1, 1, 2, 3]) == pytest.approx([0, 0.1, 0.15, 0.2, 0.25, 0.3])


def test_clock_starts_anew_after_a_jump_back() -> None:
    assert times([1000, 1001, 0, 1, 3]) == pytest.approx([0, 0.1, 0.2, 0.3, 0.5])


def test_clock_runs_on_where_the_stamp_stands() -> None:
    assert np.diff(times([0] * 10))[4:] == pytest.approx(0.1)  # as its rate says


def test_clock_goes_on_at_the_right_pace_after_a_short_recording_is_joined_to_another() -> None:
    assert np.diff(times([*range(8), *range(8)]))[11:] == pytest.approx(0.1)


def test_clock_believes_decoding_stamps_when_the_others_jump_about() -> None:
    got = times([1, 4, 3, 5, 2, 8, 7, 9, 6, 12], dts=[2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    assert got == sorted(set(got))
    assert got[-4:] == pytest.approx([0.7, 0.8, 0.9, 1.0])


def test_clock_is_strictly_increasing_whatever_comes() -> None:
    noise = random.Random(3)
    for _ in range(200):
        stamps = [noise.choice([None, noise.randrange(50), noise.randrange(10**9)]) for _ in range(60)]
        got = times(stamps)
        assert all(later > earlier for earlier, later in itertools.pairwise(got))


# --------------------------------------------------------------------------------------------------------- real clips


def test_phone_clip_with_a_hidden_beginning(shared_data: Path) -> None:
    """An edit list hides 132 of its 296 pictures; players show 164."""
    with VideoSource(str(shared_data / "clips/tennis_amateur/clip.mp4"), stream="a", config=CONFIG) as source:
        stamps = [frame.pts_s for frame in source]
    assert len(stamps) == source.info.frame_count == 164
    assert source.counts["damaged"] == 0
    assert stamps[0] == 0


def test_avi_without_presentation_stamps(shared_data: Path) -> None:
    with VideoSource(str(shared_data / "clips/pedestrians/vtest_480x360.avi"), stream="a", config=CONFIG) as source:
        assert np.allclose([frame.pts_s for frame in source], np.arange(795) / 10)
