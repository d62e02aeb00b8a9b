"""Device over the real pycuda: memory, order, graphs, and that nothing is left, whatever fails."""

# ruff: noqa: PT012  (what raises is often the end of a block)

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from conftest import Driver

from streamdet.device import Device, DeviceArray, Gpu, probe
from streamdet.errors import StartupError

F32 = np.float32


def test_probe_finds_it_and_makes_no_context(driver: Driver) -> None:
    gpu = probe()
    assert isinstance(gpu, Gpu)
    assert gpu.capability == (9, 0)
    assert driver.live() == {}


def test_nothing_is_touched_before_entering(driver: Driver) -> None:
    device = Device("cuda:0")
    for call in (lambda: device.gpu, lambda: device.stream, lambda: device.empty((1,), F32), device.synchronize):
        with pytest.raises(RuntimeError, match="not entered"):
            call()
    device.close()


def test_all_is_freed_at_the_end(driver: Driver) -> None:
    with Device() as device:
        arrays = [device.empty((n, 7), F32) for n in (1, 100, 5000)]
        pinned = device.pinned((64,), np.uint8)
        device.kernel("tiles/kernel", "pack_f16")
        with device.capture():
            device.fill(arrays[0])
        device.mark(timed=True).wait()
        assert driver.live()["memory"] == 3
        assert pinned.nbytes == 64
        del pinned
    gc.collect()
    assert driver.live() == {}


def test_all_is_freed_when_something_fails(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError), Device() as device:
        device.fill(device.empty((10,), F32))
        _ = 1 / 0
    gc.collect()
    assert driver.live() == {}


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("cuDevicePrimaryCtxRetain:1:2", "creating its context"),
        ("cuCtxPushCurrent_v2:1:201", "creating its context"),
        ("cuStreamCreate:1:999", "creating its stream"),
    ],
)
def test_a_failure_while_entering_leaves_nothing(
    fail: str, words: str, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_FAIL", fail)
    with pytest.raises(StartupError, match=words), Device():
        pass
    gc.collect()


def test_copies_run_in_order_and_only_when_waited_for(driver: Driver) -> None:
    with Device() as device:
        host, back = device.pinned((4,), F32), device.pinned((4,), F32)
        array = device.empty((4,), F32)
        host[:], back[:] = 1, 0
        device.upload(host, array)
        device.download(array, back)
        mark = device.mark()
        assert not mark.done
        assert (back == 0).all()
        mark.wait()
        assert mark.done
        assert (back == 1).all()


def test_the_pool_gives_buffers_again_and_trims(driver: Driver) -> None:
    with Device() as device:
        first = device.empty((1000,), F32)
        device.release(first)
        again = device.empty((999,), F32)
        assert again.pointer == first.pointer
        other = device.empty((1000,), F32)
        assert other.pointer != again.pointer
        held = device.allocated_bytes
        device.release(other)
        assert device.allocated_bytes == held
        device.trim()
        assert device.allocated_bytes == held // 2
        with pytest.raises(RuntimeError, match="released twice"):
            for _ in range(2):
                device.release(again)


def test_a_full_gpu_is_told_with_numbers_after_the_pool_was_tried(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_MB", "8")
    with Device() as device:
        waiting = device.empty((5 << 20,), np.uint8)
        device.release(waiting)
        kept = device.empty((6 << 20,), np.uint8)  # fits only once the pool has given its own back
        assert kept.nbytes == 6 << 20
        with pytest.raises(StartupError, match=r"has 2 of its 8 MB free and 4 MB are needed"):
            device.empty((4 << 20,), np.uint8)


def test_rows_of_an_array_and_its_interface(driver: Driver) -> None:
    with Device() as device:
        array = device.empty((4, 3), np.float16)
        host = np.arange(12, dtype=np.float16).reshape(4, 3)
        device.upload(host, array)
        np.testing.assert_array_equal(device.read(array[1:3]), host[1:3])
        assert len(array[3:]) == 1
        assert array[4:].nbytes == 0
        with pytest.raises(ValueError, match="neighbouring rows"):
            array[::2]
        with pytest.raises(ValueError, match="differ in size"):
            device.upload(host[:2], array)
        assert array.__cuda_array_interface__["typestr"] == "<f2"


def test_a_graph_does_it_again_with_what_the_buffers_hold_then(driver: Driver) -> None:
    with Device() as device:
        host, back, array = device.pinned((8,), F32), device.pinned((8,), F32), device.empty((8,), F32)
        with device.capture() as graph:
            device.upload(host, array)
            device.download(array, back)
        device.synchronize()
        assert driver.launches == 0
        for value in (3, 5):
            host[:] = value
            graph.launch()
            device.synchronize()
            assert (back == value).all()
        device.forget(graph)
        with pytest.raises(RuntimeError, match="closed"):
            graph.launch()


@pytest.mark.parametrize("forbidden", ["allocate", "wait"])
def test_what_may_not_be_captured_is_an_error_and_the_stream_recovers(forbidden: str, driver: Driver) -> None:
    with Device() as device:
        array = device.empty((8,), np.uint8)
        with pytest.raises(StartupError, match="CAPTURE_UNSUPPORTED"), device.capture():
            if forbidden == "allocate":
                device.empty((1 << 20,), np.uint8)
            else:
                device.synchronize()
        device.fill(array, 4)
        assert (device.read(array) == 4).all()


def test_an_exception_inside_a_capture_ends_it(driver: Driver) -> None:
    with Device() as device:
        array = device.empty((8,), np.uint8)
        with pytest.raises(KeyError), device.capture():
            device.fill(array, 9)
            raise KeyError("body")
        device.fill(array, 4)
        assert (device.read(array) == 4).all()


@pytest.mark.parametrize("call", ["cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_graph_that_cannot_be_made_leaves_nothing(call: str, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBLE_FAIL", f"{call}:1:999")
    with Device() as device:
        array = device.empty((8,), np.uint8)
        with pytest.raises(StartupError, match="recording a graph"), device.capture():
            device.fill(array, 9)
        assert "graphs" not in driver.live()


def test_work_waits_for_the_default_stream(driver: Driver) -> None:
    import pycuda.driver

    with Device() as device:
        array = device.empty((4,), F32)
        source = np.full(4, 7, F32)
        pycuda.driver.memcpy_htod_async(array.pointer, source, None)  # as a decoder would, on the default stream
        device.after_default_stream()
        assert (device.read(array) == 7).all()


def test_a_gpu_that_breaks_down_ends_in_one_sentence_and_closes(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_FAIL", "cuMemcpyHtoDAsync_v2:2:700")
    with (
        pytest.raises(StartupError, match=r"the GPU failed while copying to it: .*ILLEGAL_ADDRESS"),
        Device() as device,
    ):
        array = device.empty((4,), F32)
        for _ in range(3):
            device.upload(np.zeros(4, F32), array)
    gc.collect()
    driver.reset()


def test_a_kernel_that_is_not_there(driver: Driver) -> None:
    with Device() as device, pytest.raises(StartupError, match="looking up the kernel nonsense"):
        device.kernel("tiles/kernel", "nonsense")


def test_another_thread_may_take_over(driver: Driver) -> None:
    done = []

    def work() -> None:
        with pytest.raises(Exception, match=r".*"):
            device.empty((1 << 17,), np.uint8)  # no context here yet
        with device.on_this_thread():
            array = device.empty((8,), np.uint8)
            device.fill(array, 1)
            done.append(int(device.read(array).sum()))

    with Device() as device:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert done == [8]


def test_device_arrays_compare_by_value() -> None:
    assert DeviceArray(1, (2,), np.dtype(F32)) == DeviceArray(1, (2,), np.dtype(F32))
