"""Teach the embedded network your own clip: ``python -m engines.finetune --clip my.mp4 --data my.csv``.

Labels: any file `streamdet eval` reads; frames without labels are not used. Starts from the ONNX file that comes with
streamdet; trains a few minutes on one core on the first three quarters of the labelled frames, mixed with rendered clips and
rendered objects on the user's own background so that nothing is forgotten. The last fifth of these is not trained on: it
chooses the threshold (`engines.own_threshold`). Then says how well the model before and after finds the target in the
rest, as `streamdet run` shows it. Use the result with ``--model my.onnx``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import machine
from engines.batches import Pool
from engines.clips import Clip
from engines.contract import LABELS
from engines.evaluate import Contender, Runner, code_sha256, score_clip
from engines.export import export
from engines.own_clip import split, write_crops, write_rehearsal
from engines.own_threshold import FEWEST, own_threshold
from engines.readback import freeze_normalisation, read_back
from engines.train import loss_of
from streamdet.assemble import find_model
from streamdet.detectors.onnx_header import read_header
from streamdet.options import span_of
from streamdet.scoring import Labels, read_labels

__all__ = ["finetune", "train_on"]

_BATCH, _SIDE, _RATE = 16, 160, 3e-4


def train_on(net: torch.nn.Module, crops: Path, *, minutes: float, rate: float = _RATE, seed: int = 1) -> int:
    """Minutes of processor time on the shards ``own_*`` and ``rendered_*`` of a folder; returns the steps made."""
    pool = Pool(crops, shares={"own": 0.5, "rendered": 0.5})
    decayed = [value for value in net.parameters() if value.ndim > 1]
    others = [value for value in net.parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    began, step = time.process_time(), 0
    freeze_normalisation(net.train())
    while (progress := (time.process_time() - began) / (minutes * 60)) < 1 or step == 0:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
        batch = pool.draw(np.random.default_rng((seed, step)), _BATCH, _SIDE)
        maps = net(torch.from_numpy(batch.picture).contiguous(memory_format=torch.channels_last))
        loss = loss_of(maps, batch)[0]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} ({progress:.0%}) loss {float(loss.detach()):.3f}", flush=True)
    net.eval()
    return step


def finetune(given: argparse.Namespace) -> dict[str, Any]:
    """What `main` was asked for; returns the record."""
    labels = read_labels(given.data)
    train, test = split(labels, test_share=given.test_share)
    train = _span(given.train, train)
    test = _span(given.test, test)
    train, chosen_on = _set_apart(labels.between(*train), train, given.threshold_share)
    start = find_model(given.start)
    if start is None:
        raise SystemExit(f"--start {given.start}: give a network, motion has none")
    net, gain, bias = read_back(start)
    threshold = float(json.loads(read_header(start).metadata["streamdet.threshold"]))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = write_crops(given.clip, labels.between(*train), work / "crops", label=given.label, seed=given.seed)
        print(f"{count} crops of frames {train[0]} to {train[1] - 1}", flush=True)
        if given.rehearse:
            own, many = labels.between(*train), given.rehearse
            extra = write_rehearsal(given.clip, own, work / "crops", label=given.label, count=many, seed=given.seed)
            print(f"{extra} crops of {many} rendered clips", flush=True)
        steps = train_on(net, work / "crops", minutes=given.minutes, rate=given.rate, seed=given.seed)
        torch.save(net.state_dict(), work / "model.pt")
        about = f"{start.stem}, fine-tuned on {given.clip.name}"
        export(work / "model.pt", given.output, threshold=threshold, gain=gain, bias=bias, about=about)
        if chosen_on is not None:
            apart = labels.between(*chosen_on)
            chosen = own_threshold(given.output, given.clip, apart, least=threshold, within_px=given.within)
            print(
                f"threshold {chosen:g}, {threshold:g} before: by frames {chosen_on[0]} to {chosen_on[1] - 1}",
                flush=True,
            )
            threshold = chosen
            export(work / "model.pt", given.output, threshold=threshold, gain=gain, bias=bias, about=about)
        before = _tested(start, given, test, work)
        after = _tested(given.output, given, test, work)
    for name, score in (("before", before), ("after", after)):
        print(
            f"{name}: tp {score['tp']} fp {score['fp']} fn {score['fn']} F1 {score['f1']:.3f}, frames {test[0]} to {test[1] - 1}"
        )
    print(_verdict(before["f1"], after["f1"], start.stem, given.output))
    return {
        "clip": given.clip.name,
        "start": Contender(start.stem, str(start)).sha256,
        "trained_on_frames": train,
        "threshold_by_frames": chosen_on,
        "threshold": threshold,
        "tested_on_frames": test,
        "minutes": given.minutes,
        "rehearsed_clips": given.rehearse,
        "crops": count,
        "steps": steps,
        "before": before,
        "after": after,
    }


def _set_apart(labels: Labels, train: tuple[int, int], share: float) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Frames to train on, and the last `share` of them, which choose the threshold; None where these would be too few."""
    first, rest = split(labels, test_share=share) if share > 0 else (train, train)
    if share <= 0 or len(labels.between(*rest).frames) < FEWEST:
        return train, None
    return (train[0], first[1]), (first[1], train[1])


def _verdict(before: float, after: float, start: str, output: Path) -> str:
    if after > before:
        return f"better on frames it was not trained on: use --model {output}"
    return f"not better on frames it was not trained on: stay with {start}, or label more ({output} is written all the same)"


def _span(text: str | None, usual: tuple[int, int]) -> tuple[int, int]:
    if text is None:
        return usual
    first, end = span_of(text)
    return first, usual[1] if end is None else end


def _tested(model: Path, given: argparse.Namespace, test: tuple[int, int], work: Path) -> dict[str, Any]:
    clip = Clip("own", given.clip, given.data, given.within, within_box=given.within_box, first=test[0])
    found, _ = Runner(work, code_sha256())(Contender(model.stem, str(model)), clip, test[1])
    score = score_clip(found, clip, most=test[1] - test[0])
    score["f1"] = round(2 * score["tp"] / max(2 * score["tp"] + score["fp"] + score["fn"], 1), 4)
    return score


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m engines.finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="its labels")
    parser.add_argument("--output", type=Path, help="default: <clip>.onnx in this folder")
    parser.add_argument("--start", default="tiny", help="model to start from: a name or an fp32 file of this network")
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time")
    parser.add_argument("--label", default="ball", choices=LABELS, help="what points and names we do not know are")
    parser.add_argument("--train", metavar="A:B", help="frames to train on (default: the first three quarters)")
    parser.add_argument("--test", metavar="A:B", help="frames to test on (default: the rest)")
    parser.add_argument("--test-share", type=float, default=0.25)
    parser.add_argument(
        "--threshold-share",
        type=float,
        default=0.2,
        help="of the frames to train on, kept apart to choose the threshold; 0: keep that of --start",
    )
    parser.add_argument("--within", type=float, default=10.0, help="px; for the test")
    parser.add_argument("--within-box", action="store_true")
    parser.add_argument(
        "--rehearse", type=int, default=16, help="rendered clips mixed in, so that nothing is forgotten"
    )
    parser.add_argument("--rate", type=float, default=_RATE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, help="also write what was done and measured, as JSON")
    given = parser.parse_args(words)
    given.output = given.output or Path(f"{given.clip.stem}.onnx")
    torch.set_num_threads(given.threads)
    record = finetune(given)
    if given.record is not None:
        said = words if words is not None else sys.argv[1:]
        about = {"benchmark": "finetune", "command": ["python", "-m", "engines.finetune", *said], "machine": machine()}
        given.record.write_text(json.dumps(about | record, indent=1) + "\n")


if __name__ == "__main__":
    main()
