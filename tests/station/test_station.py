"""A station of real cameras in small: films in real time through the real line, and everything that can be changed meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamdet.config import CameraConfig, Config, RulesConfig, Zone, with_values
from streamdet.errors import ConfigError, UsageError
from streamdet.station import CameraStatus, Station

SMALL = {"source.demo_size": "320x240", "source.demo_seconds": 60.0, "source.demo_movers": 2, "model.name": "motion"}
WHOLE = Zone(name="whole", polygon=[(0, 0), (1, 0), (1, 1), (0, 1)], inertia=1)


def configured(tmp_path: Path, cameras: dict[str, Any], **more: Any) -> Config:
    return with_values(Config(), {**SMALL, "store.path": str(tmp_path / "events.db"), "cameras": cameras, **more})


@contextlib.contextmanager
def running(config: Config, **options: Any) -> Iterator[Station]:
    station = Station(config, **options)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            station.run()
        except BaseException as error:
            caught.append(error)

    before = set(threading.enumerate())
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert station.ready.wait(30)
        yield station
    finally:
        station.stop()
        thread.join(30)
    assert not thread.is_alive()
    assert not caught, caught
    assert set(threading.enumerate()) <= before, "a thread was left behind"


def status(station: Station, name: str) -> CameraStatus:
    return next(camera for camera in station.cameras() if camera.name == name)


def wait_for(what: Callable[[], bool], within_s: float = 30.0) -> None:
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, "it did not come to that"
        time.sleep(0.02)


def test_cameras_run_side_by_side_and_a_dead_one_disturbs_nobody(tmp_path: Path) -> None:
    cameras = {
        "a": {"source": "demo"},
        "b": {"source": "demo", "fps": 5},
        "gone": {"source": "rtsp://me:s3cret@127.0.0.1:9/x"},
    }
    with running(configured(tmp_path, cameras)) as station:
        wait_for(lambda: status(station, "a").frames > 40 and status(station, "b").frames > 5)
        a, b, gone = (status(station, name) for name in ("a", "b", "gone"))
        assert station.store is not None
        wait_for(lambda: bool(station.store and station.store.query(limit=1)))
    assert (a.state, b.state, gone.state) == ("running", "running", "lost")
    assert a.frame_wh == (320, 240)
    assert b.fps_out < 8 < b.fps_in
    assert b.dropped["fps"] > b.frames
    assert gone.frames == 0
    assert gone.reason is not None
    assert "nothing listens there" in gone.reason
    assert "s3cret" not in repr(gone)
    assert set(a.stages) >= {"decode", "motion", "track", "rules"}
    assert a.latency_p50_s is not None
    assert a.latency_p50_s < 5


def test_cameras_come_go_rest_and_return(tmp_path: Path) -> None:
    with running(configured(tmp_path, {"a": {"source": "demo"}})) as station:
        wait_for(lambda: status(station, "a").frames > 10)
        station.add("b", CameraConfig(source="demo"))
        with pytest.raises(UsageError, match="already"):
            station.add("b", CameraConfig(source="demo"))
        wait_for(lambda: status(station, "b").frames > 10)
        station.remove("b")
        assert [camera.name for camera in station.cameras()] == ["a"]
        with pytest.raises(UsageError, match="no camera called 'b'; there are: a"):
            station.pause("b")

        station.pause("a")
        wait_for(lambda: status(station, "a").state == "paused")
        time.sleep(0.3)
        before = status(station, "a")
        time.sleep(0.5)
        assert status(station, "a").frames == before.frames
        station.resume("a")
        wait_for(lambda: status(station, "a").frames > before.frames + 5)
        assert status(station, "a").epoch > before.epoch


def test_what_a_paused_camera_saw_ends_at_once(tmp_path: Path) -> None:
    with running(configured(tmp_path, {"a": {"source": "demo"}})) as station:
        store = station.store
        assert store is not None
        wait_for(lambda: any(event.type == "new" for event in store.query(limit=1000)))
        station.pause("a")
        wait_for(lambda: status(station, "a").state == "paused")

        def alive() -> set[int]:
            store.sync()
            told = store.query(limit=100_000)
            return {e.track for e in told if e.type == "new"} - {e.track for e in told if e.type == "end"}

        wait_for(lambda: not alive(), 5)


def test_zones_drawn_while_it_runs_hold_from_the_next_frame(tmp_path: Path) -> None:
    with running(configured(tmp_path, {"a": {"source": "demo"}})) as station:
        wait_for(lambda: status(station, "a").frames > 20)
        with pytest.raises(ConfigError, match="2 zones are called"):
            station.set_rules("a", RulesConfig(zones=[WHOLE, WHOLE]))
        station.set_rules("a", RulesConfig(zones=[WHOLE]))
        store = station.store
        assert store is not None
        wait_for(lambda: any(event.zone == "whole" for event in store.query(type=["enter"], limit=100)))
        assert status(station, "a").epoch <= 20


def test_reload_touches_only_what_changed(tmp_path: Path) -> None:
    before = configured(tmp_path, {"a": {"source": "demo"}, "b": {"source": "demo"}, "c": {"source": "demo"}})
    with running(before) as station:
        wait_for(lambda: all(camera.frames > 5 for camera in station.cameras()))
        streams = {name: station._cameras[name].stream for name in "abc"}
        zones = [{"name": "whole", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]
        after = configured(
            tmp_path,
            {"a": {"source": "demo"}, "b": {"source": "demo", "fps": 7}, "d": {"source": "demo", "zones": zones}},
        )
        said = station.reload(after)
        assert said == ["camera c: removed", "camera b: fps changed, started anew", "camera d: added"]
        wait_for(lambda: status(station, "d").frames > 5)
        wait_for(lambda: status(station, "b").fps_out > 0 and station._cameras["b"].stream is not streams["b"])
        assert station._cameras["a"].stream is streams["a"]
        assert station.reload(after) == []
        with pytest.raises(ConfigError):
            station.reload(
                configured(tmp_path, {"a": {"source": "/nowhere/*.jpg"}, "e": {"source": "${NOT_SET_ANYWHERE}"}})
            )
        assert {camera.name for camera in station.cameras()} == {"a", "b", "d"}


def test_a_reload_with_a_mistake_changes_nothing_and_may_be_mended(tmp_path: Path) -> None:
    def zoned(classes: list[str], **more: Any) -> Config:
        zone = {"name": "whole", "polygon": [[0, 0], [1, 0], [1, 1]], "classes": classes}
        return configured(tmp_path, {"a": {"source": "demo", "zones": [zone]}, "b": {"source": "demo"}}, **more)

    before = configured(tmp_path, {"a": {"source": "demo"}})
    with running(before) as station:
        with pytest.raises(ConfigError, match="dragon"):
            station.reload(zoned(["dragon"]))
        assert station.config is before
        assert [camera.name for camera in station.cameras()] == ["a"]
        wait_for(lambda: status(station, "a").frames > 5)
        assert station.reload(zoned([])) == ["camera a: zones and lines", "camera b: added"]
        said = station.reload(zoned([], **{"record.dir": str(tmp_path / "clips")}))
    assert "record.dir: takes effect at the next start" in said


def test_a_fault_in_one_camera_ends_no_other(tmp_path: Path) -> None:
    with running(configured(tmp_path, {"a": {"source": "demo"}, "b": {"source": "demo"}})) as station:
        wait_for(lambda: all(camera.frames > 5 for camera in station.cameras()))
        stream = station._cameras["b"].stream
        assert stream is not None

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("b://user:s3cret@host is broken")

        stream.line.tracker.update = broken  # type: ignore[method-assign]
        wait_for(lambda: status(station, "b").state == "failed")
        seen = status(station, "a").frames
        wait_for(lambda: status(station, "a").frames > seen + 20)
        failed = status(station, "b")
    assert failed.reason is not None
    assert "is broken" in failed.reason
    assert "s3cret" not in failed.reason
    assert failed.frames > 5


def test_stopping_ends_every_track_and_keeps_every_event(tmp_path: Path) -> None:
    config = configured(tmp_path, {"a": {"source": "demo"}, "b": {"source": "demo"}})
    with running(config) as station:
        wait_for(lambda: all(camera.objects > 0 for camera in station.cameras()))
    from streamdet.sinks.store import EventStore

    with EventStore(tmp_path / "events.db") as store:
        told = store.query(limit=100_000)
    for stream in "ab":
        new = {event.track for event in told if event.stream == stream and event.type == "new"}
        ended = {event.track for event in told if event.stream == stream and event.type == "end"}
        assert new
        assert new == ended
    assert all(event.id for event in told)
    assert len({event.id for event in told}) == len(told)


def test_a_film_is_played_again_and_again_each_time_as_an_epoch_of_its_own(tmp_path: Path) -> None:
    config = configured(tmp_path, {"a": {"source": "demo"}}, **{"source.demo_seconds": 0.5})
    with running(config) as station:
        wait_for(lambda: status(station, "a").epoch >= 3)
        assert status(station, "a").reconnects == 0
        assert status(station, "a").frames > 20


def test_a_wall_clock_that_jumps_changes_nothing_but_the_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter(["2026-11-25T12:00:00.000Z"] * 40 + ["2001-01-01T00:00:00.000Z"] * 40)
    monkeypatch.setattr("streamdet.sources.paced.utc_now", lambda: next(stamps, "2038-01-19T03:14:07.000Z"))
    real_ns = time.time_ns
    jumps = iter([0] * 20 + [-(10**17)] * 20)
    monkeypatch.setattr("time.time_ns", lambda: real_ns() + next(jumps, 10**17))
    with running(configured(tmp_path, {"a": {"source": "demo"}}, **{"rules.update_s": 0.05})) as station:
        wait_for(lambda: status(station, "a").frames > 120)
        seen = status(station, "a")
        assert station.store is not None
        station.store.sync()
        told = [row.event for row in station.store.after(0, 10_000)]
    assert seen.state == "running"
    assert seen.epoch == 0
    assert seen.latency_p95_s is not None
    assert 0 <= seen.latency_p95_s < 10
    assert len({event.utc for event in told}) == 3
    assert all(event.latency_s is not None and 0 <= event.latency_s < 10 for event in told)
    identities = [event.id or "" for event in told]
    assert identities == sorted(identities), "ids grow whatever the clock does"
