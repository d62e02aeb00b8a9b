"""The film: read back with PyAV, as a player would."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamdet.errors import OutputError
from streamdet.sinks.video import TIME_BASE, VideoSink
from streamdet.types import Detections, Frame, Picture, Result, SourceInfo, Tracks

VFR_S = [0.0, 0.04, 0.1, 0.1333, 0.5, 0.52, 1.0, 2.25]


def result(index: int, pts_s: float, *, wh: tuple[int, int] = (64, 48), epoch: int = 0, bgr: object = None) -> Result:
    picture = np.full((wh[1], wh[0], 3), (index * 9) % 256, np.uint8) if bgr is None else np.asarray(bgr, np.uint8)
    frame = Frame("test", index, pts_s, Picture(picture[..., 0], bgr=picture), captured_s=0.0, epoch=epoch)
    return Result(frame, Detections.empty(), Tracks.empty(), painter=lambda r: r.frame.picture.bgr)


def info(path: Path | None = None, fps: float | None = 25.0) -> SourceInfo:
    return SourceInfo("test", "test", (64, 48), fps=fps, path=None if path is None else str(path))


def write(path: Path, results: Iterable[Result], **options: object) -> None:
    with VideoSink(path, **{"info": info(), **options}) as sink:  # type: ignore[arg-type]
        for one in results:
            sink.write(one)
        sink.finish(())


def read(path: Path) -> tuple[list[float], list[np.ndarray], av.VideoStream]:
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        return times, [frame.to_ndarray(format="bgr24") for frame in frames], film.streams.video[0]


def audio_of(path: Path) -> tuple[str, list[tuple[float, float]]]:
    """Codec and (start, end) of each decoded piece, in seconds."""
    with av.open(str(path)) as film:
        name = film.streams.audio[0].codec_context.name
        pieces = [(f.time, f.time + f.samples / f.sample_rate) for f in film.decode(audio=0)]
        return name, pieces


def make_source(path: Path, codec: str, *, seconds: float = 3.0, clap_s: float = 1.0, start_s: float = 0.0) -> Path:
    """A film of a silent room with one clap; video and sound both begin at `start_s`."""
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = film.add_stream(codec, rate=48_000)
        sound.codec_context.layout = "stereo"
        for index in range(round(seconds * 25)):
            image = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")
            image.pts, image.time_base = index + round(start_s * 25), Fraction(1, 25)
            film.mux(video.encode(image))
        film.mux(video.encode(None))
        wave = np.zeros((2, round(seconds * 48_000)), np.float32)
        first = round(clap_s * 48_000)
        wave[:, first : first + 4800] = np.sin(np.arange(4800) * 0.2)
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="stereo", rate=48_000, frame_size=1024)
        piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        piece.sample_rate, piece.pts, piece.time_base = 48_000, round(start_s * 48_000), Fraction(1, 48_000)
        for chunk in [*resampler.resample(piece), *resampler.resample(None)]:
            film.mux(sound.encode(chunk))
        film.mux(sound.encode(None))
    return path


def clap_in(path: Path) -> float:
    """When the first loud sample sounds."""
    with av.open(str(path)) as film:
        for frame in film.decode(audio=0):
            loud = np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0) > 0.25
            if loud.any():
                return float(frame.time + np.argmax(loud) / frame.sample_rate)
    raise AssertionError("silent")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
def test_variable_frame_rate_is_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    write(path, [result(i, t) for i, t in enumerate(VFR_S)], crf=10)
    times, pictures, stream = read(path)
    tick_s = 1e-3 if suffix == ".mkv" else float(TIME_BASE)  # Matroska counts milliseconds
    assert np.abs(np.array(times) - VFR_S).max() <= tick_s
    assert abs(float(pictures[4].mean()) - 36) < 3
    assert stream.codec_context.name == "h264"
    assert stream.codec_context.pix_fmt == "yuv420p"


def test_last_frame_is_shown_as_long_as_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write(path, [result(i, t) for i, t in enumerate([0.0, 0.1, 0.2, 0.3])])
    with av.open(str(path)) as film:
        assert film.duration is not None
        assert film.duration / 1e6 == pytest.approx(0.4, abs=0.01)


def test_film_is_an_ordinary_mp4_with_its_table_first(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write(path, [result(i, i / 25) for i in range(200)])
    data = path.read_bytes()
    names, at = [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)
    assert names.index(b"moov") < names.index(b"mdat")
    assert b"moof" not in names
    assert len(read(path)[0]) == 200
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("wh", [(65, 49), (64, 49), (65, 48), (17, 17), (16, 16), (1, 1), (2, 2)])
def test_odd_and_tiny_sizes(tmp_path: Path, wh: tuple[int, int]) -> None:
    path = tmp_path / "film.mp4"
    write(path, [result(i, i / 25, wh=wh) for i in range(5)])
    times, pictures, _ = read(path)
    assert len(times) == 5
    assert pictures[0].shape == (wh[1] + wh[1] % 2, wh[0] + wh[0] % 2, 3)


def test_grey_stays_grey(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", [result(i, i / 25) for i in range(9)], crf=5)
    with av.open(str(tmp_path / "film.mp4")) as film:
        for frame in film.decode(video=0):
            assert np.frombuffer(frame.planes[1], np.uint8)[0] == 128
            assert np.frombuffer(frame.planes[2], np.uint8)[0] == 128


@pytest.mark.parametrize(("wh", "standard"), [((320, 240), 6), ((1280, 720), 1)])
def test_colours_and_their_tags_agree(tmp_path: Path, wh: tuple[int, int], standard: int) -> None:
    colour = np.array((40, 90, 200))
    path = tmp_path / "film.mp4"
    write(path, [result(i, i / 25, bgr=np.tile(colour, (wh[1], wh[0], 1))) for i in range(3)], crf=5)
    with av.open(str(path)) as film:
        frame = next(iter(film.decode(video=0)))
        tags = (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range))
        assert tags == (standard, standard, standard, 1)
        luma, blue, red = (int(np.frombuffer(p, np.uint8)[5]) for p in frame.planes)
    kr, kb = (0.2126, 0.0722) if standard == 1 else (0.299, 0.114)
    b, g, r = colour
    y = kr * r + (1 - kr - kb) * g + kb * b
    want = (16 + 219 * y / 255, 128 + 112 * (b - y) / (1 - kb) / 255, 128 + 112 * (r - y) / (1 - kr) / 255)
    assert np.allclose((luma, blue, red), want, atol=2)


def test_picture_of_another_size_is_fitted_with_borders(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    white = np.full((96, 32, 3), 255, np.uint8)
    write(path, [result(0, 0.0), result(1, 0.04, bgr=white), result(2, 0.08)], crf=5)
    _, pictures, _ = read(path)
    assert pictures[1].shape == (48, 64, 3)
    assert pictures[1][24, 32].min() > 230  # the picture, scaled to 16x48, in the middle
    assert pictures[1][24, 5].max() < 25


def test_media_time_that_starts_again_or_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    times = [(0, 0.0), (0, 0.04), (0, 0.04), (1, 0.0), (1, 0.04), (2, 500.0), (2, 500.04)]
    write(path, [result(i, t, epoch=e) for i, (e, t) in enumerate(times)])
    got, _, _ = read(path)
    assert len(got) == len(times)
    assert np.all(np.diff(got) > 0)
    assert got[-1] < 0.5


def test_nothing_is_left_of_a_film_without_frames(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [2, 3, 30, 31, 32, 33, 61])
def test_the_last_frame_is_in_the_film_whatever_their_number(tmp_path: Path, count: int) -> None:
    path = tmp_path / "out.mp4"
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 255, (count, 48, 64, 3), dtype=np.uint8)
    write(path, (result(i, i / 30, bgr=noise[i]) for i in range(count)), info=info(fps=30.0))
    assert len(read(path)[0]) == count


def test_one_frame(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", [result(0, 0.0)])
    assert read(tmp_path / "film.mp4")[0] == [0.0]


def test_an_error_in_the_run_still_leaves_a_whole_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"

    def interrupted() -> Iterator[Result]:
        yield from (result(i, i / 25) for i in range(30))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted())
    assert len(read(path)[0]) == 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_killed_film_plays_to_shortly_before_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np
        from test_video import VideoSink, info, result
        noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        with VideoSink({str(path)!r}, info=info()) as sink:
            for i in range(250):
                sink.write(result(i, i / 25, bgr=np.roll(noise, i, 1)))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    shown = 0
    with av.open(str(path)) as film:
        try:
            for _ in film.decode(video=0):
                shown += 1
        except av.error.InvalidDataError:
            pass  # the frame that was being written
    assert shown >= 150


@pytest.mark.parametrize(
    ("container", "codec", "becomes"),
    [
        ("mp4", "aac", "aac"),
        ("ts", "aac", "aac"),  # ADTS: no configuration record
        ("mkv", "pcm_s16le", "aac"),
        ("mkv", "libopus", "opus"),
        ("mkv", "ac3", "ac3"),
    ],
)
@pytest.mark.parametrize("start_s", [0.0, 2.0])
def test_sound_is_carried_over_in_time(
    tmp_path: Path, container: str, codec: str, becomes: str, start_s: float
) -> None:
    source = make_source(tmp_path / f"in.{container}", codec, start_s=start_s)
    path = tmp_path / "out.mp4"
    results = []
    for i in range(50):  # two of its three seconds, as with --max-frames
        frame = result(i, i / 25).frame
        shown = Frame(
            "test", i, i / 25, frame.picture, captured_s=0.0, pts=i + round(start_s * 25), time_base=Fraction(1, 25)
        )
        results.append(Result(shown, Detections.empty(), Tracks.empty(), painter=lambda r: r.frame.picture.bgr))
    write(path, results, info=info(source))
    name, pieces = audio_of(path)
    assert name == becomes
    assert clap_in(path) == pytest.approx(clap_in(source) - start_s, abs=0.03)
    assert 1.9 < pieces[-1][1] < 2.1
    assert len(read(path)[0]) == 50


def test_no_sound_when_not_wanted_or_not_there(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in.mp4", "aac")
    write(tmp_path / "a.mp4", [result(i, i / 25) for i in range(5)], info=info(source), audio=False)
    write(tmp_path / "b.mp4", [result(i, i / 25) for i in range(5)], info=info(tmp_path / "a.mp4"))
    write(tmp_path / "c.mp4", [result(i, i / 25) for i in range(5)], info=info(tmp_path / "no-such-file"))
    for name in "abc":
        with av.open(str(tmp_path / f"{name}.mp4")) as film:
            assert not film.streams.audio


def test_real_clip_with_sound(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "clips" / "tennis_amateur" / "clip.mp4"
    path = tmp_path / "out.mp4"
    results = []
    with av.open(str(source)) as film:
        for index, image in zip(range(40), film.decode(video=0)):
            small = image.reformat(width=320, height=180).to_ndarray(format="bgr24")
            first = image.time if index == 0 else first  # noqa: F821
            results.append(result(index, image.time - first, bgr=small))
    write(path, results, info=info(source))
    times, _, _ = read(path)
    assert np.abs(np.array(times) - [r.frame.pts_s for r in results]).max() <= float(TIME_BASE)
    name, pieces = audio_of(path)
    assert name == "aac"
    assert pieces[-1][1] == pytest.approx(times[-1], abs=0.1)


@pytest.mark.parametrize("name", ["film.webm", "film.avi", "film", "film.jpg"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"must end in \.mp4"):
        VideoSink(tmp_path / name, info=info())


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "film.mp4", Path("/proc/film.mp4")):
        with pytest.raises(OutputError, match="cannot write"), VideoSink(path, info=info()):
            pass
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"), VideoSink(tmp_path / "folder.mp4", info=info()):
        pass


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np
        from test_video import OutputError, VideoSink, info, result
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        rng = np.random.default_rng(0)
        try:
            with VideoSink({str(tmp_path / "film.mp4")!r}, info=info()) as sink:
                for i in range(300):
                    sink.write(result(i, i / 25, bgr=rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)))
        except OutputError as error:
            print(error)
            sys.exit(3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path / 'film.mp4'}: ")
    assert "Traceback" not in done.stderr
    at, film = 0, (tmp_path / "film.mp4").read_bytes()
    while at < len(film):  # every fragment is whole
        at += int.from_bytes(film[at : at + 4], "big")
    assert at == len(film)
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0
