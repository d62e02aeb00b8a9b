"""Train the network: ``python -m engines.train WORK --data DATA --minutes 45``. Seeded, resumable; one CPU core is enough.

WORK/crops holds the crops (`engines.cache`, `engines.mine`; made first if absent), WORK/checkpoint.pt the state after every
minute, WORK/model.pt the averaged weights. ``--minutes`` is processor time, over which the learning rate anneals: a pause
costs nothing.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.batches import Batch, Pool
from engines.cache import fill
from engines.check import check_crops
from engines.export import export
from engines.mine import mine
from engines.network import TinyMover, deepened, of_state
from engines.readback import freeze_normalisation, read_back
from engines.teacher import Teacher, lead_at, teaching_loss

__all__ = ["loss_of", "train"]

_SIDE, _BATCH, _RATE = 160, 24, 3e-3
_SAVE_S = 60.0
_MINED_AT = 0.3  # of the minutes


def loss_of(maps: Tensor, batch: Batch) -> tuple[Tensor, np.ndarray, dict[str, float]]:
    """Focal heat (CenterNet, arXiv 1904.07850: alpha 2, beta 4), L1 offset and log size, cross entropy of the class.

    Returns the loss, each sample's share of the heat loss, and the parts for the log.
    """
    heat, counts = torch.from_numpy(batch.heat), torch.from_numpy(batch.counts)
    logit = maps[:, :1].float()
    found = torch.sigmoid(logit).clamp(1e-4, 1 - 1e-4)
    positive = (heat == 1).float()
    hit = -((1 - found) ** 2) * torch.log(found) * positive
    miss = -((1 - heat) ** 4) * found**2 * torch.log(1 - found) * (1 - positive)
    per_sample = ((hit + miss) * counts).sum((1, 2, 3))
    many = max(1, len(batch.place))
    heat_loss = per_sample.sum() / max(many, len(heat) // 2)
    parts = {"heat": float(heat_loss.detach())}
    total = heat_loss
    if len(batch.place):
        sample, row, column = torch.from_numpy(batch.place).T
        at = maps[sample, :, row, column].float()
        rows = torch.from_numpy(batch.rows)
        offset = rows[:, :2] / 4 - torch.stack([column, row], 1)
        sized = (rows[:, 2] > 0).float()[:, None]
        size = torch.log(rows[:, 2:4].clamp(min=1))
        known = rows[:, 6] >= 0
        offset_loss = (at[:, 1:3] - offset).abs().mean()
        size_loss = ((at[:, 3:5] - size).abs() * sized).sum() / (2 * sized.sum() + 1e-6)
        class_loss = functional.cross_entropy(at[known, 5:], rows[known, 6].long()) if known.any() else at.sum() * 0
        total = total + 0.5 * offset_loss + 0.2 * size_loss + 0.35 * class_loss
        parts |= {
            "offset": float(offset_loss.detach()),
            "size": float(size_loss.detach()),
            "class": float(class_loss.detach()),
        }
    return total, per_sample.detach().numpy(), parts


def train(
    work: Path,
    *,
    minutes: float,
    seed: int,
    start: Path | None = None,
    rate: float = _RATE,
    deadline_s: float = math.inf,
    teacher: Teacher | None = None,
    mining: Callable[[Path], None] | None = None,
    deeper: bool = False,
) -> Path:
    """Train on the crops in ``work/crops``; returns the file of averaged weights. Goes on from a checkpoint if there is one.

    `mining` is called once on the way, with the weights so far as an ONNX file; it adds crops.
    """
    torch.manual_seed(seed)
    net = TinyMover()
    released = start is not None and start.suffix == ".onnx"
    if start is not None and released:
        net = read_back(start)[0]
    elif start is not None:
        net = of_state(torch.load(start, weights_only=True))
    if deeper and not len(net.joined8):
        net = deepened(net)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(net).eval()
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}], lr=rate
    )
    step, spent = 0, 0.0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    pool = Pool(work / "crops")
    began, saved, log = time.process_time() - spent, time.process_time(), {}
    first_s = time.time()
    while True:
        progress = max((time.process_time() - began) / (minutes * 60), (time.time() - first_s) / (deadline_s - first_s))
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5
        batch = pool.draw(np.random.default_rng((seed, step)), _BATCH, _SIDE)
        picture = torch.from_numpy(batch.picture).contiguous(memory_format=torch.channels_last)
        net.train()
        if released:  # what was normalised is folded into the weights
            freeze_normalisation(net)
        with torch.autocast("cpu", torch.bfloat16):
            maps = net(picture)
        loss, per_sample, parts = loss_of(maps, batch)
        if teacher is not None and (lead := lead_at(progress)) > 0:
            taught = teaching_loss(maps, teacher(batch.picture), torch.from_numpy(batch.heat))
            loss = loss + lead * taught
            parts["taught"] = float(taught.detach())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        pool.judged(batch.where, per_sample / (per_sample.mean() + 1e-6))
        _follow(average, net, min(0.998, (step + 1) / (step + 20)))
        step += 1
        log = {name: 0.98 * log.get(name, value) + 0.02 * value for name, value in parts.items()}
        if step % 200 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in log.items())
            print(f"{time.strftime('%H:%M:%S')} step {step} ({progress:.0%}) {words}", flush=True)
        if time.process_time() - saved > _SAVE_S:
            saved = time.process_time()
            _save(work, net, average, optimiser, step, saved - began)
            print(f"{pool.reload()} crops; {check_crops(average, work / 'crops', most=250)}", flush=True)
            if mining is not None and progress >= _MINED_AT and not (work / "mined.onnx").is_file():
                export(work / "model.pt", work / "mining.onnx", threshold=0.3)
                mining(work / "mining.onnx")
                (work / "mining.onnx").rename(work / "mined.onnx")
                print(f"{pool.reload()} crops", flush=True)
    _save(work, net, average, optimiser, step, minutes * 60)
    print(f"{step} steps, {step * _BATCH} crops; {check_crops(average, work / 'crops')}", flush=True)
    return work / "model.pt"


@torch.no_grad()
def _follow(average: TinyMover, net: TinyMover, keep: float) -> None:
    now = net.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name], 1 - keep)
        else:
            value.copy_(now[name])


def _save(
    work: Path, net: TinyMover, average: TinyMover, optimiser: torch.optim.Optimizer, step: int, spent: float
) -> None:
    state = {
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "spent": spent,
    }
    for name, value in (("checkpoint.pt", state), ("model.pt", average.state_dict())):
        torch.save(value, work / f"{name}.partial")
        (work / f"{name}.partial").rename(work / name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.train", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, help="folder with train_air and clips; needed if WORK/crops is empty")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument(
        "--wall-minutes", type=float, default=math.inf, help="end by then, however much processor time there was"
    )
    parser.add_argument("--rendered", type=int, default=1000, help="rendered clips to make if WORK/crops is empty")
    parser.add_argument(
        "--mine",
        type=int,
        default=0,
        metavar="CLIPS",
        help="once on the way, mine this many rendered clips; needs --data",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights to start from: model.pt, or an ONNX file of this network")
    parser.add_argument(
        "--teacher", type=Path, help="ONNX file of a larger network of ours, to learn from beside the labels"
    )
    parser.add_argument("--deeper", action="store_true", help="add blocks to what is started from (engines/network.py)")
    parser.add_argument("--rate", type=float, default=_RATE, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.mine and given.data is None:
        parser.error("--mine: needs --data")
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    (given.work / "pid").write_text(str(os.getpid()))
    if given.data is not None and not list((given.work / "crops").glob("rendered_*.crops.npy")):
        fill(given.work / "crops", given.data, rendered=given.rendered, passes=2, seed=given.seed)
    train(
        given.work,
        minutes=given.minutes,
        seed=given.seed,
        start=given.start,
        rate=given.rate,
        deadline_s=time.time() + given.wall_minutes * 60,
        teacher=None if given.teacher is None else Teacher(given.teacher, threads=given.threads),
        mining=functools.partial(_mine, given) if given.mine else None,
        deeper=given.deeper,
    )


def _mine(given: argparse.Namespace, model: Path) -> None:
    mine(model, given.work / "crops", given.data, rendered=given.mine, seed=given.seed)


if __name__ == "__main__":
    main()
