"""The yardstick: ``python -m engines.evaluate --data DATA``: the embedded network and its rivals on all shared clips.

Every clip is run by ``streamdet run`` with defaults (shown, tracked objects are scored) and scored as ``streamdet eval`` does;
counts are pooled per group. Writes benchmarks/results/model_tiny.json and prints the table of the model card.

- Runs are kept in --work, by hash of model and code, clip and options: an interrupted evaluation goes on where it was, and
  groups evaluated one after the other meet in one record.
- Quiet clips (pedestrians, cars, people) are scored from where the training negatives end.
- The rival ``yolox_nano`` (COCO) runs on 416 px tiles, all of them. Whatever it calls the target is a find; what it calls a
  person, a car or any other thing that may well be there and is no small flyer is never counted against it.
- ``--speed`` measures instead of scoring: frames per second and tiles at 720p and 4K, cost of the networks alone. For a quiet
  machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.harness import machine
from engines.clips import GROUPS, Clip, clips_of
from engines.pooling import pool
from engines.sheets import draw_sheet, mistakes, nothing_in
from engines.speed import cost, measure
from streamdet.assemble import find_model
from streamdet.detectors.coco import COCO_80
from streamdet.detectors.openvino_backend import installed
from streamdet.scoring import Found, Labels, Pairing, point_score, read_frames_jsonl, read_labels

__all__ = ["Contender", "evaluate", "score_clip"]

_ROOT = Path(__file__).resolve().parent.parent
_RESULT = _ROOT / "benchmarks" / "results" / "model_tiny.json"
_FLYERS = ("bird", "airplane", "kite", "frisbee", "sports ball")
_NOT_SMALL = frozenset(COCO_80) - frozenset(_FLYERS)
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model as `streamdet run` is given it. ``lenient``: never blamed for things of COCO that do not fly."""

    name: str
    model: str
    options: tuple[str, ...] = ()
    lenient: bool = False

    @property
    def sha256(self) -> str | None:
        """Of the model's file; None for `motion`, which is code."""
        path = find_model(self.model)
        return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def contender(word: str, data: Path) -> Contender:
    """`tiny`, `motion`, another of ours, a file, or `yolox_nano`."""
    if word == "yolox_nano":
        file = data / "models" / "yolox_nano_416_coco.onnx"
        return Contender(word, str(file), ("--tile", "416", "--look", "all"), lenient=True)
    return Contender(Path(word).stem, word)


def _runtimes(who: Contender) -> dict[str, list[str]]:
    """What `streamdet bench` is told, by a name for it: with each runtime there is, if it has a network."""
    words = ["--model", who.model, *who.options[:2]]
    if who.sha256 is None:
        return {who.name: words}
    names = {who.name: "onnxruntime"} | ({f"{who.name}, openvino": "openvino"} if installed() else {})
    return {name: [*words, "--backend", backend] for name, backend in names.items()}


def code_sha256() -> str:
    """Of everything in streamdet/ that decides what a run shows."""
    folder, total = _ROOT / "streamdet", hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name not in ("scoring", "draw"):
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs `streamdet run`, or finds what an earlier run with the same model, code and options left in `work`."""

    work: Path
    code: str
    threads: int = 1
    backend: str = "onnxruntime"

    def __call__(self, who: Contender, clip: Clip, frames: int | None) -> tuple[Found, float]:
        """What was shown in the first `frames` frames, and the seconds it took."""
        words = [*who.options, "--backend", self.backend, *(["--max-frames", str(frames)] if frames else [])]
        stat = clip.path.stat()
        parts = [who.name, who.sha256, self.code, str(clip.path), stat.st_size, words]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        kept = self.work / f"{clip.path.stem}.{who.name}.{key}.frames.jsonl"
        spent = kept.with_suffix(".seconds")
        if not spent.is_file():
            began = time.perf_counter()
            command = ["run", str(clip.path), "--model", who.model, "--frames", str(kept), "-q", *words]
            _streamdet([*command, "--threads", str(self.threads)])
            spent.write_text(f"{time.perf_counter() - began:.2f}")
        return read_frames_jsonl(kept), float(spent.read_text())


def _streamdet(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "streamdet", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"streamdet {' '.join(words)} failed ({done.returncode}): {done.stderr[-2000:]}")


def score_clip(found: Found, clip: Clip, *, most: int = 0, lenient: bool = False) -> Record:
    """Counts of one clip over `most` frames from `clip.first` (0: to the end)."""
    labels = _labels_of(found, clip, most)
    if lenient:
        found = _without_not_small(found, labels, clip)
    score = point_score(found, labels, within_px=clip.within_px, within_box=clip.within_box).to_dict()
    return {name: value for name, value in score.items() if name not in ("precision", "recall", "f1", "ignored")}


def _labels_of(found: Found, clip: Clip, most: int) -> Labels:
    labels = nothing_in(found) if clip.labels is None else read_labels(clip.labels)
    return labels.between(clip.first, clip.first + most if most else None)


def save_sheet(folder: Path, name: str, found: Found, clip: Clip, *, most: int = 0) -> None:
    """``<group>_<clip>_<name>.png``: every miss and false object, if there are any."""
    wrong = mistakes(found, _labels_of(found, clip, most), within_px=clip.within_px, within_box=clip.within_box)
    sheet = draw_sheet(clip.path, wrong)
    if sheet is not None:
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{clip.group}_{clip.path.stem}_{name}.png"), sheet)


def _without_not_small(found: Found, labels: Labels, clip: Clip) -> Found:
    pairing = Pairing(found, labels, within_px=clip.within_px, within_box=clip.within_box)
    blamed = pairing.false & np.isin(pairing.found.name, list(_NOT_SMALL))
    return pairing.found.rows(~blamed)


def _frames_to_run(clip: Clip, most: int) -> int | None:
    """As few as the scored part needs; None: all."""
    if most:
        return clip.first + most
    return None if clip.labels is None else int(read_labels(clip.labels).frames.max()) + 1


def evaluate(
    contenders: list[Contender],
    clips: Iterable[Clip],
    run: Runner,
    *,
    most: int = 0,
    jobs: int = 1,
    sheets: Path | None = None,
) -> dict[str, dict[str, Record]]:
    """name -> group -> pooled scores, and every clip's own. `sheets`: folder for pictures of all mistakes."""
    run.work.mkdir(parents=True, exist_ok=True)

    def one(pair: tuple[Contender, Clip]) -> tuple[Contender, Clip, Record]:
        who, clip = pair
        found, spent_s = run(who, clip, _frames_to_run(clip, most))
        score = score_clip(found, clip, most=most, lenient=who.lenient)
        if sheets is not None:
            save_sheet(sheets, who.name, found, clip, most=most)
        counted = " ".join(f"{key} {score[key]}" for key in ("tp", "fp", "fn"))
        print(f"{who.name:10} {clip.group:12} {clip.path.stem:28} {counted} {spent_s:.0f} s", flush=True)
        return who, clip, score | {"seconds": round(spent_s, 2)}

    pairs = [(who, clip) for clip in clips for who in contenders]  # alternating, so that all meet the same load
    with ThreadPoolExecutor(jobs) as threads:
        done = list(threads.map(one, pairs))
    results: dict[str, dict[str, Record]] = {who.name: {} for who in contenders}
    for who, clip, score in done:
        results[who.name].setdefault(clip.group, {"clips": {}})["clips"][clip.path.stem] = score
    return {
        name: {group: one | pool(one["clips"]) for group, one in groups.items()} for name, groups in results.items()
    }


def table(results: dict[str, dict[str, Record]]) -> str:
    """Markdown, one row per group."""
    names = list(results)
    lines = [
        "| clips | " + " | ".join(f"{name}: P / R / F1, false per frame" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for group in dict.fromkeys(group for groups in results.values() for group in groups):
        cells = []
        for name in names:
            row = results[name].get(group, {})
            rates = " / ".join("-" if row.get(k) is None else f"{row[k]:.2f}" for k in ("precision", "recall", "f1"))
            cells.append(f"{rates}, {row['false_per_frame']:.3f}" if row else "")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(path: Path, new: Record) -> Record:
    """Merge into the record that is there: scores of other groups and models stay if code and frames are the same, and
    speed and scores stay beside each other."""
    old: Record = json.loads(path.read_text()) if path.is_file() else {}
    record = old | {"speed": new["speed"]} if "speed" in new else _with_scores(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return record


def _with_scores(old: Record, new: Record) -> Record:
    same = all(old.get(key) == new[key] for key in ("code", "max_frames"))
    models = (old.get("models") or {}) if same else {}
    results = {name: dict(old["results"][name]) for name in models if name in old.get("results", {})}
    for name, groups in new["results"].items():
        merged = (results.get(name, {}) if models.get(name) == new["models"][name] else {}) | groups
        results[name] = {group: merged[group] for group in GROUPS if group in merged}
    speed = {"speed": old["speed"]} if "speed" in old else {}
    return new | {"models": models | new["models"], "results": results} | speed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m engines.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["tiny", "motion", "yolox_nano"], help="name, file, yolox_nano")
    parser.add_argument("--groups", nargs="*", default=[], choices=GROUPS, help="default: all")
    parser.add_argument(
        "--max-frames", type=int, default=0, help="scored per clip, from the first that counts (0: all)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="of each run (0: cores / jobs)")
    parser.add_argument("--backend", choices=("onnxruntime", "openvino"), default="onnxruntime", help="of the networks")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "streamdet-evaluate")
    parser.add_argument("--output", type=Path, default=_RESULT)
    parser.add_argument("--sheets", type=Path, help="folder for pictures of every miss and false object")
    parser.add_argument("--speed", action="store_true", help="measure speed instead")
    given = parser.parse_args()
    who = [contender(word, given.data) for word in given.models]
    threads = given.threads or max(1, (os.cpu_count() or 1) // given.jobs)
    models = {one.name: {"sha256": one.sha256, "options": list(one.options)} for one in who}
    made: Record = {"machine": machine(), "code": code_sha256(), "models": models}
    if given.speed:
        made["sizes"] = measure({name: words for one in who for name, words in _runtimes(one).items()})
        made["networks"] = cost({one.name: path for one in who if (path := find_model(one.model)) is not None})
        write(given.output, {"speed": made})
        return
    made["backend"] = given.backend
    run = Runner(given.work, made["code"], threads, given.backend)
    clips = clips_of(given.data, given.work, given.groups)
    made["results"] = evaluate(who, clips, run, most=given.max_frames, jobs=given.jobs, sheets=given.sheets)
    record = write(given.output, {"benchmark": "model_tiny", "max_frames": given.max_frames or None} | made)
    print(table(record["results"]))


if __name__ == "__main__":
    main()
