"""CompactReader over the real pycuda: what comes back is what the decoder makes of the raw answers, recorded or not."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from compact_battery import WH, Case, answers, decoded, difference
from conftest import Driver

from streamdet.detectors import compact_cuda
from streamdet.detectors.compact_cuda import CompactReader
from streamdet.detectors.decode.layout import Candidates
from streamdet.device import Device
from streamdet.errors import ModelError
from streamdet.types import DeviceArray


def put_up(device: Device, raw: dict[str, Any]) -> dict[str, DeviceArray]:
    """Outputs on the GPU."""
    arrays = {}
    for name, host in raw.items():
        arrays[name] = device.empty(host.shape, host.dtype)
        device.upload(host, arrays[name])
    device.synchronize()
    return arrays


@pytest.mark.parametrize("family", ["yolox", "yolov5", "yolov8", "centers"])
@pytest.mark.parametrize("half", [False, True])
def test_reads_what_the_decoder_reads(family: str, half: bool, driver: Driver) -> None:
    case = Case(f"reader {family}", family, half=half, fields={"activation": "sigmoid"})
    raw, layout = answers(case)
    want = decoded(raw, layout, case.floor)
    with Device() as device:
        reader = CompactReader(device, layout, case.floor)
        arrays = put_up(device, raw)
        before = driver.calls("cuMemcpyDtoHAsync_v2")
        taken = reader.take(arrays, 0, case.tiles, WH)
        assert driver.calls("cuMemcpyDtoHAsync_v2") - before == 2  # how many, and the first of them
        device.synchronize()
        assert difference(taken(), want) == ""
    gc.collect()


def test_a_fixed_batch_and_a_later_piece(driver: Driver) -> None:
    case = Case("piece", "yolov8")
    raw, layout = answers(case)
    want = decoded(raw, layout, case.floor)
    keep = want.tile < 2
    with Device() as device:
        taken = CompactReader(device, layout, case.floor).take(put_up(device, raw), 5, 2, WH)
        device.synchronize()
        assert (
            difference(taken(), Candidates(want.xyxy[keep], want.score[keep], want.label[keep], want.tile[keep] + 5))
            == ""
        )


def test_recorded_and_replayed_with_other_answers(driver: Driver) -> None:
    case = Case("replayed", "centers")
    raw, layout = answers(case)
    with Device() as device:
        reader, arrays = CompactReader(device, layout, case.floor), put_up(device, raw)
        reader.take(arrays, 0, case.tiles, WH)
        device.synchronize()
        with device.capture() as graph:
            taken = reader.take(arrays, 0, case.tiles, WH)
        rng = np.random.default_rng(1)
        for _ in range(3):
            other = {**raw, "heat": rng.permutation(raw["heat"].reshape(-1)).reshape(raw["heat"].shape)}
            device.upload(other["heat"], arrays["heat"])
            graph.launch()
            device.synchronize()
            assert difference(taken(), decoded(other, layout, case.floor)) == ""
    gc.collect()


def test_more_rows_than_there_is_room_for_are_an_error(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_cuda, "MOST", 8)
    case = Case("too many", "yolov8", floor=0.0)
    raw, layout = answers(case)
    with Device() as device:
        taken = CompactReader(device, layout, case.floor).take(put_up(device, raw), 0, case.tiles, WH)
        device.synchronize()
        with pytest.raises(
            ModelError, match=r"finds [\d,]+ boxes above its threshold in \d+ tiles, and at most 8 are read"
        ):
            taken()
    gc.collect()


def test_more_rows_than_are_sent_at_once_are_fetched(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_cuda, "SENT", 16)
    case = Case("many", "yolov8", floor=0.0)
    raw, layout = answers(case)
    with Device() as device:
        taken = CompactReader(device, layout, case.floor).take(put_up(device, raw), 0, case.tiles, WH)
        device.synchronize()
        assert difference(taken(), decoded(raw, layout, case.floor)) == ""
    gc.collect()
