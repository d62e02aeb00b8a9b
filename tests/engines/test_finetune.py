"""Fine-tuning: a user's labels become crops with the target where it was, the network comes back out of its file, and the
command does what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flight_clip import FRAMES, make_flight

from engines.own_clip import crops_of, split, truth_of, write_crops, write_rehearsal
from engines.own_threshold import own_threshold
from streamdet.assemble import engines_folder
from streamdet.scoring import Labels, read_labels


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flight(tmp_path_factory.mktemp("flight"))


def labels_of(text: str, folder: Path) -> Labels:
    (folder / "labels.csv").write_text(text)
    return read_labels(folder / "labels.csv")


def test_labels_become_truth_rows(tmp_path: Path) -> None:
    labels = labels_of(
        "frame,class,x,y,w,h,visible\n0,DRONE,10,20,4,6,1\n2,pigeon,0,0,8,8,1\n3,bird,9,9,2,2,0\n", tmp_path
    )
    truth = truth_of(labels, label="ball")
    assert {frame: rows.tolist() for frame, rows in truth.items()} == {
        0: [[12, 23, 4, 6, 0, 0, 2, 1]],
        2: [[4, 4, 8, 8, 0, 0, 0, 1]],  # a name nobody knows
        3: [[10, 10, 20, 20, 0, 0, 1, 0]],  # hidden: a place to be ignored
    }


def test_empty_frames_are_labelled_too(tmp_path: Path) -> None:
    labels = labels_of("Frame,Visibility,X,Y\n0,1,7,8\n1,0,0,0\n", tmp_path)
    assert {frame: len(rows) for frame, rows in truth_of(labels, label="ball").items()} == {0: 1, 1: 0}


def test_train_and_test_parts_do_not_meet(flight: Path) -> None:
    train, test = split(read_labels(flight.with_suffix(".csv")), test_share=0.25)
    assert (train, test) == ((0, 18), (18, FRAMES))


def test_the_target_is_in_the_crops_where_the_truth_says(flight: Path, tmp_path: Path) -> None:
    labels = read_labels(flight.with_suffix(".csv")).between(0, 16)
    crops = crops_of(flight, labels, np.random.default_rng(0), label="ball")
    seen = 0
    for part in crops:
        for planes, rows in zip(part.planes, part.truth):
            for x, y in rows[(rows[:, 7] > 0) & (rows[:, :2] > 4).all(1) & (rows[:, :2] < 172).all(1), :2].astype(int):
                assert planes[:3, y, x].min() > 200
                seen += 1
    assert len(crops) == 10  # frames 6 to 15
    assert seen > 40
    assert write_crops(flight, labels, tmp_path / "crops", label="ball", seed=0) == sum(len(part) for part in crops)
    with pytest.raises(SystemExit, match="no labelled frame"):
        write_crops(flight, labels.between(0, 3), tmp_path / "none", label="ball", seed=0)


def test_rehearsal_needs_no_data_of_ours(flight: Path, tmp_path: Path) -> None:
    labels = read_labels(flight.with_suffix(".csv"))
    assert write_rehearsal(flight, labels, tmp_path, label="ball", count=1, seed=2) > 0
    assert (tmp_path / "rendered_own.crops.npy").is_file()


def test_the_threshold_rises_over_what_is_invented(flight: Path) -> None:
    """tiny finds the disc surely; a threshold of 0.05 lets weak finds in too, and the frames say that more is better."""
    labels = read_labels(flight.with_suffix(".csv"))
    tiny = engines_folder() / "tiny.onnx"
    chosen = own_threshold(tiny, flight, labels.between(8, FRAMES), least=0.05, within_px=10)
    assert chosen > 0.05  # as many found, so the highest that still finds them
    assert (
        own_threshold(tiny, flight, labels.between(8, 14), least=0.05, within_px=10) == 0.05
    )  # six frames tell nothing
    away = replace(labels.between(8, FRAMES), centre=labels.between(8, FRAMES).centre + 150)
    assert own_threshold(tiny, flight, away, least=0.05, within_px=10) == 0.05  # nothing is right at any


# ---------------------------------------------------------------------------------------------- with PyTorch (extra `train`)


@pytest.mark.parametrize("deeper", [False, True])
def test_the_network_comes_back_from_its_file(tmp_path: Path, deeper: bool) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from engines.export import export
    from engines.network import TinyMover
    from engines.readback import read_back

    torch.manual_seed(3)
    net = TinyMover(deeper=deeper)
    with torch.no_grad():
        net.train()(torch.randn(4, 6, 96, 96))  # statistics that are not the identity
        net.head.bias[0] = -1.0
    torch.save(net.state_dict(), tmp_path / "model.pt")
    export(tmp_path / "model.pt", tmp_path / "own.onnx", threshold=0.3, gain=2.0, bias=-0.5)
    back, gain, bias = read_back(tmp_path / "own.onnx")
    picture = torch.randn(2, 6, 96, 128)
    with torch.no_grad():
        assert torch.allclose(back(picture), net.eval()(picture), atol=1e-3)
    assert (gain, bias) == (pytest.approx(2.0, abs=0.02), pytest.approx(-0.5, abs=0.02))


def test_a_deepened_network_answers_as_before_and_can_learn_more(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from engines.network import TinyMover, deepened, of_state

    torch.manual_seed(4)
    net = TinyMover().eval()
    more = deepened(net)
    picture = torch.randn(2, 6, 96, 128)
    assert torch.equal(more(picture), net(picture))
    more(picture).sum().backward()
    added = {name: value for name, value in more.named_parameters() if name not in dict(net.named_parameters())}
    assert sum(value.numel() for value in added.values()) > 80_000
    assert any(bool(value.grad.abs().sum() > 0) for value in added.values() if value.grad is not None)
    assert len(of_state(more.state_dict()).joined8) == 1
    assert len(of_state(net.state_dict()).joined8) == 0


def test_what_is_no_file_of_this_network_is_refused() -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from engines.readback import read_back

    with pytest.raises(SystemExit, match="not"):
        read_back(engines_folder() / "tiny_int8.onnx")  # in the wheel, so it is there


def test_the_command(flight: Path, tmp_path: Path) -> None:
    """A few seconds on a clip with points: a model that runs, and a record of before and after."""
    pytest.importorskip("torch", reason="needs the extra `train`")
    from engines.finetune import main

    words = ["--clip", str(flight), "--data", str(flight.with_suffix(".csv")), "--output", str(tmp_path / "own.onnx")]
    main([*words, "--minutes", "0.03", "--rehearse", "1", "--record", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["trained_on_frames"], record["tested_on_frames"]) == ([0, 18], [18, FRAMES])
    assert record["threshold_by_frames"] is None  # a fifth of 18 frames tells nothing
    assert record["steps"] >= 1
    for name in ("before", "after"):
        assert record[name]["labelled_frames"] == 6
    assert 10_000 < (tmp_path / "own.onnx").stat().st_size < 2_000_000
