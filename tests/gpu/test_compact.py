"""The compaction kernels against the decoders: the same rows in the same order, whatever the layout, the type, the threshold."""

# ruff: noqa: E501  (the bugs stand in one line each)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compact_battery import Case, answers, cases, compacted, decoded, difference, fails
from mutants import survives
from shim import PACKAGE, Shim

from streamdet.detectors.compact_cuda import COMPACT, FOUND, kernel_of, rows_of
from streamdet.detectors.decode.layout import Layout

MUTANTS: dict[str, tuple[str, str]] = {
    "objectness left out of the score": ("objectness * best_of(c, row + 5, 1, label)", "best_of(c, row + 5, 1, label)"),
    "the last of equal classes": ("if (score > best || isnan(score))", "if (score >= best || isnan(score))"),
    "values that are no numbers lost": ("if (objectness < c.floor) return;", "if (!(objectness >= c.floor)) return;"),
    "a class that is no number passed over": ("if (score > best || isnan(score))", "if (score > best)"),
    "threshold not met counts": ("const float score = best_of(c, begin + 4 * stride, stride, label);\n    if (score < c.floor) return;", "const float score = best_of(c, begin + 4 * stride, stride, label);\n    if (score <= c.floor) return;"),
    "classes one column early": ("begin + 4 * stride, stride, label", "begin + 3 * stride, stride, label"),
    "not activated": ("return c.activation == SIGMOID ?", "return c.activation == 7 ?"),
    "levels not told apart": ("anchor >= c.level_first[level + 1]", "anchor > c.level_first[level + 1]"),
    "column and row of a cell swapped": ("(box[0] + cell % columns) * stride, box[1] = (box[1] + cell / columns)", "(box[0] + cell / columns) * stride, box[1] = (box[1] + cell % columns)"),
    "size not raised": ("box[2] = expf(box[2]) * stride", "box[2] = box[2] * stride"),
    "tile stride": ("((int64_t)tile * c.anchors + anchor) * c.columns", "((int64_t)tile * (c.anchors - 1) + anchor) * c.columns"),
    "transposed read straight": ("c.transposed ? 1 : c.anchors", "c.transposed ? c.anchors : 1"),
    "two peaks of a plateau": ("earlier ? other >= score : other > score", "other > score"),
    "no peak of a plateau": ("earlier ? other >= score : other > score", "other >= score"),
    "corners are no neighbours": ("(!dy && !dx) ||", "(dy && dx) || (!dy && !dx) ||"),
    "picture edge wraps round": ("x < 0 || x >= c.width) continue;", "x >= c.width) continue;"),
    "x and y scale swapped": ("(column + value_at(c, c.second, pair)) * c.scale_x, y = (row", "(column + value_at(c, c.second, pair)) * c.scale_y, y = (row"),
    "width and height swapped": ("float width = value_at(c, c.third, pair), height = value_at(c, c.third, pair + plane);", "float height = value_at(c, c.third, pair), width = value_at(c, c.third, pair + plane);"),
    "order lost": ("score, label, tile, key};", "score, label, tile, key / 2};"),
    "row order of boxes": ("x1 = box[1], y1 = box[0], x2 = box[3], y2 = box[2];", "x1 = box[0], y1 = box[1], x2 = box[3], y2 = box[2];"),
}  # fmt: skip


@pytest.fixture(scope="module")
def compact(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim("detectors/compact", tmp_path_factory.mktemp("compact"))


@pytest.mark.parametrize("case", cases(), ids=str)
def test_agrees_with_the_decoder(case: Case, compact: Shim) -> None:
    raw, layout = answers(case)
    found, count = compacted(compact, raw, layout, case.floor)
    want = decoded(raw, layout, case.floor)
    assert difference(rows_of(found, layout), want) == ""
    assert count >= len(want)
    if "none" not in case.name:
        assert len(want) > 10
    rng = np.random.default_rng(0)
    assert difference(rows_of(rng.permutation(found), layout), want) == ""  # whatever order the GPU found them in


def test_the_best_thousand_peaks_of_a_tile(compact: Shim) -> None:
    """As the decoder: more peaks than that are cut to the strongest, per tile."""
    rng = np.random.default_rng(4)
    heat = np.zeros((2, 6, 16, 24), np.float32)
    heat[:, :, ::2, ::2] = rng.permutation(2 * 6 * 8 * 12).reshape(2, 6, 8, 12) / 2000
    other = {name: rng.random((2, 2, 16, 24), dtype=np.float32) for name in ("offset", "size")}
    raw = {"heat": np.repeat(heat, 3, axis=1), **other}
    layout = Layout("centers", {name: (name,) for name in raw}, 18)
    found, count = compacted(compact, raw, layout, 0.0001)
    assert count > 2000
    assert difference(rows_of(found, layout), decoded(raw, layout, 0.0001)) == ""


def test_what_has_no_room_is_counted_and_not_written(compact: Shim) -> None:
    raw, layout = answers(Case("all kept", "yolov8", floor=0.0))
    found, count = compacted(compact, raw, layout, 0.0, room=5)
    assert count == raw["output"].shape[0] * raw["output"].shape[2]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("detr", {}),
        ("yolov8", {"activation": "softmax"}),
        ("yolov8", {"oriented": True}),
        ("yolov8", {"box_unit": None}),
        ("yolov8", {"roles": {"output": ("a",), "prototypes": ("b",)}}),
    ],
)
def test_what_the_gpu_does_not_read_is_left_to_the_host(family: str, fields: dict[str, object]) -> None:
    assert kernel_of(Layout(family, **({"roles": {"output": ("output",)}} | fields))) is None  # type: ignore[arg-type]


def test_layouts_are_those_of_the_source() -> None:
    text = (PACKAGE / "detectors/compact.cu").read_text()
    assert f"sizeof(Found) == {FOUND.itemsize} && sizeof(Compact) == {COMPACT.itemsize}" in text


def _verdict(text: str, folder: str) -> str:
    return fails(Shim("detectors/compact", Path(folder), text=text, optimise="-O0"))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    text = (PACKAGE / "detectors/compact.cu").read_text()
    good, bad = MUTANTS[name]
    assert text.count(good) == 1, "the source has changed: plant the bug anew"
    assert not survives(_verdict, text.replace(good, bad), tmp_path)


def test_the_source_itself_survives(tmp_path: Path) -> None:
    assert survives(_verdict, (PACKAGE / "detectors/compact.cu").read_text(), tmp_path)
