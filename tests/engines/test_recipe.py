"""The training recipe makes what the pipeline makes: one implementation, honest labels."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines import data
from engines.batches import Pool, targets
from engines.contract import CHANNELS, LABELS, STRIDE
from engines.distractors import lights, mast, stirring
from engines.flights import fly, held, lob, shadow_of, struck
from engines.footage import ROW, tighten
from engines.players import random_player, ready_to_serve
from engines.render import FRAMES, RenderedClip, encode, render_clip
from engines.scenery import net_in_front
from engines.sprites import random_sprite, stamp
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.types import WHY_ALL, TilePlan


@pytest.fixture(scope="module")
def flight() -> RenderedClip:
    """A disc of 8 px that crosses a textured still at 5 px per frame."""
    rng = np.random.default_rng(3)
    still = rng.integers(60, 120, (14, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    sprite = random_sprite(rng, "ball").draw(0)
    pictures, truth = [], []
    for time in range(FRAMES):
        image, centre = still.copy(), (60.0 + 5 * time, 100.0 + time)
        left, top, patch = stamp(sprite, centre, long_px=8, angle=0, smear=(0, 0))
        part = image[top : top + patch.shape[0], left : left + patch.shape[1]]
        part[:] = (part * (1 - patch[..., 3:]) + 255 * patch[..., 3:]).astype(np.uint8)
        pictures.append(image)
        truth.append(np.array([[*centre, 8, 8, 0.01, 0, 0, 1]], np.float32))
    return RenderedClip(encode(pictures, crf=18, fps=30), truth, [True] * FRAMES)


def test_training_crops_are_what_the_pipeline_packs(flight: RenderedClip, tmp_path: Path) -> None:
    """Cut, stored in 8 bits and unpacked again, a crop is the tensor the pipeline would give the network, within rounding."""
    path = tmp_path / "flight.mp4"
    path.write_bytes(flight.encoded)
    box = np.array([[40, 20, 40 + data.CROP_PX, 20 + data.CROP_PX]], np.int32)
    scale, why = np.ones((1, 2), np.float32), np.full(1, WHY_ALL, np.uint8)
    packer = CpuPacker(data.NETWORK_INPUT)
    compared = 0
    for seen in data.watch(path):
        wanted = packer(seen.frame, seen.motion, TilePlan(seen.frame.wh, (data.CROP_PX,) * 2, box, scale, why, 1)).data
        crop = data.cut(seen, flight.truth[seen.frame.index], box)
        gap = np.abs(data.unpack(crop.planes) - wanted)
        assert gap[:, :3].max() <= 0.51 / 64  # half a grey level
        assert gap[:, 3:].max() <= 1 / 64  # stored up to 127 levels, clipped at 128
        compared += int(np.abs(wanted[:, 3:]).max() > 0.5)
    assert compared > 10  # the motion channels held something


def test_truth_follows_the_crop(flight: RenderedClip) -> None:
    rng = np.random.default_rng(0)
    seen_targets = 0
    for crop in data.from_rendered(flight, rng):
        for planes, rows in zip(crop.planes, crop.truth):
            rows = rows[(rows[:, 7] > 0) & (rows[:, :2] > 8).all(1) & (rows[:, :2] < data.CROP_PX - 8).all(1)]
            for row in rows:
                x, y = row[:2].astype(int)
                assert planes[:3, y, x].min() > 150  # the white disc is where the truth says
                seen_targets += 1
    assert seen_targets > 5


def test_heat_peaks_in_the_cells_close_to_the_centre() -> None:
    truth = np.zeros((1, 3, ROW), np.float32)
    truth[..., 6] = -1
    truth[0, 0] = [50.5, 21.0, 8, 8, 30, 0, 0, 1]
    truth[0, 1] = [100.0, 100.0, 8, 8, 0, 0, 1, 0]  # to be ignored
    heat, counts, rows, place = targets(truth, 128)
    assert place.tolist() == [[0, 5, 11], [0, 5, 12], [0, 5, 13]]  # the middle of a streak is vague
    assert (rows[:, :2] == (50.5, 21.0)).all()  # every one of them leads to the same point
    assert (rows[:, 6] == 0).all()
    assert (heat == 1).sum() == 3
    assert heat[0, 0, 5, 14] > heat[0, 0, 7, 12]  # drawn out along the streak
    assert counts[0, 0, 25, 25] == 0
    assert counts[0, 0, 5, 12] == 1


def test_loose_boxes_are_tightened_to_the_blob() -> None:
    luma = np.full((100, 120), 90, np.uint8)
    luma[40:46, 60:70] = 200
    rows = np.array([[66, 42, 36, 30, 0, 0, 2, 1]], np.float32)
    tight = tighten(luma, np.full_like(luma, 90), rows)[0]
    assert tight[:4].tolist() == [65, 43, 10, 6]
    assert tighten(np.full_like(luma, 90), None, rows)[0, 2] == 0  # nothing there: size unknown, centre as labelled


def test_a_rendered_clip_is_reproducible_and_complete() -> None:
    clip, other = _rendered_only(11), _rendered_only(11)
    assert clip.encoded == other.encoded
    with av.open(io.BytesIO(clip.encoded)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES == len(clip.truth) == len(clip.trusted)
    assert sum(len(rows) for rows in clip.truth) > 0


def _rendered_only(seed: int) -> RenderedClip:
    """A clip on a rendered place: seeds are tried until no footage is asked for."""
    for offset in range(50):
        rng = np.random.default_rng(seed + offset)
        try:
            return render_clip(rng, [], backgrounds=[])
        except (ValueError, IndexError):
            continue
    raise AssertionError("no seed gave a rendered place")


def test_what_a_player_strikes_is_a_target_at_the_racket_and_its_shadow_is_none() -> None:
    rng = np.random.default_rng(4)
    player = random_player((480, 400), rng, tall=120, hit=12.0)
    head = player.racket_head(12.0)
    assert 0.3 * player.tall < np.linalg.norm(head - player.feet(12.0)) < 1.6 * player.tall  # in a hand's reach
    flight = struck(rng, 12.0, np.array([200.0, 150.0]), tall=player.tall, shutter=0.3)
    shadow = shadow_of(rng, flight, np.array([210.0, 260.0]), 12.0)
    assert np.allclose(flight.at(12.0), (200, 150))
    assert np.allclose(shadow.at(12.0), (210, 260))
    image = np.full((400, 480, 3), 20, np.uint8)
    rows = fly(image, [shadow, flight], 12, np.zeros(2), thermal=False)
    assert len(rows) == 1
    assert rows[0, 6] == LABELS.index("ball")
    assert np.linalg.norm(rows[0, :2] - (200, 150)) < 1
    player.draw(image, 12.0, 0.5)
    assert (image != 20).any()


def test_what_is_held_stays_in_the_hand_until_it_is_served() -> None:
    rng = np.random.default_rng(6)
    player = random_player((480, 400), rng, tall=120, hit=12.0)
    flight = held(rng, 12.0, player.free_hand, player.tall, 0.3)
    for time in range(12):
        assert np.linalg.norm(flight.at(time) - player.free_hand(time)) < 0.3 * player.tall
    assert np.linalg.norm(flight.at(16.0) - flight.at(11.9)) > 15
    assert np.linalg.norm(flight.at(12.01) - flight.at(11.99)) < 3  # it leaves from where it was
    player.draw(image := np.full((400, 480, 3), 20, np.uint8), 6.0, 0.5)
    x, y = player.free_hand(6.0).round().astype(int)
    assert (image[y - 3 : y + 4, x - 3 : x + 4] != 20).any()  # there is a hand


def test_what_is_held_does_not_turn_with_the_tremble_of_a_hand() -> None:
    """Until it is served a shuttle looks the same from frame to frame; then it turns with its flight."""
    rng, still = np.random.default_rng(4), np.full((160, 200, 3), 60, np.uint8)
    flight = held(rng, 12.0, lambda time: np.array([100 + 0.4 * (-1) ** int(time), 80.0]), 300, 0.1)
    sprite = random_sprite(np.random.default_rng(2), "shuttle")
    picture = sprite.draw(0)
    flight.sprite, flight.turn = replace(sprite, draw=lambda _: picture), 0.0
    sizes = []
    for time in range(10):
        rows = fly(still.copy(), [flight], time, np.zeros(2), thermal=False)
        sizes.append(rows[0, 2:4])
    assert np.ptp(np.array(sizes), axis=0).max() <= 2


def test_a_lob_hangs_and_then_falls() -> None:
    hung = 0
    for seed in range(20):
        flight = lob(np.random.default_rng(seed), (480, 384), (8.0, 16.0), shutter=0.3)
        way = np.array([flight.at(time) for time in range(FRAMES)])
        top = int(way[:, 1].argmin())
        assert 7 <= top <= 17
        assert (np.diff(way[top:, 1]) >= 0).all()
        assert (np.diff(way[: top + 1, 1]) <= 0).all()
        hung += int(np.abs(np.diff(way[top - 1 : top + 2, 1])).max() < 2)
    assert hung > 15


def test_a_net_lies_before_what_is_there_and_moves_with_the_camera() -> None:
    draw = net_in_front(np.zeros((200, 300, 3), np.uint8), np.random.default_rng(1))
    grey = np.full((200, 300, 3), 120, np.uint8)
    still, shifted = grey.copy(), grey.copy()
    draw(still, (0, 0))
    draw(shifted, (0, 3))
    assert (still != grey).any(2).mean() > 0.02
    assert (shifted[3:] == still[:-3]).all()


def test_a_server_keeps_calm() -> None:
    rng = np.random.default_rng(5)
    player = random_player((480, 384), rng, tall=180, hit=18)
    before = np.ptp([player.free_hand(time) for time in range(FRAMES)], axis=0).max()
    player.reach_px, player.pace = np.array([40.0, 20.0]), 0.15
    wild = np.ptp([player.free_hand(time) for time in range(FRAMES)], axis=0).max()
    ready_to_serve(player, rng)
    assert np.ptp([player.free_hand(time) for time in range(FRAMES)], axis=0).max() < wild
    assert before > 0


def test_distractors_stay_where_they_are() -> None:
    """They stir by a few px at most over a whole clip, and are seen."""
    for make in (mast, lambda wh, rng: stirring((100, 50, 400, 150), rng)):
        drawn = 0
        for seed in range(8):
            draw = make((480, 400), np.random.default_rng(seed))
            frames = []
            for time in (0.0, 7.0, 25.0):
                draw(image := np.zeros((400, 480, 3), np.uint8), time)
                frames.append(image.max(2) > 10)
            drawn += int(all(frame.any() for frame in frames))
            grown = cv2.dilate(frames[0].astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
            assert not (frames[1] & ~grown).any()
            assert not (frames[2] & ~grown).any()
        assert drawn >= 6
    lights(still := np.zeros((400, 480, 3), np.uint8), (100, 50, 400, 150), np.random.default_rng(1))
    assert still[50:150, 100:400].any()


def test_a_teacher_shows_its_maps_and_is_not_believed_where_it_invents() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from engines.readback import read_back
    from engines.teacher import Teacher, lead_at, teaching_loss
    from streamdet.assemble import engines_folder

    file = engines_folder() / "tiny.onnx"
    picture = torch.randn(2, len(CHANNELS), 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = read_back(file)[0](picture)
    taught = Teacher(file)(picture.numpy())
    assert torch.allclose(taught, wanted, atol=1e-3)

    taught = torch.full((1, 9, 4, 4), -6.0)
    taught[0, 0, 1, 1], taught[0, 0, 2, 2] = 4.0, 4.0
    heat = torch.zeros(1, 1, 4, 4)
    heat[0, 0, 1, 1] = 1.0
    right = taught.clone()
    right[0, 0, 2, 2] = -6.0  # sees nothing where the label says there is nothing
    blind = right.clone()
    blind[0, 0, 1, 1] = -6.0
    assert float(teaching_loss(right, taught, heat)) == 0
    assert float(teaching_loss(blind, taught, heat)) > 0.1
    assert (lead_at(0), lead_at(1)) == (1, 0)


def test_pool_draws_augmented_batches(flight: RenderedClip, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data.save(tmp_path, "rendered_000", list(data.from_rendered(flight, rng)))
    pool = Pool(tmp_path)
    batch = pool.draw(rng, 6, 160)
    assert batch.picture.shape == (6, len(CHANNELS), 160, 160)
    assert batch.heat.shape == (6, 1, 160 // STRIDE, 160 // STRIDE)
    assert np.isfinite(batch.picture).all()
    assert np.abs(batch.picture[:, 3:]).max() <= 2
    assert set(batch.rows[:, 6].astype(int)) <= set(range(len(LABELS)))
    pool.judged(batch.where, np.full(6, 3.0, np.float32))
