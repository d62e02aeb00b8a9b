"""Networks bound to device addresses: onnxruntime (for real, its CPU provider on host memory) and TensorRT (played by it).

Whatever goes through a DeviceDetector must come out as the CPU detector says it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_graphs import save_yolo_like
from detector_graphs import batch_of, plan_of, save_constant
from host_device import HostDevice, PlayedTensorRt, at
from numpy.typing import NDArray

from streamdet.config import GpuConfig, ModelConfig
from streamdet.detectors import onnxruntime_cuda, tensorrt_backend
from streamdet.detectors.device_backend import DeviceBackend
from streamdet.detectors.device_detector import DeviceDetector
from streamdet.detectors.network import NetworkDetector
from streamdet.detectors.onnxruntime_cuda import OnnxRuntimeCudaBackend, why_not
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.detectors.tensorrt_backend import TensorRtBackend
from streamdet.detectors.tensorrt_plans import Key, PlanCache
from streamdet.errors import DependencyError, ModelError
from streamdet.types import DeviceArray, TileBatch

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
FP32 = GpuConfig(precision="fp32", batch=4)
Made = Callable[[ModelFile, Any], DeviceBackend]


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def played(device: HostDevice, monkeypatch: pytest.MonkeyPatch) -> PlayedTensorRt:
    """TensorRT with its builder and runtime played; the code between it and us is real."""
    trt = PlayedTensorRt(device)

    def compiled(trt: Any, file: ModelFile, profile: Any, *, anew: bool = False, **_: Any) -> tuple[bytes, Key]:
        built.append((profile.text, anew))
        return PlayedTensorRt.HEADER + file.path.read_bytes(), Key(*"abcdefg")

    built: list[tuple[str, bool]] = []
    trt.built = built  # type: ignore[attr-defined]
    monkeypatch.setattr(tensorrt_backend, "import_trt", lambda: trt)
    monkeypatch.setattr(tensorrt_backend, "compiled", compiled)
    monkeypatch.setattr(tensorrt_backend, "logger_of", lambda trt: type("L", (), {"errors": ["played error"]})())
    return trt


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def make(request: pytest.FixtureRequest, tmp_path: Path, played: PlayedTensorRt) -> Callable[[GpuConfig], Made]:
    def of(config: GpuConfig) -> Made:
        def made(file: ModelFile, device: Any) -> DeviceBackend:
            if request.param == "onnxruntime":
                return OnnxRuntimeCudaBackend(file, device=device, config=config, place="cpu")
            return TensorRtBackend(file, name="toy", device=device, config=config, cache=PlanCache(tmp_path / "plans"))

        return made

    return of


def put(device: HostDevice, data: NDArray[Any], room: int = 0) -> DeviceArray:
    array = device.empty((max(room, len(data)), *data.shape[1:]), data.dtype)
    device.upload(data, array[: len(data)])
    return array[: len(data)]


def pictures(count: int, seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, 3, 32, 32), np.float32)


# ---------------------------------------------------------------------------------------------------------- the backends


def test_addresses_in_addresses_out(
    make: Callable[[GpuConfig], Made], device: HostDevice, played: PlayedTensorRt, tmp_path: Path
) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device, make(FP32)(file, device) as backend:
        assert (backend.least, backend.most) == (1, 4)
        backend.bind((3, 32, 32))
        for count in (4, 1, 3):
            tiles = pictures(count, seed=count)
            out = backend.run(put(device, tiles))["output"]
            assert out.shape == (count, 16, 6)
            np.testing.assert_allclose(at(out), expected(file, tiles), rtol=1e-4, atol=1e-5)
        if isinstance(backend, TensorRtBackend):
            assert played.enqueued == [4, 1, 3]  # a partial batch costs its share


def expected(file: ModelFile, tiles: NDArray[Any]) -> NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {file.picture.name: tiles})[0])


def test_everything_is_given_back(make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device:
        with make(FP32)(file, device) as backend:
            backend.bind((3, 32, 32))
            assert device.held > 0
        assert device.held == 0


def test_inputs_beside_the_picture_are_there(
    make: Callable[[GpuConfig], Made], device: HostDevice, shared_data: Path
) -> None:
    file = read_model(shared_data / "models/deimv2_atto_320_coco.onnx")
    tiles = np.random.default_rng(1).random((2, 3, 320, 320), np.float32)
    with device, make(FP32)(file, device) as backend:
        backend.bind((3, 320, 320))
        out = backend.run(put(device, tiles))
        assert {name: len(array) for name, array in out.items()} == {"labels": 2, "boxes": 2, "scores": 2}
        assert at(out["boxes"]).max() > 200  # in px of the input, so the sizes came in


def test_rows_that_vary_are_left_to_onnxruntime_and_refused_by_tensorrt(
    make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path
) -> None:
    rows = np.array([[4, 8, 20, 30, 0.9, 0]], np.float32)
    file = read_model(save_constant(tmp_path / "e.onnx", {"out": rows[0]}, per_tile=False))  # (6,): no batch at all
    with device, make(FP32)(file, device) as backend:
        if isinstance(backend, TensorRtBackend):
            with pytest.raises(ModelError, match="size that depends on the picture"):
                backend.bind((3, 64, 64))
            return
        backend.bind((3, 64, 64))
        out = backend.run(put(device, np.zeros((2, 3, 64, 64), np.float32)))["out"]
        np.testing.assert_array_equal(at(out), rows[0])


# ------------------------------------------------------------------------------------------------------------- TensorRT


def test_a_plan_the_runtime_refuses_is_compiled_once_more(
    played: PlayedTensorRt, device: HostDevice, tmp_path: Path
) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device, TensorRtBackend(file, name="toy", device=device, config=FP32, cache=PlanCache(tmp_path)) as backend:  # type: ignore[arg-type]
        played.refuse = 1
        backend.bind((3, 32, 32))
        assert [anew for _, anew in played.built] == [False, True]  # type: ignore[attr-defined]
        played.refuse = 2
        with pytest.raises(ModelError, match=r"does not take the plan .* toy: played error; use --backend onnxruntime"):
            backend.bind((3, 16, 16))


def test_each_number_of_tiles_has_a_context_and_all_share_one_memory(
    played: PlayedTensorRt, device: HostDevice, tmp_path: Path
) -> None:
    """A graph recorded for 3 tiles is replayed after others ran 2 and 4: its context must be as it was."""
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device, TensorRtBackend(file, name="toy", device=device, config=FP32, cache=PlanCache(tmp_path)) as backend:  # type: ignore[arg-type]
        backend.bind((3, 32, 32))
        tiles, held = put(device, pictures(4)), device.held
        backend.run(tiles[:3])
        with device.capture() as graph:
            out = backend.run(tiles[:3])["output"]
        for count in (2, 4, 2):
            backend.run(tiles[:count])
        graph.launch()
        np.testing.assert_allclose(at(out), expected(file, pictures(4)[:3]), rtol=1e-4, atol=1e-5)
        assert device.held == held
        assert sorted(backend._sizes[3, 32, 32].contexts) == [(count, tiles.pointer) for count in (2, 3, 4)]
        number = backend.bind((3, 32, 32))
        backend._sizes[3, 32, 32].contexts.update({(count, 0): None for count in range(300)})
        assert backend.bind((3, 32, 32)) != number
        np.testing.assert_allclose(at(backend.run(tiles)["output"]), expected(file, pictures(4)), rtol=1e-4, atol=1e-5)


def test_the_real_bindings_have_what_contexts_are_made_with() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    assert rtx.ExecutionContextAllocationStrategy.USER_MANAGED
    assert {"device_memory_size_v2", "create_execution_context", "create_runtime_config"} <= set(dir(rtx.ICudaEngine))
    assert "set_device_memory" in dir(rtx.IExecutionContext)
    assert "set_execution_context_allocation_strategy" in dir(rtx.IRuntimeConfig)


def test_a_size_bound_before_is_not_compiled_again(played: PlayedTensorRt, device: HostDevice, tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device, TensorRtBackend(file, name="toy", device=device, config=FP32, cache=PlanCache(tmp_path)) as backend:  # type: ignore[arg-type]
        for shape in ((3, 32, 32), (3, 32, 32)):
            backend.bind(shape)
        assert [text for text, _ in played.built] == ["1-4 images:3x32x32"]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------------- onnxruntime


def test_without_the_gpu_build_there_is_one_sentence(device: HostDevice, tmp_path: Path) -> None:
    file = read_model(save_yolo_like(tmp_path / "toy.onnx"))
    with device, pytest.raises(DependencyError, match="GPU build of onnxruntime is not installed; run `pip uninstall"):
        OnnxRuntimeCudaBackend(file, device=device, config=FP32).__enter__()  # type: ignore[arg-type]


def test_both_builds_side_by_side_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_cuda.importlib.metadata, "version", lambda name: "1.30")
    assert "hides onnxruntime-gpu" in (why_not() or "")


# ------------------------------------------------------------------------------------------------------- the detector


class HostPacker:
    """Plays the GPU packer: its launch writes the tiles where the batch lies."""

    def __init__(self, detector: DeviceDetector, device: HostDevice) -> None:
        self._frame = detector.frame
        self._device = device
        self._data: NDArray[Any] = np.zeros(0)
        self._out: DeviceArray | None = None
        self.launches = 0
        self.after = 0

    @property
    def graph_key(self) -> tuple[Any, ...]:
        assert self._out is not None
        return id(self), self._out.pointer, self._out.shape

    def pack(self, data: NDArray[Any], batch: TileBatch) -> TileBatch:
        self._data = data
        self._out = self._frame.rows(data.shape, data.dtype) or self._device.empty(data.shape, data.dtype)
        self._frame.add(self)
        return TileBatch(self._out, batch.tiles, batch.frame, batch.motion)

    def launch(self) -> None:
        out = self._out
        assert out is not None
        self.launches += 1
        self._device.do(lambda: np.copyto(at(out), self._data))  # what is up there when the launch comes

    def launched(self) -> None:
        self.after += 1


@pytest.fixture(params=[None, 1, 3])
def fixed(request: pytest.FixtureRequest) -> int | None:
    batch: int | None = request.param
    return batch


def entered(path: Path, device: HostDevice, made: Made, config: GpuConfig, folder: Path) -> DeviceDetector:
    return DeviceDetector(
        ModelConfig(conf=0.3),
        path,
        device=device,  # type: ignore[arg-type]
        gpu=config,
        folder=folder,
        make_backend=made,
    )


def same(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=0.05)
    np.testing.assert_allclose(ours.score, theirs.score, atol=2e-3)
    np.testing.assert_array_equal(ours.tile, theirs.tile)


def test_a_frame_is_run_then_recorded_then_replayed_and_says_what_the_cpu_says(
    make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path, fixed: int | None
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx", batch=fixed)
    plan = plan_of((200, 100), [[x, 0, x + 32, 32] for x in range(0, 160, 32)], (32, 32))  # 5 tiles, at most 4 at once
    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1, conf=0.3), read_model(path)) as cpu,
        entered(path, device, make(FP32), FP32, tmp_path / "made") as gpu,
    ):
        packer = HostPacker(gpu, device)
        for turn in range(4):
            data = pictures(5, seed=turn)
            mine = gpu(packer.pack(data, batch_of(data, plan)))
            same(mine, cpu(batch_of(data, plan)))
        recordable = gpu._runs is not None and gpu._runs.recordable
        assert (gpu.frame.recorded, gpu.frame.replayed) == ((1, 3) if recordable else (0, 0))
        assert packer.launches == (2 if recordable else 4)  # run, recorded; the replays launch by themselves
        assert packer.after == 4


def test_streams_share_one_run(make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    wide = GpuConfig(precision="fp32", batch=8)
    plans = [
        plan_of((64, 32), [[0, 0, 32, 32], [32, 0, 64, 32]], (32, 32)),
        plan_of((64, 64), [[0, 0, 32, 32]], (32, 32)),
    ]
    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1, conf=0.3), read_model(path)) as cpu,
        entered(path, device, make(wide), wide, tmp_path / "made") as gpu,
    ):
        packers = [HostPacker(gpu, device) for _ in plans]
        for turn in range(3):
            data = [pictures(len(plan), seed=10 * turn + number) for number, plan in enumerate(plans)]
            batches = [p.pack(d, batch_of(d, plan)) for p, d, plan in zip(packers, data, plans)]
            assert batches[1].data.pointer == batches[0].data.pointer + batches[0].data.nbytes
            waits = device.waits
            mine = gpu.together(batches)
            assert device.waits == waits + 1  # host and GPU meet once
            for found, d, plan in zip(mine, data, plans):
                same(found, cpu(batch_of(d, plan)))


def test_a_stream_that_finds_no_room_is_run_by_itself(
    make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    plan = plan_of((96, 32), [[0, 0, 32, 32], [32, 0, 64, 32], [64, 0, 96, 32]], (32, 32))
    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1, conf=0.3), read_model(path)) as cpu,
        entered(path, device, make(FP32), FP32, tmp_path / "made") as gpu,  # a batch of 4
    ):
        packers = [HostPacker(gpu, device) for _ in range(2)]
        for turn in range(4):
            data = [pictures(3, seed=10 * turn + number) for number in range(2)]
            mine = gpu.together([p.pack(d, batch_of(d, plan)) for p, d in zip(packers, data)])
            for found, d in zip(mine, data):
                same(found, cpu(batch_of(d, plan)))


def test_half_precision_is_prepared_and_packed_as_half(
    make: Callable[[GpuConfig], Made], device: HostDevice, tmp_path: Path
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx", batch=1)
    config = GpuConfig(precision="fp16", batch=4)
    plan = plan_of((64, 32), [[0, 0, 32, 32], [32, 0, 64, 32]], (32, 32))
    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1, conf=0.3), read_model(path)) as cpu,
        entered(path, device, make(config), config, tmp_path / "made") as gpu,
    ):
        assert gpu.input.dtype == "float16"
        assert gpu.input.batch is None
        assert gpu.labels == cpu.labels
        data = pictures(2)
        mine = gpu(HostPacker(gpu, device).pack(data.astype(np.float16), batch_of(data, plan)))
        same(mine, cpu(batch_of(data, plan)))


def test_what_cannot_be_recorded_goes_on_unrecorded_with_one_line(
    played: PlayedTensorRt, device: HostDevice, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")
    plan = plan_of((32, 32), [[0, 0, 32, 32]], (32, 32))
    device.may_capture = False

    def made(file: ModelFile, device: Any) -> DeviceBackend:
        return TensorRtBackend(file, name="toy", device=device, config=FP32, cache=PlanCache(tmp_path))

    with entered(path, device, made, FP32, tmp_path / "made") as gpu:
        packer = HostPacker(gpu, device)
        for turn in range(4):
            data = pictures(1, seed=turn)
            assert len(gpu(packer.pack(data, batch_of(data, plan))))
    assert sum("piece by piece" in record.getMessage() for record in caplog.records) == 1


def test_a_larger_batch_than_ever_moves_the_buffer_and_drops_the_graphs(
    played: PlayedTensorRt, device: HostDevice, tmp_path: Path
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx")

    def made(file: ModelFile, device: Any) -> DeviceBackend:
        return TensorRtBackend(file, name="toy", device=device, config=FP32, cache=PlanCache(tmp_path))

    with (
        NetworkDetector(ModelConfig(backend="onnxruntime", threads=1, conf=0.3), read_model(path)) as cpu,
        entered(path, device, made, FP32, tmp_path / "made") as gpu,
    ):
        packer = HostPacker(gpu, device)
        for turn, count in enumerate([2, 2, 2, 9, 2, 2, 9, 9]):
            plan = plan_of((400, 32), [[x * 32, 0, x * 32 + 32, 32] for x in range(count)], (32, 32))
            data = pictures(count, seed=turn)
            same(gpu(packer.pack(data, batch_of(data, plan))), cpu(batch_of(data, plan)))
