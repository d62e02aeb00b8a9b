"""Writes the tables of README.md from the records in benchmarks/results: numbers there are never typed.

python benchmarks/readme_tables.py            # rewrite README.md
python benchmarks/readme_tables.py --check    # fail if it is not what the records say
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

sys.path.append(str(ROOT / "benchmarks" / "gpu"))
import gpu_lines  # noqa: E402

Rows = list[list[str]]


def table(header: list[str], rows: Rows) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def startup(record: dict[str, Any]) -> str:
    rows = [[name, f"{times['median']:.2f} s"] for name, times in record["seconds"].items()]
    return table(["start-up", "median"], rows)


def slicers(record: dict[str, Any]) -> str:
    """Speed, the ratio to each rival in the same rounds, memory, and what is found, per clip and contender."""
    rows = []
    for clip, one in record["clips"].items():
        for name, done in one["contenders"].items():
            ratio = one["faster_than"].get(name, {})
            tiles = done.get("tiles_per_frame")
            same = one["same_objects_all"].get(f"sahi in {name}")
            finds = one["motion_finds_of_all"].get(name)
            objects = (
                _same(same, one["moved"] if "-joined-" in name else None) if same else _finds(finds) if finds else ""
            )
            rows.append(
                [
                    clip,
                    name,
                    f"{1 / done['seconds_per_frame']['median']:.2f}",
                    f"{ratio['sahi']:.2f}x" if ratio else "",
                    f"{ratio['supervision-1']:.2f}x / {ratio['supervision-2']:.2f}x" if ratio else "",
                    f"{ratio['supervision-tuned']:.2f}x" if ratio else "",
                    f"{sum(tiles.values()):.1f} of {done['of']}" if tiles else "all",
                    objects,
                    f"{done['peak_mib']:.0f} MiB",
                ]
            )
    header = [
        "clip",
        "contender",
        "fps",
        "SAHI",
        "supervision 1/2 workers",
        "supervision tuned",
        "tiles",
        "objects",
        "peak",
    ]
    return table(header, rows)


def _same(agreed: dict[str, Any], moved: dict[str, Any] | None) -> str:
    """Of SAHI's sure boxes: how many are ours too, and how many more are pieces that we joined."""
    text = f"{agreed['matched']:.1%} (+{agreed.get('pieces', 0)} pieces) of SAHI's {agreed['matched_of']}"
    if moved is None:
        return text
    own, ours = moved["sahi in sahi"]["matched"], moved["joined in joined"]["matched"]
    return f"{text}; grid moved: {ours:.0%} of its own (SAHI {own:.0%})"


def _finds(found: dict[str, Any]) -> str:
    """Of look=all's tracks: whole objects followed, and their boxes frame by frame."""
    whole = found.get("tracked_objects", {"followed": "?", "of": "?"})
    return f"{whole['followed']} of `all`'s {whole['of']} objects, {found['tracks']['matched']:.1%} of their boxes"


def merge_track(record: dict[str, Any]) -> str:
    names = [name for name in record["merge"]["10"] if name != "boxes"]
    rows = []
    for count, one in record["merge"].items():
        cells = [f"{one[name]['ms']['median']:.2f}" if name in one else "" for name in names]
        rows.append([f"{int(count):,}", f"{one['boxes']:,}", *cells, f"{record['track'][count]['ms']['median']:.2f}"])
    return table(["objects", "boxes", *(f"{name}, ms" for name in names), "streamdet tracker, ms"], rows)


def demo(record: dict[str, Any]) -> str:
    """Recall and false tracks of `--model motion` on the built-in scene, and the speed on its 4K film."""
    rows = [
        [
            score["size"],
            str(score["seed"]),
            f"{score['recall']:.3f}",
            f"{score['false_tracks_per_s']:.2f}",
            f"{score['true_tracks']} / {score['other_tracks']} / {score['false_tracks']}",
            f"{score['median_error_px']:.2f} px",
        ]
        for score in record["scores"]
    ]
    header = [
        "scene",
        "seed",
        "recall",
        "false tracks per s",
        "tracks on movers / people, cars / nothing",
        "position error",
    ]
    fps = record["speed_4k"]["fps"]
    speed = f"{fps['median']:.0f} fps ({fps['min']:.0f}-{fps['max']:.0f})"
    return table(header, rows) + f"\n\n4K30 film of the scene with 5 movers, decode to JSON: {speed}."


def model_tiny(record: dict[str, Any]) -> str:
    """Tracked output of `streamdet run` with the embedded network and its rivals, per set of real clips; speed below."""

    def cell(score: dict[str, Any] | None) -> str:
        if score is None:
            return ""
        if score["recall"] is None:
            return f"{score['false_per_frame']:.3f} false per frame"
        rates = " / ".join("-" if score[key] is None else f"{score[key]:.2f}" for key in ("precision", "recall", "f1"))
        return f"{rates}, {score['false_per_frame']:.2f}"

    results = record["results"]
    sets = list(dict.fromkeys(name for groups in results.values() for name in groups))
    rows = [[name.replace("_", ", "), *(cell(groups.get(name)) for groups in results.values())] for name in sets]
    text = table(["clips", *(f"`{model}`: P / R / F1, false per frame" for model in results)], rows)
    return text + (f"\n\n{_speed(record['speed'])}" if "speed" in record else "")


def _speed(record: dict[str, Any]) -> str:
    def tiles(one: dict[str, Any]) -> str:
        return "none" if one["tiles_of"] is None else f"{one['tiles_per_frame']:.1f} of {one['tiles_of']:.0f}"

    rows = [
        [size, f"`{name}`", f"{one['fps']:.1f}", f"{one['times_real_time']:.2f}x", tiles(one)]
        for size, contenders in record["sizes"].items()
        for name, one in contenders.items()
    ]
    fast = table(["`--look motion`", "model", "fps, decode to result", "real time", "tiles per frame"], rows)
    return f"{fast}\n\n{_cost(record['networks'])}"


def _cost(networks: dict[str, dict[str, Any]]) -> str:
    """What a network alone costs on one thread: ms per 320x320 px, and that as a share of one call of yolox_nano."""
    ways = [way for way in next(iter(networks.values())) if way.endswith("threads_1")]
    rows = []
    for name, by_way in networks.items():
        cells = [
            f"{by_way[way]['area_ms']:.2f} ms, {by_way[way]['of_yolox_call']:.2f}" if way in by_way else "-"
            for way in ways
        ]
        rows.append([f"`{name}`", *cells])
    named = [way.removesuffix("_threads_1").replace("_", " ") if way != "threads_1" else "onnxruntime" for way in ways]
    return table(["per 320x320 px, of a call of yolox_nano", *named], rows)


def live_latency(record: dict[str, Any]) -> str:
    """From the drawing of the picture to the event in the MQTT subscriber; the overload run's record stands beside it."""
    over = json.loads((RESULTS / "live_overload.json").read_text(encoding="utf-8"))
    looks = {
        "default": record,
        "all tiles, 4x too many": over["all"],
        "the same tiles, `--look motion`": over["motion"],
    }
    rows = [
        [
            name,
            f"{one['age_ms']['p50']:.0f} ms",
            f"{one['age_ms']['p99']:.0f} ms",
            f"{one['frames_per_s']:.1f} of 25",
            f"{one['tiles_per_frame']:.1f}",
        ]
        for name, one in looks.items()
    ]
    return table(["720p25 over RTSP, `tiny`", "age p50", "p99", "frames per s", "tiles per frame"], rows)


def live_cameras(record: dict[str, Any]) -> str:
    """Eight cameras, one of them killed again and again, the broker down for a while."""
    told, others = record["events"], record["others_fps"]
    rows = [
        ["minutes", f"{record['minutes']:g}"],
        [
            "frames per s of each other camera while it runs / is away",
            f"{others['while_cam0_runs']} / {others['while_it_is_away']}",
        ],
        [
            "events in the subscriber, of those stored; in order",
            f"{told['arrived']:,} of {told['stored']:,}; {told['in_order']}",
        ],
    ]
    back, memory = record["cam0_back_after_s"], record["rss_mb"]
    rows += [
        ["the killed one is back after its server is: median / worst", f"{back['median']} / {back['max']} s"],
        ["memory after warm-up / at the end", f"{memory['after_warm_up']:.0f} / {memory['at_the_end']:.0f} MB"],
    ]
    return table(["8 cameras 640x360@15, one killed every 20 s, broker down for a minute", ""], rows)


def images(record: dict[str, Any]) -> str:
    rows = [
        [name, f"{one['tiles']:,}", f"{one['boxes']:,}", f"{one['seconds']:.0f} s", f"{one['peak_mib']} MiB"]
        for name, one in record["pictures"].items()
    ]
    return table(["picture", "tiles", "boxes", "time", "peak memory"], rows)


def gpu(record: dict[str, Any]) -> str:
    """What was measured on a GPU, what issue 4 asks of it, and by name what is still to be measured."""
    sections = record["sections"]
    measured = {name: node for name, node in sections.items() if not {"failed", "skipped"} & set(node)}
    rows = [[_GPU_WORDS[name], gpu_lines.text(name, measured), gpu_lines.WANTED.get(name, "")] for name in measured]
    missing = [words for name, words in _GPU_WORDS.items() if name not in measured]
    left = f"\n\nNot measured yet: {'; '.join(missing)}." if missing else ""
    return table([record["gpu"], "measured", "wanted"], rows) + left


_GPU_WORDS = {
    "copy_bandwidth": "device to device copy",
    "correctness": "packed 4K frames against the CPU packer",
    "batteries": "the tests' cases, on the card",
    "kernel_time": "one launch: 4K, 32 tiles of 640, 5 channels, fp16",
    "motion": "motion model at 4K against the CPU's",
    "against_composed": "the same batch by torch and CuPy operations",
    "tile_rate": "pack + network + read back, over the bare network",
    "precision": "objects of the demo scene against the CPU",
    "memory": "memory",
    "end_to_end": "4K film, decode to JSON",
    "sanitizer": "compute-sanitizer",
}
UNMEASURED = {"gpu": f"Not measured yet, for want of a GPU: {'; '.join(_GPU_WORDS.values())}."}
"""What stands in a block whose record is still to be made."""


def motion(record: dict[str, Any]) -> str:
    """What look=motion finds of look=all, with collages and with whole tiles only, and at what price."""
    header = [
        "model",
        "clip",
        "`--look motion`",
        "objects of `all`",
        "boxes of `all`",
        "inputs per frame",
        "processor time of `all`",
    ]
    rows = []
    for model, clips in record["models"].items():
        for clip, one in clips.items():
            for look, tried in one.items():
                if look not in ("tiles", "all"):
                    objects = f"{tried['objects']['followed']} of {tried['objects']['of']}"
                    inputs = f"{tried['inputs_per_frame']:.1f} of {one['tiles']}"
                    how = "default" if look == "motion" else "whole tiles"
                    rows.append(
                        [model, clip, how, objects, f"{tried['boxes']:.0%}", inputs, f"{1 / tried['cpu_ratio']:.0%}"]
                    )
    return table(header, rows)


def filming(record: dict[str, Any]) -> str:
    """The same rally through other cameras: precision, recall and F1 of each model."""

    def cell(one: dict[str, Any]) -> str:
        return " / ".join(f"{one[name] or 0:.2f}" for name in ("precision", "recall", "f1"))

    models = list(next(iter(record["cameras"].values())))
    rows = [[name, *(cell(found[model]) for model in models)] for name, found in record["cameras"].items()]
    return table(["the rally", *(f"`{model}`: P / R / F1" for model in models)], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "demo": demo,
    "model_tiny": model_tiny,
    "filming": filming,
    "startup": startup,
    "slicers": slicers,
    "motion": motion,
    "merge_track": merge_track,
    "live_latency": live_latency,
    "live_cameras": live_cameras,
    "images": images,
    "gpu": gpu,
}


def rendered(text: str) -> str:
    """`text` with every ``<!-- table:NAME -->...<!-- end -->`` block filled from results/NAME.json."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        path = RESULTS / f"{name}.json"
        if name in UNMEASURED and not path.is_file():
            return f"<!-- table:{name} -->\n{UNMEASURED[name]}\n<!-- end -->"
        record = json.loads(path.read_text(encoding="utf-8"))
        machine = record.get("machine")
        where = f"`benchmarks/results/{name}.json`"
        if machine:
            where += f": {machine['cores']} cores {machine['processor']}, {machine['date'][:10]}, commit {machine['commit'][:7]}"
        return f"<!-- table:{name} -->\n{TABLES[name](record)}\n\n<sub>{where}</sub>\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->.*?<!-- end -->", fill, text, flags=re.S)


def main() -> None:
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = rendered(before)
    if "--check" in sys.argv:
        if before != after:
            sys.exit("README.md does not match benchmarks/results: run python benchmarks/readme_tables.py")
        return
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
