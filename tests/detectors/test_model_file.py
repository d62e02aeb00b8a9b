"""Headers, manifests, metadata: what a file says, and what a user is told when it says nonsense."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detector_graphs import save_constant, save_identity

from streamdet.config import ModelConfig
from streamdet.detectors.network import open_detector
from streamdet.detectors.onnx_bytes import without_weight_inputs
from streamdet.detectors.onnx_header import read_header
from streamdet.detectors.spec import read_model
from streamdet.errors import ModelError

V8 = np.zeros((6, 84), np.float32)
ROWS = np.zeros((10, 6), np.float32)


def enter(path: Path) -> Any:
    return open_detector(ModelConfig(backend="onnxruntime", threads=1), path)


def expected_header(path: Path) -> tuple[Any, ...]:
    model = onnx.load(str(path), load_external_data=False)
    weights = {w.name for w in model.graph.initializer}

    def ports(values: Any) -> list[tuple[str, tuple[int | None, ...]]]:
        return [
            (
                v.name,
                tuple(
                    d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
                    for d in v.type.tensor_type.shape.dim
                ),
            )
            for v in values
            if v.name not in weights
        ]

    return ports(model.graph.input), ports(model.graph.output), {p.key: p.value for p in model.metadata_props}


def check_header(path: Path) -> None:
    header = read_header(path)
    seen = ([(p.name, p.shape) for p in header.inputs], [(p.name, p.shape) for p in header.outputs], header.metadata)
    assert seen == expected_header(path)


def test_header_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    check_header(save_constant(tmp_path / "a.onnx", {"o": V8}, metadata={"names": "{0: 'ä'}", "empty": ""}))
    check_header(
        save_constant(tmp_path / "b.onnx", {"o": V8, "p": ROWS}, batch=3, extra={"size": ("int64", (None, 2))})
    )
    check_header(save_identity(tmp_path / "c.onnx", wh=(64, 32), channels=5))


def test_header_of_the_real_files(shared_data: Path) -> None:
    files = sorted((shared_data / "models").glob("*.onnx"))
    assert files
    for path in files:
        check_header(path)


def test_weights_listed_as_inputs_are_taken_off_the_list(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "a.onnx", {"o": V8 + 3}, metadata={"names": "{0: 'a', 1: 'b'}"})
    assert without_weight_inputs(path) is None
    model = onnx.load(str(path))
    for weight in model.graph.initializer:
        model.graph.input.insert(0, onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    onnx.save(model, str(path))
    check_header(path)
    cleaned = without_weight_inputs(path)
    assert cleaned is not None
    again = onnx.load_from_string(cleaned)
    onnx.checker.check_model(again)
    assert [value.name for value in again.graph.input] == ["images"]
    for field in ("node", "initializer", "output"):
        assert list(getattr(again.graph, field)) == list(getattr(model.graph, field))
    assert list(again.metadata_props) == list(model.metadata_props)
    with enter(path) as detector:
        assert detector.labels == ("a", "b")


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    whole = save_constant(tmp_path / "a.onnx", {"o": V8}).read_bytes()
    cut = tmp_path / "cut.onnx"
    refused = 0
    messages: set[str] = set()
    for size in range(1, len(whole), 7):
        cut.write_bytes(whole[:size])
        try:
            assert read_header(cut).inputs, size
        except ModelError as error:
            refused += 1
            messages.add(str(error).partition(" is ")[2] or str(error).partition(" has ")[2])
    assert refused > len(whole) / 7 * 0.9
    assert all("damaged" in text or "no inputs" in text for text in messages)


def test_noise_never_raises_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "noise.onnx"
    whole = bytearray(save_constant(tmp_path / "a.onnx", {"o": ROWS}).read_bytes())
    for _ in range(300):
        data = bytearray(whole)
        for position in random.integers(0, len(data), 4):
            data[position] = random.integers(0, 256)
        path.write_bytes(bytes(data))
        with contextlib.suppress(ModelError):
            read_header(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.onnx", b"", "is empty"),
        ("text.onnx", b"this is no model at all " * 9, "not an ONNX model"),
        ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("best.pt", b"PK", "PyTorch weights"),
        ("plan.engine", b"x", "a TensorRT engine"),
    ],
)
def test_not_a_model(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        open_detector(ModelConfig(), tmp_path / name)


def test_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_detector(ModelConfig(), tmp_path / "no.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        open_detector(ModelConfig(), tmp_path)


def test_ultralytics_metadata(tmp_path: Path) -> None:
    metadata = {"names": "{0: 'ball', 1: \"goal's post\"}", "imgsz": "[64, 96]", "stride": "32", "task": "detect"}
    path = save_constant(
        tmp_path / "m.onnx", {"o": np.zeros((6, 96 + 24 + 6), np.float32)}, wh=(96, 64), metadata=metadata
    )
    with enter(path) as detector:
        assert detector.labels == ("ball", "goal's post")
        assert detector.input.wh == (96, 64)
        assert detector.input.channels == ("r", "g", "b")
        assert detector.input.std == (255.0,)


def test_our_own_metadata(tmp_path: Path) -> None:
    """A tiny-mover file: six named channels, any size, its threshold; nothing beside it."""
    maps = {name: np.zeros((count, 16, 16), np.float32) for name, count in (("heat", 2), ("offset", 2), ("size", 2))}
    channels = '["r", "g", "b", "difference", "previous_difference", "background_difference"]'
    metadata = {
        "streamdet.decoder": "centers",
        "streamdet.channels": channels,
        "streamdet.labels": '["ball", "bird"]',
        "streamdet.threshold": "0.42",
        "streamdet.std": "255",
        "streamdet.stride": "16",
        "streamdet.resize": "letterbox",
        "streamdet.about": "a test",
    }
    path = save_constant(tmp_path / "m.onnx", maps, channels=6, metadata=metadata)
    with enter(path) as detector:
        spec = detector.input
        assert (spec.channels[3], spec.mean, spec.std, spec.stride, spec.stretch) == (
            "difference",
            (0.0,),
            (255.0,),
            16,
            False,
        )
        assert detector.threshold == pytest.approx(0.42)
        assert detector.labels == ("ball", "bird")


def test_manifest_overrides_the_file(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", {"o": V8}, metadata={"names": "{0: 'a', 1: 'b'}"})
    (tmp_path / "coco.names").write_text("ball\n\nbird\n")
    path.with_suffix(".toml").write_text(
        'labels_file = "coco.names"\nchannels = "bgr"\nmean = [1, 2, 3]\nstd = [4, 5, 6]\nresize = "stretch"\npad = 7\n'
        "threshold = 0.6"
    )
    with enter(path) as detector:
        spec = detector.input
        assert detector.labels == ("ball", "bird")
        assert (spec.channels, spec.mean, spec.std) == (("b", "g", "r"), (1, 2, 3), (4, 5, 6))
        assert (spec.stretch, spec.pad_value, detector.threshold) == (True, 7, pytest.approx(0.6))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("colour = 3", r"the manifest .*m\.toml has an unknown key `colour`; `python -m pydoc streamdet"),
        ("chanels = 'rgb'", r"unknown key `chanels` \(did you mean 'channels'\?\)"),
        ('resize = "squeeze"', "resize"),
        ("threshold = [", "cannot be read"),
        ('labels_file = "no.txt"', "no.txt"),
        ('labels = ["a"]', "2 classes, but 1 labels"),
        ('labels = ["a", "b", "c"]', "2 classes, but 3 labels"),
        ('channels = ["r", "g"]', "takes 3 input channels, but 2 are named"),
        ('channels = ["r", "g", "x"]', "'x' is unknown"),
        ('channels = "hsv"', "'hsv' is unknown"),
        ("mean = [1, 2]", "mean has 2 values"),
        ("input = [128, 128]", "takes 64x64 px, its manifest says 128x128"),
        ('decoder = "yolo99"', "decoder 'yolo99'"),
        ('decoder = "centers"', "not of the layout 'centers'"),
    ],
)
def test_manifest_and_model_disagree(tmp_path: Path, manifest: str, words: str) -> None:
    path = save_constant(tmp_path / "m.onnx", {"o": V8})
    path.with_suffix(".toml").write_text(manifest)
    with pytest.raises(ModelError, match=words), enter(path):
        pass


def test_unknown_layout_shows_what_was_seen_and_what_to_write(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "odd.onnx", {"strange": np.zeros((5, 7, 11, 3), np.float32)})
    with pytest.raises(ModelError) as caught, enter(path):
        pass
    text = str(caught.value)
    assert "strange float32 [1, 5, 7, 11, 3]" in text
    assert "images float32 [?, 3, 64, 64]" in text
    assert "odd.toml" in text
    assert "decoder =" in text
    assert "yolov8" in text


@pytest.mark.parametrize(
    ("outputs", "options", "words"),
    [
        ({"o": np.zeros(256, np.float32)}, {}, "an embedding or a classifier"),
        ({"o": V8}, {"channels": 5}, "does not say which"),
        ({"o": V8}, {"extra": {"prompt": ("int64", (None, 2))}}, "meaning is unknown"),
        ({"o": V8}, {"metadata": {"task": "classify"}}, "task 'classify'"),
    ],
)
def test_not_a_detector(tmp_path: Path, outputs: Any, options: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words), enter(save_constant(tmp_path / "m.onnx", outputs, **options)):
        pass


def test_a_graph_the_runtime_refuses(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", {"o": V8})
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    for backend in ("onnxruntime", *(["openvino"] if find_spec("openvino") else [])):
        with (
            pytest.raises(ModelError, match=f"{backend} cannot run the model"),
            open_detector(ModelConfig(backend=backend), path),
        ):  # type: ignore[arg-type]
            pass


def test_reading_a_model_loads_no_runtime(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = save_constant(tmp_path / "m.onnx", {"o": V8})
    code = (
        f"import sys; from streamdet.detectors.spec import read_model; read_model({str(path)!r}); "
        "print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert read_model(path).outputs[0].name == "o"
