"""The comparison as one HTML file that needs nothing else: tables, plots, what was missed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.tuning.charts import COLOURS, bars, curves
from streamdet.tuning.comparison import ComparedRun, Comparison
from streamdet.tuning.thumbnails import Thumbnail

__all__ = ["comparison_page"]

# key, heading, digits, larger is better (None: neither)
_COLUMNS: tuple[tuple[str, str, int, bool | None], ...] = (
    ("points.f1", "F1", 3, True), ("points.precision", "precision", 3, True), ("points.recall", "recall", 3, True),
    ("points.false_per_frame", "false per frame", 3, False), ("points.median_error_px", "error, px", 2, False),
    ("coco.AP", "AP", 3, True), ("coco.AP50", "AP50", 3, True), ("coco.AP_small", "AP small", 3, True),
    ("tracking.HOTA", "HOTA", 3, True), ("tracking.MOTA", "MOTA", 3, True), ("tracking.IDF1", "IDF1", 3, True),
    ("tracking.id_switches", "ID switches", 0, False), ("fps", "frames per s", 1, True),
)  # fmt: skip


def comparison_page(comparison: Comparison, thumbnails: Sequence[Thumbnail], *, title: str) -> str:
    """The whole page as text."""
    runs = comparison.runs
    radius = f"{comparison.within_px:g} px" + (" or in the labelled box" if comparison.within_box else "")
    frames = sum(one.points.labelled_frames for one in runs[0].clips.values())
    targets = sum(one.points.tp + one.points.fn for one in runs[0].clips.values())
    clips = len(comparison.clips)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{len(runs)} run{"s" * (len(runs) > 1)} on {clips} clip{"s" * (clips > 1)}: {frames:,} labelled '
        f"frames, {targets:,} targets. A point is right within {radius}.</p>",
        _legend(runs),
        _table([(run.name, run.to_dict()) for run in runs]),
        f"<h2>Precision and recall</h2><div class='plots'>{_pr_plots(runs, radius)}</div>",
        f"<h2>What is found</h2><div class='plots'>{_band_plots(runs)}</div>",
        _clips(comparison) if clips > 1 else "",
        _misses(thumbnails, runs),
        _notes(comparison),
    ]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    record = json.dumps(comparison.to_dict()).replace("<", "\\u003c")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f'<script type="application/json" id="record">{record}</script></body></html>\n'
    )


def _dot(number: int) -> str:
    return f'<span class="dot" style="background:{COLOURS[number % len(COLOURS)]}"></span>'


def _legend(runs: Sequence[ComparedRun]) -> str:
    rows = []
    for number, run in enumerate(runs):
        model = escape(str(run.summary.get("model") or "").split(",")[0])
        rows.append(f'<span>{_dot(number)}<b>{escape(run.name)}</b> <span class="soft">{model}</span></span>')
    return f'<div class="legend">{"".join(rows)}</div>'


def _value(record: dict[str, Any], key: str) -> float | None:
    node: Any = record
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return None if node is None else float(node)


def _table(rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Columns nobody has a value for are left out; the best of each is marked if there is more than one run."""
    columns = [column for column in _COLUMNS if any(_value(record, column[0]) is not None for _, record in rows)]
    head = "".join(f"<th>{escape(heading)}</th>" for _, heading, _, _ in columns)
    body = []
    for number, (name, record) in enumerate(rows):
        cells = []
        for key, _, digits, larger in columns:
            value = _value(record, key)
            everyone = [v for _, other in rows if (v := _value(other, key)) is not None]
            best = value is not None and len(rows) > 1 and value == (max(everyone) if larger else min(everyone))
            text = "&ndash;" if value is None else f"{value:.{digits}f}"
            cells.append(f"<td{' class=best' if best and len(set(everyone)) > 1 else ''}>{text}</td>")
        body.append(f"<tr><td>{_dot(number)}{escape(name)}</td>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(body)}</table></div>'


def _figure(title: str, plot: str, text: str) -> str:
    return f'<figure><figcaption>{escape(title)}</figcaption>{plot}<p class="soft">{escape(text)}</p></figure>'


def _pr_plots(runs: Sequence[ComparedRun], radius: str) -> str:
    points = curves([(run.name, *run.curve()) for run in runs], x_title="recall", y_title="precision")
    text = f"As the score threshold falls to the run's own (the dot); right within {radius}."
    plots = [_figure("Points", points, text)]
    if any(run.pooled is not None for run in runs):
        recall = np.linspace(0, 1, 101)
        rows = [(run.name, *_until_zero(recall, run)) for run in runs]
        boxes = curves(rows, x_title="recall", y_title="precision")
        plots.append(_figure("Boxes", boxes, "COCO's curve at IoU 0.5, mean over classes; AP50 is the area under it."))
    return "".join(plots)


def _until_zero(recall: Any, run: ComparedRun) -> tuple[Any, Any]:
    if run.pooled is None:
        return np.zeros(0), np.zeros(0)
    curve = run.pooled.curve
    end = int(np.flatnonzero(curve > 0).max()) + 1 if (curve > 0).any() else 1
    return recall[:end], curve[:end]


def _band_plots(runs: Sequence[ComparedRun]) -> str:
    plots = []
    for which, title, unit, text in (
        (
            "size",
            "Recall by size",
            "size, px (square root of the box's area)",
            "Under each band: how many labelled targets it has.",
        ),
        (
            "speed",
            "Recall by speed",
            "speed, px per frame",
            "Of targets whose place is labelled in neighbouring frames.",
        ),
    ):
        tables = [run.bands(which) for run in runs]
        groups = list(tables[0])
        if not groups:
            continue
        rows = [
            (run.name, [table[g].recall if g in table else None for g in groups]) for run, table in zip(runs, tables)
        ]
        plot = bars(groups, rows, [tables[0][g].count for g in groups], x_title=unit)
        plots.append(_figure(title, plot, text))
    return "".join(plots) or '<p class="soft">The labels tell neither sizes nor speeds.</p>'


def _clips(comparison: Comparison) -> str:
    keys = [("f1", "F1"), ("precision", "P"), ("recall", "R")]
    runs = comparison.runs
    tops = "".join(f'<th colspan="3" class="wide">{_dot(n)}{escape(run.name)}</th>' for n, run in enumerate(runs))
    heads = "".join(f"<th>{heading}</th>" for _ in runs for _, heading in keys)
    body = []
    for clip in comparison.clips:
        scores = [run.clips[clip].points for run in runs]
        best = max((score.f1 or 0.0) for score in scores)
        cells = []
        for score in scores:
            for key, _ in keys:
                value = getattr(score, key)
                mark = " class=best" if key == "f1" and value == best and len(runs) > 1 and best > 0 else ""
                cells.append(f"<td{mark}>{'&ndash;' if value is None else f'{value:.3f}'}</td>")
        body.append(f"<tr><td>{escape(clip)}</td><td>{scores[0].tp + scores[0].fn:,}</td>{''.join(cells)}</tr>")
    return (
        f'<h2>Clip by clip</h2><div class="scroll"><table><tr><th></th><th></th>{tops}</tr>'
        f"<tr><th>clip</th><th>targets</th>{heads}</tr>{''.join(body)}</table></div>"
    )


def _misses(thumbnails: Sequence[Thumbnail], runs: Sequence[ComparedRun]) -> str:
    if not thumbnails:
        return "<h2>What was missed</h2><p>Nothing.</p>"
    cards = []
    for one in thumbnails:
        picture = f'<img src="{one.address}" alt="">' if one.address else '<div class="none">clip not at hand</div>'
        marks = "".join(
            f'<span class="mark{"" if found else " no"}">{_dot(n)}{"found" if found else "missed"}</span>'
            for n, found in enumerate(one.found_by)
        )
        size = f", {one.size_px:.0f} px" if one.size_px else ""
        what = f'<div class="what"><b>{escape(one.clip)}</b> frame {one.frame}{size}<br>{marks}</div>'
        cards.append(f"<figure>{picture}{what}</figure>")
    text = "Targets that a run missed, spread evenly over the clips; those the runs disagree on first." if len(runs) > 1 else (
        "Targets that were missed, spread evenly over the clips."
    )  # fmt: skip
    return f'<h2>What was missed</h2><p class="soft">{text}</p><div class="thumbs">{"".join(cards)}</div>'


def _notes(comparison: Comparison) -> str:
    lines = list(comparison.skipped)
    for run in comparison.runs:
        for clip, one in run.clips.items():
            if one.points.frames_missing:
                lines.append(
                    f"{run.name}, {clip}: {one.points.frames_missing} labelled frames were not processed: all missed"
                )
            lines += [f"{run.name}, {clip}: {note}" for note in (one.boxes.notes if one.boxes is not None else ())]
    reasons = {f"{what}: {why}" for one in comparison.runs[0].clips.values() for what, why in one.not_scored.items()}
    lines += sorted(reasons)
    if not lines:
        return ""
    rows = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<h2>Notes</h2><ul class="soft">{rows}</ul>'
