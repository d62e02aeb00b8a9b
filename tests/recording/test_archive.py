"""What is kept and for how long; a full disk; a restart; a killed process."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from recording_stage import NO_LIMITS, record, shown
from source_clips import encode, moving_bgr

from streamdet.config import KeepConfig, RecordConfig
from streamdet.errors import OutputError
from streamdet.recording.archive import Archive

NOON = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
DAY_S = 86_400


def put(archive: Archive, stem: str, size: int, age_s: float = 0.0, suffix: str = ".mp4") -> str:
    file = archive.promise("court", NOON, stem, suffix)
    assert file is not None
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    os.utime(file, (time.time() - age_s,) * 2)
    archive.added(file)
    return archive.address(file)


def test_names_never_collide(folder: Path) -> None:
    with Archive(folder, NO_LIMITS) as archive:
        names = {str(archive.promise("court", NOON, "Ball-1")).lower() for _ in range(3)}
        names.add(str(archive.promise("court", NOON, "ball-1")).lower())
        assert len(names) == 4
        assert f"{folder}/2026-11-25/court/120000.123-ball-1.mp4".lower() in names


def test_the_oldest_go_when_it_is_too_much_and_favourites_stay(folder: Path) -> None:
    with Archive(folder, KeepConfig(days=None, gb=0.001, free_gb=0)) as archive:
        first = put(archive, "a", 300_000, 500)
        assert archive.favourite(first)
        names = [put(archive, f"b{i}", 300_000, 400 - i) for i in range(5)]
        assert archive.counts()["bytes"] <= 1_000_000
        assert archive.file(first) is not None
        assert [archive.file(name) is not None for name in names] == [False, False, False, True, True]
        assert archive.counts()["removed"] == 3
        assert [one.favourite for one in archive.files()] == [False, False, True]
    with Archive(folder, KeepConfig(days=None, gb=0.0004, free_gb=0)) as again:  # it is known after a restart
        assert [one.name for one in again.files()] == [first.removeprefix("media/")]
        assert again.favourite(first, keep=False)
        put(again, "c", 390_000)
        assert again.file(first) is None


def test_the_old_go_and_their_empty_folders_too(folder: Path) -> None:
    with Archive(folder, NO_LIMITS) as archive:
        old = put(archive, "old", 10, 3 * DAY_S)
        new = put(archive, "new", 10, 1 * DAY_S)
        other = archive.promise("garden", NOON, "x")
        assert other is not None
        other.parent.mkdir(parents=True)
        other.write_bytes(b"x")
        os.utime(other, (1e9, 1e9))
        archive.added(other)
    with Archive(folder, KeepConfig(days=2, gb=None, free_gb=0)) as archive:
        assert archive.file(old) is None
        assert archive.file(new) is not None
        assert not other.parent.exists()
        assert archive.counts() == {"files": 1, "bytes": 10, "dropped": 0, "removed": 2}


def test_pictures_go_with_their_clip(folder: Path) -> None:
    with Archive(folder, NO_LIMITS) as archive:
        clip = put(archive, "a", 10)
        file = archive.file(clip)
        assert file is not None
        for suffix in (".jpg", ".frame.jpg"):
            file.with_suffix(suffix).write_bytes(b"x")
            archive.added(file.with_suffix(suffix))
        assert archive.counts()["files"] == 3
        assert archive.delete(clip)
        assert archive.counts()["files"] == 0
        assert not archive.delete(clip)
        assert not archive.delete("media/../../etc/passwd")


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"record\.dir"):
        Archive(tmp_path / "file" / "x", NO_LIMITS).__enter__()


def test_too_little_room_costs_the_oldest_first_then_new_clips_but_no_events(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [2e9]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free[0]})())
    clock = [time.time()]
    with Archive(folder, KeepConfig(days=None, gb=None, free_gb=1), clock=lambda: clock[0]) as archive:
        put(archive, "a", 10)
        free[0] = 0.5e9
        with caplog.at_level(logging.WARNING):
            assert [archive.promise("court", NOON, "b") for _ in range(5)] == [None] * 5
        assert archive.counts() == {"files": 0, "bytes": 0, "dropped": 5, "removed": 1}
        assert len(caplog.records) == 1
        assert "events go on" in caplog.text
        free[0] = 2e9
        assert archive.promise("court", NOON, "b") is None, "looked at again after a while, not for every event"
        clock[0] += 11
        with caplog.at_level(logging.WARNING):
            assert archive.promise("court", NOON, "b") is not None
        assert len(caplog.records) == 2


@pytest.fixture(params=["small disk", "file size limit"])
def full_place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """A folder where writing fails in the middle of the clip, and how."""
    small = tmp_path / "small"
    small.mkdir()
    if request.param == "file size limit":  # for machines where one may not mount
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        yield small, errno.EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield small, errno.ENOSPC
    subprocess.run(["umount", str(small)], check=True)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    options = {"g": "10", "bf": "0", "crf": "1", "preset": "ultrafast"}
    return encode(tmp_path / "a.mp4", moving_bgr((320, 240), 200), options=options)


def test_a_disk_that_really_fills_up(
    film: Path, full_place: tuple[Path, int], caplog: pytest.LogCaptureFixture
) -> None:
    place, fault = full_place
    with caplog.at_level(logging.WARNING):
        told = record(film, place / "clips", RecordConfig(pre_s=2, post_s=2), {60: [("new", 1)], 90: [("end", 1)]})
    assert [event.type for event in told] == ["new", "end"]
    assert not list((place / "clips").rglob("*.mp4*"))
    warnings = [r.getMessage() for r in caplog.records if "no clips are kept" in r.getMessage()]
    assert len(warnings) == 1
    assert os.strerror(fault) in warnings[0]


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}, {sources!r}]
from pathlib import Path
from recording_stage import NO_LIMITS, event_of
from streamdet.config import RecordConfig, SourceConfig
from streamdet.recording.archive import Archive
from streamdet.recording.recorder import Recorder
from streamdet.sources.video import VideoSource
with Archive(Path({folder!r}), NO_LIMITS) as archive:
    recorder = Recorder(archive, RecordConfig(pre_s=1), stream="court")
    recorder.start()
    with VideoSource({source!r}, stream="court", config=SourceConfig(), tap=recorder) as source:
        for frame in source:
            if frame.index == 50:
                print(recorder.record((event_of(frame),))[0].clip, flush=True)
    time.sleep(1)
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_had_written_is_a_clip_after_the_restart(tmp_path: Path, folder: Path) -> None:
    source = encode(tmp_path / "a.mp4", moving_bgr((160, 120), 200), options={"g": "25", "bf": "2"})
    here = Path(__file__).parent
    code = KILLED.format(tests=str(here), sources=str(here.parent / "sources"), folder=str(folder), source=str(source))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert process.stdout.readline().strip() == "written"
        process.send_signal(signal.SIGKILL)
    assert not list(folder.rglob("*.mp4"))
    with contextlib.suppress(OSError):
        (folder / ".junk.mp4.part").write_bytes(b"not a film")
    with Archive(folder, NO_LIMITS) as archive:
        clip = archive.file(address)
        assert clip is not None
        assert not list(folder.rglob("*.part"))
        assert [one.name for one in archive.files()] == [address.removeprefix("media/").split("#")[0]]
    pictures = shown(clip)
    assert len(pictures) > 100
    assert pictures[0][0] == 0
