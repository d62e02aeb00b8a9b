"""streamdet against SAHI and supervision's InferenceSlicer: same weights, same tiles, same frames, one alternating run.

python benchmarks/bench_slicers.py [--rounds 5]

Every contender of every round is a process of its own (`rivals.py` says what each does and which choices were made). Speed is
the median over rounds of each round's mean seconds per frame. look=motion is timed on later frames than the rest (after a
second and more of media, when the sweep has been everywhere and tracks are confirmed): the others do the same work in any.

Objects: result rows are matched one to one at IoU >= 0.5 with equal class; "matched" counts rows scoring >= 0.35 that the
other side has at its threshold of 0.25 (a row near the threshold is on one side of it or the other by the rounding of
colours; the share without this margin is recorded too, as "matched_all"). "pieces" counts rows without a partner that lie
inside a larger box of their class: what was cut at a seam and is a second object on one side, joined on the other.

"joined": what `--look all` does unless it is told the size of tiles: those side by side go into the network together, and what
lies in two is looked at once. The network then sees other surroundings, and rows that are hardly above the threshold change.
How much that is worth: "moved" is what SAHI finds of its own rows when its grid begins 38 and 52 px further right and down (and
"joined" of its own), where neither lies at the cut.

"tracked_objects" counts whole tracks of look=all (5 rows or more) that look=motion has in half of their frames, of any class
(the network itself wavers between classes); "moving": those that get further than half of their own size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
import numpy as np
from enlarged import enlarged

CLIPS = {  # source, size, frames encoded, (first frame timed, frames timed)
    "vtest 1920x1440": ("pedestrians/vtest_480x360.avi", (1920, 1440), 100, {"all": (4, 8), "motion": (16, 50)}),
    "tennis 3840x2160": ("tennis_amateur/clip.mp4", (3840, 2160), 120, {"all": (4, 4), "motion": (36, 24)}),
}
RIVALS = ("sahi", "supervision-1", "supervision-2", "supervision-tuned")
LOOKS = ("all", "joined", "motion")
OURS = tuple(f"streamdet-{look}-{backend}" for look in LOOKS for backend in ("onnxruntime", "openvino"))
OFFSET = 38, 52  # px the grid is moved by, to see how much of what is found hangs on where tiles lie
SURE = 0.35


def run(
    name: str, clip: Path, model: Path, *, first: int, frames: int, offset: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    here = Path(__file__).parent
    words = [sys.executable, str(here / "rivals.py"), name, str(clip), str(model), "--first", str(first)]
    environment = os.environ | {"PYTHONPATH": str(harness.ROOT)}
    record: dict[str, Any] = harness.run_json(
        [*words, "--frames", str(frames), "--offset", *map(str, offset)], env=environment
    )
    return record


def matched(wanted: Any, there: Any, *, least: float = 0.0, iou: float = 0.5) -> tuple[int, int]:
    """How many rows of `wanted` scoring at least `least` have a partner of their class in `there`; of how many."""
    one, other = np.asarray(wanted, float), np.asarray(there, float)
    if not len(one) or not len(other):
        return 0, int((one[:, 4] >= least).sum()) if len(one) else 0
    overlap = _iou(one[:, :4], other[:, :4])
    overlap[one[:, 5, None] != other[:, 5]] = 0
    free = np.ones(len(other), bool)
    hits = 0
    for row in np.argsort(-one[:, 4]):
        best = int(np.argmax(overlap[row] * free))
        if overlap[row, best] * free[best] >= iou:
            free[best] = False
            hits += bool(one[row, 4] >= least)
    return hits, int((one[:, 4] >= least).sum())


def pieces(wanted: Any, there: Any, *, least: float = SURE, iou: float = 0.5) -> int:
    """How many sure rows of `wanted` have no partner in `there`, but lie (90 %) in a larger box of their class."""
    one, other = np.asarray(wanted, float).reshape(-1, 6), np.asarray(there, float).reshape(-1, 6)
    if not len(one) or not len(other):
        return 0
    low = np.maximum(one[:, None, :2], other[:, :2])
    shared = np.prod(np.clip(np.minimum(one[:, None, 2:4], other[:, 2:4]) - low, 0, None), 2)
    alike = one[:, 5, None] == other[:, 5]
    alone = ~((_iou(one[:, :4], other[:, :4]) >= iou) & alike).any(1)
    within = ((shared >= 0.9 * np.prod(one[:, 2:4] - one[:, :2], 1)[:, None]) & alike).any(1)
    return int((alone & within & (one[:, 4] >= least)).sum())


def tracked_objects(reference: dict[str, Any], other: dict[str, Any], *, least_rows: int = 5) -> dict[str, int]:
    """How many tracks of `reference` with so many sure rows `other` follows in half of their frames; of those that move."""
    tracks: dict[int, list[tuple[Any, bool]]] = {}
    for frame in sorted(set(reference["tracks"]) & set(other["tracks"]), key=int):
        there = np.asarray(other["tracks"][frame], float).reshape(len(other["tracks"][frame]), 8)
        for row in reference["tracks"][frame]:
            if row[4] >= SURE:
                met = len(there) > 0 and bool(_iou(np.asarray([row[:4]]), there[:, :4]).max() >= 0.5)
                tracks.setdefault(row[7], []).append((np.asarray(row[:4]), met))
    known = [track for track in tracks.values() if len(track) >= least_rows]
    followed = [sum(met for _, met in track) >= len(track) / 2 for track in known]
    moving = [_moves(np.array([box for box, _ in track])) for track in known]
    return {
        "followed": sum(followed),
        "of": len(known),
        "followed_moving": sum(f and m for f, m in zip(followed, moving)),
        "of_moving": sum(moving),
    }


def _moves(boxes: Any) -> bool:
    """Whether a track gets further than half of its own size from where it began: people and balls, not cones and parked cars."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = np.median(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], 1)))
    return bool(np.linalg.norm(centre - centre[0], axis=1).max() > size / 2)


def _iou(a: Any, b: Any) -> Any:
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), 2)
    area = [np.prod(box[:, 2:4] - box[:, :2], 1) for box in (a, b)]
    return shared / np.maximum(area[0][:, None] + area[1] - shared, 1e-9)


def doubles(rows: Any) -> int:
    """Pairs of one class of which the smaller lies in the larger by more than half: one object told twice, or a crowd."""
    box = np.asarray(rows, float).reshape(-1, 6)
    low = np.maximum(box[:, None, :2], box[:, :2])
    shared = np.prod(np.clip(np.minimum(box[:, None, 2:4], box[:, 2:4]) - low, 0, None), 2)
    area = np.prod(box[:, 2:4] - box[:, :2], 1)
    share = shared / np.minimum(area[:, None], area)
    return int((np.triu(share > 0.5, 1) & (box[:, 5, None] == box[:, 5])).sum())


def agreement(reference: dict[str, Any], other: dict[str, Any], *, of: str = "found", within: str = "found") -> Any:
    """Shares of the rows of `reference[of]` that are in `other[within]`, over the frames both have, and the reverse."""
    frames = sorted(set(reference[of]) & set(other[within]), key=int)
    shares = {}
    for name, least in (("matched", SURE), ("matched_all", 0.0)):
        pairs = [matched(reference[of][i], other[within][i], least=least) for i in frames]
        back = [matched(other[within][i], reference[of][i], least=least) for i in frames]
        for key, counts in ((name, pairs), (name + "_reverse", back)):
            total = sum(count for _, count in counts)
            shares[key] = round(sum(hits for hits, _ in counts) / total, 4) if total else None
            shares[key + "_of"] = total
    if of == within == "found":
        shares["pieces"] = sum(pieces(reference[of][i], other[within][i]) for i in frames)
    return {"frames": len(frames), **shares}


def grid_luck(
    clip: Path, model: Path, runs: dict[str, list[dict[str, Any]]], *, first: int, frames: int
) -> dict[str, Any]:
    """What each finds of its own rows with its tiles elsewhere, and joined tiles of SAHI's; away from what was cut off."""
    moved = {
        name: _inner(run(name, clip, model, first=first, frames=frames, offset=OFFSET))
        for name in ("sahi", "streamdet-moved")
    }
    here = {name: _inner(runs[name][0]) for name in ("sahi", "streamdet-joined-onnxruntime")}
    return {
        "offset_px": OFFSET,
        "sahi in sahi": agreement(here["sahi"], moved["sahi"]),
        "joined in joined": agreement(here["streamdet-joined-onnxruntime"], moved["streamdet-moved"]),
        "sahi in joined": agreement(here["sahi"], here["streamdet-joined-onnxruntime"]),
    }


def _inner(record: dict[str, Any]) -> dict[str, Any]:
    kept = {
        i: [row for row in rows if all(row[k] > 4 * OFFSET[k] for k in (0, 1))] for i, rows in record["found"].items()
    }
    return {"found": kept}


def clip_record(name: str, rounds: int, model: Path) -> dict[str, Any]:
    source, wh, length, how = CLIPS[name]
    clip = enlarged(source, wh, length)
    runs: dict[str, list[dict[str, Any]]] = {one: [] for one in (*RIVALS, *OURS)}
    for _ in range(rounds):
        for one in runs:  # alternating: what else the machine does meets all alike
            kind = "motion" if "-motion-" in one else "all"
            first, frames = how[kind]
            runs[one].append(run(one, clip, model, first=first, frames=frames))
            print(f"{name:18} {one:30} {np.mean(runs[one][-1]['seconds']) * 1e3:8.1f} ms/frame", file=sys.stderr)
    first, frames = how["motion"]
    truth = run("streamdet-all-openvino", clip, model, first=first, frames=frames)
    seconds = {one: [statistics.mean(record["seconds"]) for record in records] for one, records in runs.items()}
    contenders = {
        one: {
            "seconds_per_frame": harness.spread(seconds[one]),
            "peak_mib": max(record["peak_mib"] for record in records),
            "frames_per_round": len(records[0]["seconds"]),
            "double_boxes_per_frame": round(
                float(np.mean([doubles(rows) for rows in records[0]["found"].values()])), 2
            ),
            **_tiles(records[0]),
        }
        for one, records in runs.items()
    }
    ours = {one: records[0] for one, records in runs.items() if one in OURS}
    return {
        "rounds": rounds,
        "contenders": contenders,
        "faster_than": {one: {rival: _ratio(seconds[rival], seconds[one]) for rival in RIVALS} for one in OURS},
        "same_objects_all": {
            f"{rival} in {one}": agreement(runs[rival][0], ours[one]) for rival in ("sahi", "supervision-1")
            for one in OURS if "-motion-" not in one
        },
        "moved": grid_luck(clip, model, runs, **dict(zip(("first", "frames"), how["all"]))),
        "motion_finds_of_all": {
            one: {
                "tracks": agreement(truth, ours[one], of="tracks", within="tracks"),
                "detections_in_tracks": agreement(truth, ours[one], within="tracks"),
                "detections": agreement(truth, ours[one]),
                "tracked_objects": tracked_objects(truth, ours[one]),
            }
            for one in OURS if "-motion-" in one
        },
    }  # fmt: skip


def _ratio(theirs: list[float], our: list[float]) -> float:
    """Median of the ratios of the same round: what else the machine did met both."""
    return round(statistics.median(a / b for a, b in zip(theirs, our, strict=True)), 2)


def _tiles(record: dict[str, Any]) -> dict[str, Any]:
    if not record.get("tiles"):
        return {}
    why = np.array(list(record["tiles"].values())).mean(0).round(2).tolist()
    return {"tiles_per_frame": dict(zip(("all", "motion", "track", "sweep"), why)), "of": record["of"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clip", choices=CLIPS, action="append")
    words = parser.parse_args()
    model = harness.shared_data() / "models" / "yolox_nano_416_coco.onnx"
    clips = words.clip or list(CLIPS)
    file = harness.RESULTS / "slicers.json"
    known = json.loads(file.read_text(encoding="utf-8"))["clips"] if file.exists() else {}
    record = {
        "model": model.name,
        "tile_px": 416,
        "overlap": "0.2 asked of the planner; the others get the same grid",
        "sure": SURE,
        "cache": str(Path(tempfile.gettempdir()) / "streamdet-bench"),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "clips": known | {name: clip_record(name, words.rounds, model) for name in clips},
        "load_average_after": [round(load, 2) for load in os.getloadavg()],
    }
    harness.save("slicers", record)
    print(json.dumps({name: clip["faster_than"] for name, clip in record["clips"].items()}, indent=1))


if __name__ == "__main__":
    main()
