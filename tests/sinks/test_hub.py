"""The hub: newest picture wins, drawn and encoded once however many watch, never for nobody."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

import streamdet
from streamdet.records import encode, frame_record
from streamdet.sinks.hub import Hub
from streamdet.sinks.tally import BUCKETS_S, Histogram
from streamdet.types import Result


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return list(
        streamdet.run(
            "demo", model="motion", settings={"source.demo_size": "640x360", "source.demo_seconds": 3, "source.fps": 10}
        )
    )


@pytest.fixture
def hub(results: list[Result]) -> Hub:
    for result in results:
        result.painted.clear()
    return Hub()


def test_nothing_is_drawn_or_encoded_if_nobody_watches(hub: Hub, results: list[Result]) -> None:
    with hub.sink("demo") as sink:
        for result in results:
            sink.write(result)
        sink.finish(())
    assert (hub.drawn, hub.encoded) == (0, 0)
    assert hub.latest("demo") is results[-1]
    assert all(not result.painted for result in results)


def test_a_frame_is_drawn_and_encoded_once_for_all_who_watch(hub: Hub, results: list[Result]) -> None:
    seen: list[list[bytes]] = [[] for _ in range(5)]

    def watch(mine: list[bytes]) -> None:
        number = 0
        while number < len(results):
            shot = hub.wait("demo", after=number, timeout_s=20)
            assert shot is not None
            number = shot.number
            mine.append(shot.jpeg(annotated=True))

    viewers = [threading.Thread(target=watch, args=(mine,)) for mine in seen]
    for viewer in viewers:
        viewer.start()
    with hub.sink("demo") as sink:
        for result in results:
            sink.write(result)
            time.sleep(0.01)
    for viewer in viewers:
        viewer.join(timeout=30)
    frames = {jpeg for mine in seen for jpeg in mine}
    assert 1 <= len(frames) <= len(results)
    assert hub.drawn == hub.encoded <= len(results)
    assert sum(map(len, seen)) > hub.encoded  # five viewers did share
    assert all(mine[-1] == seen[0][-1] for mine in seen)  # all of them see the last frame


def test_a_jpeg_is_the_picture(hub: Hub, results: list[Result]) -> None:
    hub.put(results[-1])
    shot = hub.shot("demo")
    assert shot is not None
    plain = cv2.imdecode(np.frombuffer(shot.jpeg(), np.uint8), cv2.IMREAD_COLOR)
    assert plain is not None
    assert np.abs(plain.astype(int) - results[-1].frame.picture.bgr).mean() < 5
    drawn = cv2.imdecode(np.frombuffer(shot.jpeg(annotated=True), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert np.abs(drawn.astype(int) - results[-1].annotated()).mean() < 5
    small = cv2.imdecode(np.frombuffer(shot.jpeg(width=320), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (180, 320, 3)
    assert shot.jpeg(width=5000) == shot.jpeg()  # never enlarged, and so no third encoding
    assert hub.encoded == 3


def test_the_record_is_that_of_the_frames_file(hub: Hub, results: list[Result]) -> None:
    hub.put(results[-1])
    shot = hub.shot("demo")
    assert shot is not None
    assert shot.record() + b"\n" == encode(frame_record(results[-1]))


def test_waiting_ends_in_time_and_listeners_hear(hub: Hub, results: list[Result]) -> None:
    assert hub.wait("nothing", timeout_s=0.05) is None
    heard: list[str] = []
    with hub.listen(heard.append):
        hub.put(results[0])
    hub.put(results[1])
    assert heard == ["demo"]
    shot = hub.wait("demo", after=1, timeout_s=0)
    assert shot is not None
    assert shot.number == 2
    assert hub.wait("demo", after=2, timeout_s=0) is None


def test_a_slow_subscriber_loses_the_oldest_events_and_knows_it(hub: Hub, results: list[Result]) -> None:
    told = [result for result in results if result.events]
    assert told, "the demo scene makes events"
    count = sum(len(result.events) for result in results)
    with hub.events() as events:
        for result in results:
            hub.put(result)
        taken = events.take()
        assert len(taken) == count
        assert taken[0] == told[0].events[0]
        for _ in range(1100):
            hub.put_events("demo", told[0].events[:1])
        assert len(events.take()) == 1000
        assert events.missed == 100
    hub.put(told[0])
    assert events.take() == []


def test_the_tally_counts_what_was_done(hub: Hub, results: list[Result]) -> None:
    for result in results:
        hub.put(result)
    totals = hub.tally("demo").totals()
    assert totals.frames == len(results)
    assert totals.stages["motion"].count == len(results)
    assert totals.stages["motion"].total == pytest.approx(sum(result.timings_s["motion"] for result in results))
    assert sum(totals.events.values()) == sum(len(result.events) for result in results)
    assert totals.latency.count == 0  # frames of a file wait for the machine, not the other way round


def test_a_histogram_puts_a_value_under_its_upper_bound() -> None:
    histogram = Histogram()
    for value in (0.0005, 0.001, 0.0011, 9.0):
        histogram.add(value)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[len(BUCKETS_S)] == 1
