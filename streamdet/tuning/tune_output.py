"""What tuning leaves behind: a table, a configuration, a picture of the plan, a page, and the record."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

import cv2

from streamdet.errors import OutputError
from streamdet.tuning.charts import COLOURS, scatter
from streamdet.tuning.plan_picture import plan_picture
from streamdet.tuning.tune import HEADROOM, Tuned, describe_way

__all__ = ["table", "write_all", "yaml_text"]


def table(tuned: Tuned) -> str:
    """What was measured and chosen, for a terminal."""
    judged = "labels" if tuned.labels else "agreement"
    lines = []
    if tuned.sizes is not None:
        lines.append(f"objects: {tuned.sizes.describe()}")
    lines.append(f"network: {tuned.material.model}")
    by_input: dict[tuple[int, int], list[str]] = {}
    for one in tuned.material.speeds:
        by_input.setdefault(one.input_wh, []).append(f"{one.ms:.1f} ({one.batch})")
    for (width, height), values in by_input.items():
        lines.append(f"  ms per tile of {width}x{height} px, together: {', '.join(values)}")
    lines.append(f"tried on {tuned.frames} frames, judged by {judged} within {tuned.within_px:.1f} px:")
    heads = (
        ("tile", 8),
        ("overlap", 8),
        ("look", 7),
        ("tiles per frame", 16),
        ("fps", 7),
        ("recall", 7),
        ("precision", 10),
    )
    lines.append("  " + " ".join(f"{name:>{width}}" for name, width in heads) + f" {'F1':>6}")
    for trial in tuned.trials:
        way = trial.candidate
        mark = "*" if trial is tuned.chosen else " "
        tiles = f"{trial.tiles_run:.1f} of {trial.tiles_of:.0f}"
        lines.append(
            f"  {mark} {way.tile:>6} {way.overlap:>8g} {way.look:>7} {tiles:>16} {trial.speed:>7.1f} "
            f"{_number(trial.recall):>7} {_number(trial.precision):>10} {_number(trial.f1):>6}"
            + ("  the reference" if trial.is_reference and not tuned.labels else "")
        )
    if len(tuned.thresholds) > 1:
        tried = ", ".join(f"{conf:g}: {_number(f1)}" for conf, f1 in tuned.thresholds)
        lines.append(f"threshold (F1): {tried}; {'kept' if tuned.conf is None else f'{tuned.conf:g} taken'}")
    lines.append(_verdict(tuned))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _verdict(tuned: Tuned) -> str:
    way = describe_way(tuned.chosen.candidate)
    if not tuned.wanted_fps:
        return f"chosen: {way}: {tuned.chosen.speed:.1f} pictures per second"
    if tuned.keeps_up:
        return f"chosen: {way}: {tuned.chosen.speed:.1f} fps, {tuned.wanted_fps:.4g} wanted"
    return (
        f"nothing keeps up with {tuned.wanted_fps:.4g} fps here; {way} ({tuned.chosen.speed:.1f} fps) loses least: "
        "take a smaller network or a region of interest (tiles.roi), or lower --fps"
    )


def yaml_text(tuned: Tuned) -> str:
    """The configuration, for ``streamdet run --config``: only what was chosen, with the reasons above it."""
    import yaml

    tree: dict[str, dict[str, Any]] = {}
    for path, value in sorted(tuned.values().items()):
        branch, leaf = path.split(".")
        tree.setdefault(branch, {})[leaf] = value
    comment = "\n".join(f"# {line}".rstrip() for line in table(tuned).splitlines())
    return f"# streamdet tune {tuned.material.info.uri}\n{comment}\n{yaml.safe_dump(tree, sort_keys=False)}"


def write_all(tuned: Tuned, folder: Path) -> list[Path]:
    """Write tuned.yaml, plan.jpg, tune.html and tune.json into `folder`. Raises OutputError."""
    said = [_verdict(tuned)]
    if tuned.sizes is not None:
        zoom = tuned.chosen.candidate.zoom
        sizes = " / ".join(f"{tuned.sizes.at(p) * zoom:.1f}" for p in (5, 50, 95))
        said.append(f"{tuned.sizes.describe()}; at the network {sizes} px. Circles: where they were.")
    picture = plan_picture(tuned.material.frame.picture.bgr, tuned.plan, tuned.sizes, said=said)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    files: dict[str, bytes] = {
        "tuned.yaml": yaml_text(tuned).encode(),
        "plan.jpg": data.tobytes(),
        "tune.html": _page(tuned, data.tobytes()).encode(),
        "tune.json": (json.dumps(tuned.to_dict(), indent=1) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror}; choose another folder with --output"
        ) from None
    return [folder / name for name in files]


def _page(tuned: Tuned, picture: bytes) -> str:
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    judged = "the labels" if tuned.labels else "agreement with the finest look at everything"
    rows = [(describe_way(t.candidate), t.speed, t.f1 or 0.0) for t in tuned.trials]
    plot = scatter(
        rows,
        x_title="frames per second",
        y_title="F1",
        chosen=tuned.trials.index(tuned.chosen),
        wanted=HEADROOM * tuned.wanted_fps or None,
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "tiles per frame", "frames per s", "recall", "precision", "F1"))
    body = []
    for number, trial in enumerate(tuned.trials):
        dot = f'<span class="dot" style="background:{COLOURS[number % len(COLOURS)]}"></span>'
        name = escape(describe_way(trial.candidate)) + (" <b>chosen</b>" if trial is tuned.chosen else "")
        cells = [f"{trial.tiles_run:.1f} of {trial.tiles_of:.0f}", f"{trial.speed:.1f}"]
        cells += [_number(value) for value in (trial.recall, trial.precision, trial.f1)]
        body.append(f"<tr><td>{dot}{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    source = escape(Path(tuned.material.info.uri).name)
    address = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    wanted = (
        f"Dashed: {HEADROOM:g} times the {tuned.wanted_fps:.4g} fps wanted. Ring: chosen."
        if tuned.wanted_fps
        else "Ring: chosen."
    )
    plan = f'<figure><img style="width:100%;display:block" src="{address}" alt="the tile plan over a frame"></figure>'
    plots = f'<figure><figcaption>Accuracy and speed</figcaption>{plot}<p class="soft">{wanted}</p></figure>'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Tuned: {source}</title><style>{style}</style></head><body><main><h1>Tuned: {source}</h1>"
        f'<p class="soft">{escape(tuned.material.model)}. {tuned.frames} frames, judged by {judged}.</p>'
        f"<p>{escape(_verdict(tuned))}</p><h2>The plan</h2>{plan}<h2>What it was chosen from</h2>"
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div><br><div class="plots">{plots}</div>'
        f"<h2>The configuration</h2><pre>{escape(yaml_text(tuned))}</pre></main></body></html>\n"
    )
