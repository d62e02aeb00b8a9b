"""streamdet.predict and Predictor: what they take, what they give, and many callers at once."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import streamdet
from streamdet.config import Config, with_values
from streamdet.errors import ConfigError, OutputError, SourceLostError, SourceOpenError, UsageError
from streamdet.image_result import ImageResult
from streamdet.predictor import Predictor
from streamdet.types import Detections, Picture
from tests.dot_network import dots, save_dot_network
from tests.sources.test_stills import pdf

PLACES = ((40, 50, "red", 0.9), (300, 200, "blue", 0.7), (390, 290, "red", 0.45))


@pytest.fixture(scope="session")
def dot_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_dot_network(tmp_path_factory.mktemp("model") / "dots.onnx"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), dots((400, 300), *PLACES))
    return path


def labels(result: ImageResult) -> list[str]:
    return [box["label"] for box in result["boxes"]]


def near(box: Any, x: float, y: float) -> bool:
    return abs((box[0] + box[2]) / 2 - x) <= 9 and abs((box[1] + box[3]) / 2 - y) <= 9


def test_a_path(photo: Path, dot_model: str) -> None:
    [result] = streamdet.predict(photo, model=dot_model)
    assert dict(result) == {"input_path": str(photo), "page_index": None, "boxes": result.boxes}
    assert result.json == {"res": dict(result)}
    assert labels(result) == ["red", "blue"]  # the best first; 0.45 is below 0.5
    red, blue = result["boxes"]
    assert (red["cls_id"], blue["cls_id"]) == (0, 1)
    assert red["score"] == pytest.approx(0.9, abs=0.01)
    assert near(red["coordinate"], 40, 50)
    assert near(blue["coordinate"], 300, 200)
    assert result.wh == (400, 300)
    assert result.tiles == 12
    json.dumps(result.json)


@pytest.mark.parametrize(
    ("threshold", "found"),
    [
        (None, ["red", "blue"]),
        (0.8, ["red"]),
        (0.3, ["red", "blue", "red"]),
        ({0: 0.4}, ["red", "blue", "red"]),
        ({"red": 0.95}, ["blue"]),
        ({"1": 0.8, "red": 0.4}, ["red", "red"]),
        (0.99, []),
    ],
)
def test_thresholds(threshold: Any, found: list[str], photo: Path, dot_model: str) -> None:
    [result] = streamdet.predict(photo, model=dot_model, threshold=threshold)
    assert labels(result) == found


@pytest.mark.parametrize("threshold", [1.5, -1, float("nan"), True, "0.5", {"green": 0.5}, {7: 0.5}, {0: 2}])
def test_thresholds_that_are_none(threshold: Any, photo: Path, dot_model: str) -> None:
    with pytest.raises(UsageError, match="threshold"):
        list(streamdet.predict(photo, model=dot_model, threshold=threshold))


def test_arrays(dot_model: str) -> None:
    bgr = dots((400, 300), *PLACES)
    bgra = cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)
    results = list(streamdet.predict([bgr, bgra, bgr.astype(np.uint16) << 4, bgr[..., 0]], model=dot_model))
    assert [labels(result) for result in results] == [["red", "blue"]] * 3 + [[]]
    assert all(result.input_path is None for result in results)


def test_folder_glob_and_list_in_natural_order(tmp_path: Path, dot_model: str) -> None:
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"a{number}.png"), dots((200, 100), (20 * number, 50, "red", 1.0)))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "a3.jpg").write_bytes(b"\xff\xd8\xffbroken")  # one of many: told, and left out
    names = ["a1.png", "a2.png", "a10.png"]
    for source in (tmp_path, str(tmp_path / "*.png"), [tmp_path / name for name in names]):
        results = list(streamdet.predict(source, model=dot_model))
        assert [Path(result.input_path).name for result in results] == names
        assert [near(r["boxes"][0]["coordinate"], 20 * n, 50) for r, n in zip(results, (1, 2, 10))] == [True] * 3


def test_pdf_pages_have_their_index(tmp_path: Path, dot_model: str) -> None:
    results = list(streamdet.predict(pdf(tmp_path / "plan.pdf"), model=dot_model, dpi=72))
    assert [result["page_index"] for result in results] == [0, 1, 2]
    assert results[0].wh == (360, 216)
    paths = [result.save_to_json(tmp_path / "out") for result in results]
    assert [path.name for path in paths] == ["plan_0_res.json", "plan_1_res.json", "plan_2_res.json"]
    assert results[1].save_to_img(tmp_path / "out").name == "plan_1_res.png"


def test_print_and_save(photo: Path, dot_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [result] = streamdet.predict(str(photo), model=dot_model)
    result.print()
    assert json.loads(capsys.readouterr().out) == result.json
    result.print(format_json=False)
    assert capsys.readouterr().out == f"{result.json}\n"
    assert result.save_to_json(tmp_path / "out") == tmp_path / "out" / "photo_res.json"
    assert json.loads((tmp_path / "out" / "photo_res.json").read_text()) == dict(result)
    assert result.save_to_json(tmp_path / "own.json") == tmp_path / "own.json"
    assert result.save_to_img(tmp_path / "out") == tmp_path / "out" / "photo_res.png"
    assert result.save_to_img(tmp_path / "own.jpg") == tmp_path / "own.jpg"
    drawn = cv2.imread(str(tmp_path / "out" / "photo_res.png"))
    assert np.array_equal(drawn, result.img["res"])
    assert (drawn != cv2.imread(str(photo))).any()


def test_names_that_are_no_text_and_paths_that_are_too_long(
    dot_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / os.fsdecode(b"bad\xff.png")
    name.write_bytes(cv2.imencode(".png", dots((400, 300), *PLACES))[1].tobytes())
    [result] = streamdet.predict(name, model=dot_model)
    result.print()
    assert json.loads(capsys.readouterr().out)["res"]["input_path"] == str(name)
    assert json.loads(result.save_to_json(tmp_path / "own.json").read_text())["input_path"] == str(name)
    with pytest.raises(OutputError, match="too long"):
        result.save_to_json("a" * 300 + ".json")


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nothing.png", SourceOpenError, "there is no such file"),
        (7, UsageError, "cannot look at a int"),
        ("", UsageError, "names nothing"),
        (np.zeros((3, 3), np.float64), UsageError, "float64 is no picture"),
    ],
)
def test_what_cannot_be_looked_at(source: Any, error: type[Exception], words: str, dot_model: str) -> None:
    with pytest.raises(error, match=words):
        list(streamdet.predict(source, model=dot_model))


def test_films_are_no_pictures(tmp_path: Path, dot_model: str) -> None:
    (tmp_path / "match.mp4").write_bytes(b"no picture")
    for source, error in ((tmp_path, SourceOpenError), (tmp_path / "match.mp4", UsageError)):
        with pytest.raises(error, match=r"streamdet\.run"):
            list(streamdet.predict(source, model=dot_model))


def test_a_folder_of_damaged_pictures_is_no_empty_answer(tmp_path: Path, dot_model: str) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"\xff\xd8nothing")
    with pytest.raises(SourceOpenError, match="none of its 2 pictures"):
        list(streamdet.predict(tmp_path, model=dot_model))


@pytest.mark.parametrize("model", ["motion", "tiny"])
def test_networks_for_movers_say_so(model: str, photo: Path) -> None:
    with pytest.raises(UsageError, match=r"what moves.*give a network"):
        list(streamdet.predict(photo, model=model))


def test_mistakes_in_settings_show_at_once(photo: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiles\.overlap"):
        streamdet.predict(photo, overlap=-1)


# ----------------------------------------------------------------------------------------------------- Predictor, shared


@pytest.fixture
def predictor(dot_model: str) -> Iterator[Predictor]:
    with Predictor(with_values(Config(), {"model.name": dot_model, "model.backend": "onnxruntime"})) as opened:
        yield opened


def test_many_callers_get_their_own_and_share_turns(predictor: Predictor) -> None:
    pictures = [dots((100, 100), (20 + number, 50, "red", 1.0), (70, 20, "blue", 1.0)) for number in range(40)]
    alone = [predictor.detect([picture])[0] for picture in pictures]
    turns = predictor.turns
    assert turns == len(pictures)
    answers: list[Detections | None] = [None] * len(pictures)
    go = threading.Barrier(len(pictures))

    def ask(number: int) -> None:
        go.wait(timeout=30)
        [answers[number]] = predictor.detect([pictures[number]])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for mine, expected in zip(answers, alone, strict=True):
        assert mine is not None
        assert np.array_equal(mine.xyxy, expected.xyxy)
        assert np.array_equal(mine.score, expected.score)
    assert predictor.turns - turns < len(pictures)
    assert predictor.waiting == 0


def test_a_huge_picture_does_not_keep_a_small_one_waiting(predictor: Predictor) -> None:
    started, done = threading.Event(), []
    huge = dots((6000, 6000), (5900, 5900, "red", 1.0))

    def ask() -> None:
        done.extend(predictor.detect([huge], on_tiles=lambda _done, _of: started.set()))

    thread = threading.Thread(target=ask)
    thread.start()
    assert started.wait(30)
    [small] = predictor.detect([dots((100, 100), (50, 50, "red", 1.0))])
    assert len(small) == 1
    assert not done
    thread.join(60)
    assert near(done[0].xyxy[0], 5900, 5900)


class Broken:
    """Windows of a file that is damaged further down."""

    wh = (3000, 3000)

    def read(self, xyxy: Any) -> Any:
        if xyxy[3] > 1500:
            raise SourceLostError("the file is damaged at row 1500")
        return np.zeros((xyxy[3] - xyxy[1], xyxy[2] - xyxy[0], 3), np.uint8)

    def overview(self) -> Any:
        raise AssertionError


def test_a_damaged_picture_fails_alone(predictor: Predictor) -> None:
    with pytest.raises(SourceLostError, match="row 1500"):
        predictor.detect([Picture(windows=Broken())])
    [good] = predictor.detect([dots((100, 100), (50, 50, "red", 1.0))])
    assert len(good) == 1


def test_a_caller_who_breaks_when_told_of_progress_fails_alone(predictor: Predictor) -> None:
    def told(done: int, of: int) -> None:
        raise KeyError(done)

    picture = dots((100, 100), (50, 50, "red", 1.0))
    with pytest.raises(KeyError):
        predictor.detect([picture], on_tiles=told)
    [good] = predictor.detect([picture])
    assert len(good) == 1


def test_time_is_limited_and_what_was_given_up_is_dropped(predictor: Predictor) -> None:
    with pytest.raises(TimeoutError):
        predictor.detect([dots((6000, 6000))], timeout_s=0.05)
    [good] = predictor.detect([dots((100, 100), (50, 50, "red", 1.0))])
    assert len(good) == 1
    assert predictor.waiting == 0
    assert predictor.tiles_run < 1500  # of some 3,400


def test_closing_ends_those_who_wait(dot_model: str) -> None:
    failures: list[BaseException] = []
    predictor = Predictor(with_values(Config(), {"model.name": dot_model}))
    started = threading.Event()

    def ask() -> None:
        try:
            predictor.detect([dots((6000, 6000))], on_tiles=lambda _done, _of: started.set())
        except RuntimeError as error:
            failures.append(error)

    with predictor:
        thread = threading.Thread(target=ask)
        thread.start()
        assert started.wait(30)
    thread.join(30)
    assert len(failures) == 1
    with pytest.raises(RuntimeError, match="open the predictor"):
        predictor.detect([dots((10, 10))])


def test_a_model_that_is_none_is_told_on_entering(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with (
        pytest.raises(streamdet.StreamdetError, match=r"x\.onnx"),
        Predictor(with_values(Config(), {"model.name": str(tmp_path / "x.onnx")})),
    ):
        pass


# -------------------------------------------------------------------------------------------------------------- the web


@pytest.fixture
def web(photo: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(photo.parent))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_run_takes_an_address_too(web: str, dot_model: str, tmp_path: Path) -> None:
    address = f"{web.replace('://', '://user:secret@')}/photo.png?token=secret"
    run = streamdet.run(address, model=dot_model, conf=0.5, output=tmp_path / "out")
    [result] = list(run)
    assert result.frame.still
    assert len(result.detections) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "photo.frames.jsonl",
        "photo.png",
        "summary.json",
    ]
    assert "secret" not in (tmp_path / "out" / "summary.json").read_text()


def test_run_takes_pages_and_tells_how_far_it_is(dot_model: str, tmp_path: Path) -> None:
    run = streamdet.run(
        pdf(tmp_path / "plan.pdf", 2), model=dot_model, output=tmp_path / "out", settings={"source.dpi": 300}
    )
    told: list[tuple[str, int, int]] = []
    run.on_tiles = lambda *said: told.append(said)
    assert [result.frame.page for result in run] == [0, 1]
    assert told[0][0] == "plan"
    assert [(done, of) for _, done, of in told if done == of] == [(told[0][2],) * 2] * 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "plan.frames.jsonl").read_text().splitlines()]
    assert [(row["name"], row["page_index"]) for row in rows] == [("plan.pdf", 0), ("plan.pdf", 1)]
    assert (tmp_path / "out" / "plan_1.jpg").is_file()


def test_an_address(web: str, dot_model: str, tmp_path: Path) -> None:
    address = f"{web.replace('://', '://user:secret@')}/photo.png?x=1"
    [result] = streamdet.predict(address, model=dot_model)
    assert labels(result) == ["red", "blue"]
    assert "secret" not in result["input_path"]
    assert result.save_to_json(tmp_path / "out").name == "photo_res.json"
    with pytest.raises(SourceOpenError, match="the server says 404"):
        list(streamdet.predict(f"{web}/nothing.png", model=dot_model))
    with pytest.raises(SourceOpenError, match="larger than 100 bytes"):
        list(streamdet.predict(f"{web}/photo.png", model=dot_model, settings={"source.fetch_bytes": 100}))
