"""HOTA, MOTA and IDF1 against TrackEval and py-motmetrics on the latter's own sequences, and against hand-made ones."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.scoring import Found, Labels, read_labels
from streamdet.scoring.labels import read_mot_results
from streamdet.scoring.tracking import Sequence, count_tracking, sequence_of

OURS_OF_THEIRS = {
    **{name: name for name in ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr", "MOTA", "IDF1", "IDP", "IDR")},
    "IDSW": "id_switches",
    "Frag": "fragments",
    "MT": "mostly_tracked",
    "ML": "mostly_lost",
    "PT": "partly_tracked",
    "CLR_TP": "tp",
    "CLR_FP": "fp",
    "CLR_FN": "fn",
}  # fmt: skip


def trackeval_of(sequence: Sequence) -> dict[str, float]:
    import trackeval

    targets, tracks = sequence.sizes
    data = {
        "num_timesteps": len(sequence.targets),
        "num_gt_ids": targets,
        "num_tracker_ids": tracks,
        "num_gt_dets": sum(map(len, sequence.targets)),
        "num_tracker_dets": sum(map(len, sequence.tracks)),
        "gt_ids": list(sequence.targets),
        "tracker_ids": list(sequence.tracks),
        "similarity_scores": list(sequence.alike),
    }
    out: dict[str, float] = {}
    quiet = {"PRINT_CONFIG": False}
    for metric in (trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)):
        with contextlib.redirect_stdout(io.StringIO()):
            out |= {key: float(np.mean(value)) for key, value in metric.eval_sequence(data).items()}
    return out


def assert_equal_to_trackeval(sequence: Sequence) -> None:
    ours, theirs = count_tracking(sequence).to_dict(), trackeval_of(sequence)
    for name, own in OURS_OF_THEIRS.items():
        assert ours[own] == pytest.approx(theirs[name], abs=1e-12), name


def random_sequence(seed: int, *, frames: int, targets: int, tracks: int, jitter: float) -> Sequence:
    """Targets wander; tracks follow them, lose them, swap, and some follow nothing."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 60, (targets, 2))
    leader = rng.integers(0, targets + 1, tracks)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(frames):
        place = place + rng.normal(0, 2, place.shape)
        leader = np.where(rng.random(tracks) < 0.1, rng.integers(0, targets + 1, tracks), leader)
        ids = np.flatnonzero(rng.random(targets) < 0.85)
        numbers = np.flatnonzero(rng.random(tracks) < 0.8)
        goal = np.vstack([place, rng.uniform(0, 60, (1, 2))])[leader[numbers]] + rng.normal(
            0, jitter, (len(numbers), 2)
        )
        gap = np.abs(place[ids][:, None] - goal[None])
        both = np.prod(np.clip(20 - gap, 0, None), axis=2)
        rows.append((ids, numbers, both / (800 - both)))
    # identities that never appear do not exist: count those that do from 0
    maps = [np.unique(np.concatenate([row[column] for row in rows])) for column in (0, 1)]
    return Sequence(
        tuple(np.searchsorted(maps[0], row[0]) for row in rows),
        tuple(np.searchsorted(maps[1], row[1]) for row in rows),
        tuple(row[2] for row in rows),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 100_000), st.integers(2, 40), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0.0, 3.0, 8.0])
)
def test_random_sequences_score_as_in_trackeval(
    seed: int, frames: int, targets: int, tracks: int, jitter: float
) -> None:
    sequence = random_sequence(seed, frames=frames, targets=targets, tracks=tracks, jitter=jitter)
    if sum(map(len, sequence.targets)) and sum(
        map(len, sequence.tracks)
    ):  # theirs returns early where either is absent
        assert_equal_to_trackeval(sequence)


def motmetrics_folder() -> Path:
    import motmetrics

    return Path(motmetrics.__file__).parent / "data"


@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte"])
def test_the_fixtures_of_py_motmetrics(name: str) -> None:
    import motmetrics

    folder = motmetrics_folder() / name
    sequence = sequence_of(read_mot_results(folder / "test.txt"), read_labels(folder / "gt.txt"))
    assert_equal_to_trackeval(sequence)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for targets, tracks, alike in zip(sequence.targets, sequence.tracks, sequence.alike):
        accumulator.update(targets, tracks, np.where(alike >= 0.5, 1 - alike, np.nan))
    metrics = ["mota", "motp", "idf1", "idp", "idr", "num_switches", "num_false_positives", "num_misses"]
    theirs = motmetrics.metrics.create().compute(accumulator, metrics=metrics, name="x").iloc[0]
    ours = count_tracking(sequence).to_dict()
    for own, name_there in (
        ("MOTA", "mota"),
        ("IDF1", "idf1"),
        ("IDP", "idp"),
        ("IDR", "idr"),
        ("id_switches", "num_switches"),
    ):
        assert ours[own] == pytest.approx(theirs[name_there], abs=1e-12), own
    assert (ours["fp"], ours["fn"]) == (theirs["num_false_positives"], theirs["num_misses"])
    assert ours["MOTP"] == pytest.approx(1 - theirs["motp"], abs=1e-12)


def test_the_published_numbers_of_tud_campus() -> None:
    """What py-motmetrics' README prints for this pair of files."""
    folder = motmetrics_folder() / "TUD-Campus"
    ours = count_tracking(sequence_of(read_mot_results(folder / "test.txt"), read_labels(folder / "gt.txt"))).to_dict()
    assert round(100 * ours["IDF1"], 1) == 55.8
    assert round(100 * ours["MOTA"], 1) == 52.6
    assert (ours["fp"], ours["fn"], ours["id_switches"]) == (13, 150, 7)


def tracks_of(rows: list[tuple[int, int, float]], *, state: str = "confirmed") -> Found:
    table = np.array(rows, float).reshape(-1, 3)
    left = table[:, 2:]
    return Found(
        frames=np.arange(4),
        pts_s=np.arange(4) / 10,
        frame=table[:, 0].astype(int),
        track=table[:, 1].astype(int),
        score=np.ones(len(table)),
        xyxy=np.hstack([left, np.zeros_like(left), left + 10, np.full_like(left, 10)]),
        name=np.array(["ball"] * len(table), np.str_),
        state=np.array([state] * len(table), np.str_),
    )


def truth_of(rows: list[tuple[int, int, float, str, bool]], format: str = "truth") -> Labels:
    left = np.array([row[2] for row in rows])
    return Labels(
        frames=np.arange(4),
        frame=np.array([row[0] for row in rows]),
        id=np.array([row[1] for row in rows]),
        name=np.array([row[3] for row in rows]),
        centre=np.stack([left + 5, np.full(len(rows), 5.0)], axis=1),
        wh=np.full((len(rows), 2), 10.0),
        visible=np.array([row[4] for row in rows]),
        format=format,
    )


def test_a_track_that_changes_hands_is_counted_by_hand() -> None:
    truth = truth_of([(n, 7, 100 * n, "ball", True) for n in range(4)])
    ours = count_tracking(sequence_of(tracks_of([(0, 1, 0), (1, 1, 100), (2, 2, 200), (3, 2, 300)]), truth)).to_dict()
    assert (ours["tp"], ours["fp"], ours["fn"], ours["id_switches"]) == (4, 0, 0, 1)
    assert ours["MOTA"] == 0.75
    assert ours["IDF1"] == 0.5
    assert ours["AssA"] == 0.5  # each true positive: 2 frames together of 4
    assert ours["HOTA"] == pytest.approx(np.sqrt(0.5))
    assert ours["LocA"] == 1


def test_hidden_targets_people_and_coasting_tracks_count_for_nothing() -> None:
    rows = [(n, 1, 0, "ball", n != 2) for n in range(4)] + [(n, 2, 500, "person", True) for n in range(4)]
    found = [(n, 1, 0.0) for n in range(4)] + [(n, 5, 500.0) for n in range(4)]
    ours = count_tracking(sequence_of(tracks_of(found), truth_of(rows))).to_dict()
    assert (ours["tp"], ours["fp"], ours["fn"]) == (3, 0, 0)
    assert count_tracking(sequence_of(tracks_of(found, state="coasting"), truth_of(rows))).to_dict()["tp"] == 0


def test_of_motchallenge_only_its_distractors_are_forgiven() -> None:
    rows = [(0, 1, 0, "1", True), (0, 2, 100, "7", False), (0, 3, 200, "3", False)]
    ours = count_tracking(
        sequence_of(tracks_of([(0, 1, 0), (0, 2, 100), (0, 3, 200)]), truth_of(rows, "mot"))
    ).to_dict()
    assert (ours["tp"], ours["fp"], ours["targets"]) == (1, 1, 1)


def test_no_objects_and_no_targets_are_no_accident() -> None:
    nothing = tracks_of([])
    ours = count_tracking(sequence_of(nothing, truth_of([(0, 1, 0, "ball", True)]))).to_dict()
    assert (ours["HOTA"], ours["MOTA"], ours["fn"], ours["mostly_lost"]) == (0, 0, 1, 1)
    ours = count_tracking(sequence_of(tracks_of([(0, 1, 0)]), truth_of([(0, 1, 0, "ball", False)]))).to_dict()
    assert ours["MOTA"] is None


def test_clips_are_added_before_ratios_are_taken() -> None:
    import trackeval

    parts = [random_sequence(seed, frames=20, targets=4, tracks=5, jitter=2) for seed in (1, 2)]
    ours = (count_tracking(parts[0]) + count_tracking(parts[1])).to_dict()
    quiet = {"PRINT_CONFIG": False}
    for metric in (trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)):
        with contextlib.redirect_stdout(io.StringIO()):
            scores = {}
            for number, part in enumerate(parts):
                targets, tracks = part.sizes
                scores[str(number)] = metric.eval_sequence(
                    {
                        "num_timesteps": len(part.targets), "num_gt_ids": targets, "num_tracker_ids": tracks,
                        "num_gt_dets": sum(map(len, part.targets)), "num_tracker_dets": sum(map(len, part.tracks)),
                        "gt_ids": list(part.targets), "tracker_ids": list(part.tracks), "similarity_scores": list(part.alike),
                    }
                )  # fmt: skip
            total = metric.combine_sequences(scores)
        for name, own in OURS_OF_THEIRS.items():
            if name in total:
                assert ours[own] == pytest.approx(float(np.mean(total[name])), abs=1e-12), name
