"""The packer against a float64 reference, for every format it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from packing_reference import packed

from streamdet.config import TilesConfig
from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import Frame, Motion, Picture, TilePlan

LEVELS = 0.02  # grey levels: float32 against float64
COARSE_LEVELS = 2.0  # whole large frames are sampled in 8 bits
SIX = ("r", "g", "b", "difference", "previous_difference", "background_difference")


def smooth(seed: int, wh: tuple[int, int], *, low: int = 0, high: int = 255) -> Any:
    """A random u8 plane with detail at several scales and both ends of the range."""
    rng = np.random.default_rng(seed)
    width, height = wh
    coarse = cv2.resize(rng.random((6, 7), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    value = coarse * 0.8 + rng.random((height, width)) * 0.3 - 0.05
    return np.clip(low + value * (high - low), 0, 255).astype(np.uint8)


def yuv(
    seed: int, wh: tuple[int, int], *, matrix: Any = "bt709", full_range: bool = False, turned: bool = False
) -> Picture:
    """A YUV picture; `turned`: its planes are rotated views, as those of a phone video."""
    half = (wh[0] + 1) // 2, (wh[1] + 1) // 2

    def plane(number: int, size: tuple[int, int]) -> Any:
        return np.rot90(smooth(number, size[::-1])) if turned else smooth(number, size)

    def no_bgr() -> Any:
        raise AssertionError("the packer must not make the whole frame's BGR")

    return Picture(
        plane(seed, wh),
        (plane(seed + 1, half), plane(seed + 2, half)),
        make_bgr=no_bgr,
        matrix=matrix,
        full_range=full_range,
    )


def bgr(seed: int, wh: tuple[int, int]) -> Picture:
    image = np.stack([smooth(seed + i, wh) for i in range(3)], 2)
    return Picture(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), bgr=image)


def frame_of(picture: Picture, index: int = 0, **kw: Any) -> Frame:
    return Frame("s", index, index / 25, picture, 0.0, **kw)


def moving(picture: Picture, seed: int = 50) -> Motion:
    planes = [smooth(seed + i, picture.wh) for i in range(3)]
    return Motion(picture.luma, *planes, state="steady", dt_s=0.04)


def tiles_of(frame_wh: tuple[int, int], boxes: Any, input_wh: tuple[int, int], *, stretch: bool = False) -> TilePlan:
    """A hand-made plan: each box letterboxed (stretched) into the input."""
    boxes = np.array(boxes, np.int32).reshape(-1, 4)
    sizes = boxes[:, 2:] - boxes[:, :2]
    scale = np.array(input_wh) / sizes
    if not stretch:
        wanted = np.maximum(1, np.round(sizes * scale.min(1, keepdims=True)))
        scale = wanted / sizes
    return TilePlan(frame_wh, input_wh, boxes, scale.astype(np.float32), np.zeros(len(boxes), np.uint8), len(boxes))


def check(spec: InputSpec, picture: Picture, tiles: TilePlan) -> None:
    motion = moving(picture)
    got = CpuPacker(spec)(frame_of(picture), motion, tiles).data
    want, levels = packed(spec, [picture], motion, tiles), LEVELS
    if spec.layout == "nhwc":
        want = want.transpose(0, 2, 3, 1)
    assert got.shape == want.shape == spec.shape(len(tiles), tiles.input_wh)
    assert got.dtype == np.dtype(spec.dtype)
    unit = np.array([1 / abs(spec.affine(index)[0]) for index in range(len(spec.channels))])  # grey levels per 1.0
    unit = unit.reshape((1, 1, 1, -1) if spec.layout == "nhwc" else (1, -1, 1, 1))
    if spec.dtype == "uint8":
        in_bytes = spec.layout == "nhwc" and set(spec.channels) == set("rgb") and set(spec.mean) == {0}
        want, levels = np.clip(np.rint(want), 0, 255), 3.0 if in_bytes else 1.0
        assert np.abs(got - want).mean() < (0.4 if in_bytes else 0.01)
    rounding = np.abs(want) * 2**-11 + 2**-14 if spec.dtype == "float16" else 0.0
    assert np.max((np.abs(got.astype(np.float64) - want) - rounding) * unit) <= levels


FRAME = (98, 74)
BOXES = {
    "whole tile at scale 1": ([[20, 10, 84, 58], [34, 26, 98, 74], [0, 0, 64, 48]], (64, 48)),
    "odd origins at scale 1": ([[21, 10, 85, 58], [20, 11, 84, 59], [33, 25, 97, 73]], (64, 48)),
    "magnified": ([[20, 10, 52, 34], [66, 50, 98, 74]], (64, 48)),
    "magnified, odd origins": ([[21, 11, 53, 35], [65, 49, 97, 73]], (64, 48)),
    "magnified by 1.37": ([[10, 10, 58, 46]], (66, 49)),
    "shrunk a little": ([[0, 0, 96, 72], [2, 2, 98, 74]], (64, 48)),
    "shrunk to a third": ([[0, 0, 96, 72]], (32, 24)),
    "shrunk to a third, odd": ([[1, 1, 96, 73]], (32, 24)),
    "letterboxed below": ([[0, 0, 98, 20], [4, 6, 40, 10]], (64, 64)),
    "letterboxed at the right": ([[0, 0, 30, 74]], (64, 64)),
}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("kind", ["yuv", "bgr"])
def test_agrees_with_the_definition(case: str, kind: str) -> None:
    boxes, input_wh = BOXES[case]
    picture = yuv(1, FRAME) if kind == "yuv" else bgr(1, FRAME)
    spec = InputSpec(input_wh, channels=(*SIX, "y"))
    check(spec, picture, tiles_of(FRAME, boxes, input_wh))


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("kind", ["yuv", "bgr"])
@pytest.mark.parametrize("channels", [("r", "g", "b"), ("b", "g", "r")])
def test_plain_colours_in_bytes_agree_with_it(case: str, kind: str, channels: tuple[str, ...]) -> None:
    boxes, input_wh = BOXES[case]
    picture = yuv(1, FRAME) if kind == "yuv" else bgr(1, FRAME)
    spec = InputSpec(input_wh, channels=channels, dtype="uint8", layout="nhwc")
    check(spec, picture, tiles_of(FRAME, boxes, input_wh))


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("kind", ["yuv", "bgr"])
def test_differences_in_bytes_are_levels_about_128(case: str, kind: str) -> None:
    boxes, input_wh = BOXES[case]
    picture = yuv(1, FRAME) if kind == "yuv" else bgr(1, FRAME)
    frame, motion, tiles = frame_of(picture), moving(picture), tiles_of(FRAME, boxes, input_wh)
    numbers = InputSpec(input_wh, channels=SIX)
    levels = replace(numbers, dtype="uint8", layout="nhwc", signed_zero=128)
    want = CpuPacker(numbers)(frame, motion, tiles).data.transpose(0, 2, 3, 1).copy()
    got = CpuPacker(levels)(frame, motion, tiles).data.astype(np.float64)
    want[..., 3:] = (want[..., 3:] * 64 + 128).clip(0, 255)
    assert np.abs(got - want)[..., :3].max() <= 3.5
    gap = np.abs(got - want)[..., 3:]
    assert gap.max() <= 2.5
    assert gap.mean() <= 0.5
    assert gap[:, -1, -1].max() <= 0.5 or "letterboxed" not in case, "padding is no difference"


def test_missing_motion_is_no_difference_in_bytes() -> None:
    picture, tiles = yuv(1, FRAME), tiles_of(FRAME, [[0, 0, 64, 48], [1, 1, 33, 25]], (64, 48))
    spec = InputSpec((64, 48), channels=SIX, dtype="uint8", layout="nhwc", signed_zero=128)
    assert (CpuPacker(spec)(frame_of(picture), Motion(picture.luma), tiles).data[..., 3:] == 128).all()
    small = replace(spec, signed_clip=0.5)
    got = CpuPacker(small)(frame_of(picture), moving(picture), tiles).data[..., 3:]
    assert (got.min(), got.max()) == (96, 160)


def test_bgr_in_bytes_at_its_own_scale_is_copied() -> None:
    picture, tiles = bgr(1, FRAME), tiles_of(FRAME, [[21, 10, 85, 58]], (64, 48))
    spec = InputSpec((64, 48), channels=("b", "g", "r"), dtype="uint8", layout="nhwc")
    got = CpuPacker(spec)(frame_of(picture), moving(picture), tiles).data
    np.testing.assert_array_equal(got[0], picture.bgr[10:58, 21:85])


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
def test_every_matrix_and_range(matrix: str, full_range: bool) -> None:
    picture = yuv(2, (64, 48), matrix=matrix, full_range=full_range)
    tiles = tiles_of((64, 48), [[0, 0, 64, 48]], (64, 48))
    check(InputSpec((64, 48), channels=("r", "g", "b", "y")), picture, tiles)
    check(InputSpec((64, 48), channels=("r", "g", "b"), dtype="uint8", layout="nhwc"), picture, tiles)


@pytest.mark.parametrize("wh", [(97, 73), (1, 1), (3, 2), (17, 16), (16, 17)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("input_wh", [(97, 73), (64, 64), (20, 20)])
def test_odd_sizes_and_rotated_planes(wh: tuple[int, int], turned: bool, input_wh: tuple[int, int]) -> None:
    picture = yuv(3, wh, turned=turned)
    assert not turned or wh == (1, 1) or not picture.luma.flags.c_contiguous
    check(InputSpec(input_wh, channels=SIX), picture, tiles_of(wh, [[0, 0, *wh]], input_wh))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("channels", [("r", "g", "b"), ("b", "g", "r"), ("y",), ("b", "y")])
def test_layouts_types_and_channel_order(layout: Any, dtype: Any, channels: tuple[str, ...]) -> None:
    spec = InputSpec((64, 48), channels=channels, layout=layout, dtype=dtype)
    check(spec, yuv(4, FRAME), tiles_of(FRAME, [[10, 8, 74, 56], [0, 0, 98, 20]], (64, 48)))


@pytest.mark.parametrize("kind", ["yuv", "bgr"])
def test_mean_and_std_per_channel_and_pad_value(kind: str) -> None:
    spec = InputSpec((64, 64), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), pad_value=0.0)
    picture = yuv(5, FRAME) if kind == "yuv" else bgr(5, FRAME)
    tiles = tiles_of(FRAME, [[0, 0, 98, 74], [4, 4, 36, 68]], (64, 64))
    check(spec, picture, tiles)
    got = CpuPacker(spec)(frame_of(picture), moving(picture), tiles).data
    np.testing.assert_allclose(got[0, :, -1, -1], -np.array(spec.mean) / spec.std, rtol=1e-6)


def test_stretch_fills_the_input() -> None:
    check(
        InputSpec((64, 64), stretch=True, channels=SIX),
        yuv(6, FRAME),
        tiles_of(FRAME, [[0, 0, 98, 74]], (64, 64), stretch=True),
    )


def test_float16_with_motion() -> None:
    check(
        InputSpec((64, 48), channels=SIX, dtype="float16"), yuv(7, FRAME), tiles_of(FRAME, [[10, 8, 74, 56]], (64, 48))
    )


@pytest.mark.parametrize("wh", [(1200, 1000), (1199, 1001)])
@pytest.mark.parametrize("kind", ["yuv", "bgr"])
def test_a_large_frame_as_one_coarse_tile_is_within_two_levels(wh: tuple[int, int], kind: str) -> None:
    picture = yuv(8, wh) if kind == "yuv" else bgr(8, wh)
    tiles = tiles_of(wh, [[0, 0, *wh]], (160, 160))
    spec = InputSpec((160, 160), channels=("r", "b", "difference"), std=(1.0,))
    motion = moving(picture)
    got = CpuPacker(spec)(frame_of(picture), motion, tiles).data[0]
    x = slice(40, 60), slice(70, 90)  # the reference is slow: compare a window, from the rows it needs
    want = packed(spec, [picture], motion, tiles)[0]
    for channel, tolerance in zip((0, 1, 2), (COARSE_LEVELS, COARSE_LEVELS, COARSE_LEVELS / 64)):
        assert np.abs(got[channel][x] - want[channel][x]).max() <= tolerance
        assert np.abs(got[channel] - want[channel]).max() <= tolerance


def test_missing_motion_planes_are_zero() -> None:
    picture = yuv(9, FRAME)
    tiles = tiles_of(FRAME, [[0, 0, 64, 48]], (64, 48))
    data = CpuPacker(InputSpec((64, 48), channels=SIX))(frame_of(picture), Motion(picture.luma), tiles).data
    assert not data[:, 3:].any()
    assert data[:, :3].any()


def test_looks_like_opencv() -> None:
    """Sanity: crop and resize of the BGR picture, as everybody does it by hand."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.random((120, 160, 3), dtype=np.float32), (0, 0), 15)
    image = cv2.normalize(image, None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)
    luma, v, u = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb))
    chroma = tuple(cv2.resize(plane, (80, 60), interpolation=cv2.INTER_AREA) for plane in (u, v))
    picture = Picture(luma, chroma, bgr=image, matrix="bt601", full_range=True)
    for boxes, input_wh in [
        ([[20, 10, 84, 74]], (64, 64)),
        ([[0, 0, 160, 120]], (96, 72)),
        ([[21, 11, 61, 51]], (80, 80)),
    ]:
        tiles = tiles_of((160, 120), boxes, input_wh)
        got = CpuPacker(InputSpec(input_wh, channels=("b", "g", "r")))(frame_of(picture), moving(picture), tiles).data[
            0
        ]
        x1, y1, x2, y2 = boxes[0]
        want = cv2.resize(image[y1:y2, x1:x2], input_wh, interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
        assert np.abs(got - want.astype(np.float32)).mean() < 0.7
        assert np.abs(got - want.astype(np.float32)).max() < 4.0


class TestHistory:
    SPEC = InputSpec((16, 16), channels=("y[-2]", "y[-1]", "y[0]", "r[-1]"))
    TILES = tiles_of((16, 16), [[0, 0, 16, 16]], (16, 16))

    @staticmethod
    def grey(level: int, wh: tuple[int, int] = (16, 16)) -> Picture:
        image = np.full((wh[1], wh[0], 3), level, np.uint8)
        return Picture(image[..., 0].copy(), bgr=image)

    def levels(self, packer: CpuPacker, level: int, index: int, **kw: Any) -> list[float]:
        picture = self.grey(level)
        state = kw.pop("state", "steady")
        batch = packer(frame_of(picture, index, **kw), Motion(picture.luma, state=state), self.TILES)
        return [float(plane.mean()) for plane in batch.data[0]]

    def test_oldest_stands_in_then_pictures_move_on(self) -> None:
        packer = CpuPacker(self.SPEC)
        assert self.levels(packer, 10, 0) == [10, 10, 10, 10]
        assert self.levels(packer, 20, 1) == [10, 10, 20, 10]
        assert self.levels(packer, 30, 2) == [10, 20, 30, 20]
        assert self.levels(packer, 40, 5) == [20, 30, 40, 30]

    def test_same_frame_again_repeat_and_no_tiles(self) -> None:
        packer = CpuPacker(self.SPEC)
        self.levels(packer, 10, 0)
        self.levels(packer, 20, 1)
        assert self.levels(packer, 20, 1) == [10, 10, 20, 10]
        assert self.levels(packer, 20, 2, state="repeat") == [10, 10, 20, 10]
        picture = self.grey(30)
        batch = packer(frame_of(picture, 3), Motion(picture.luma), self.TILES[np.zeros(0, np.int64)])
        assert batch.data.shape == (0, 4, 16, 16)
        assert self.levels(packer, 40, 4) == [20, 30, 40, 30]

    def test_epoch_size_and_still_forget(self) -> None:
        packer = CpuPacker(self.SPEC)
        self.levels(packer, 10, 0)
        assert self.levels(packer, 20, 1, epoch=1) == [20, 20, 20, 20]
        assert self.levels(packer, 30, 2, epoch=1, still=True) == [30, 30, 30, 30]
        picture = self.grey(50, (20, 16))
        batch = packer(frame_of(picture, 3), Motion(picture.luma), tiles_of((20, 16), [[0, 0, 16, 16]], (16, 16)))
        assert batch.data.min() == batch.data.max() == 50


def test_buffer_is_reused_and_given_back() -> None:
    picture = yuv(11, FRAME)
    frame, motion, packer = frame_of(picture), moving(picture), CpuPacker(InputSpec((16, 16)))
    tiles = plan_tiles(FRAME, input_wh=(16, 16), config=TilesConfig())
    first = packer(frame, motion, tiles).data
    second = packer(frame, motion, tiles).data
    assert np.shares_memory(first, second)
    assert second.ctypes.data % 64 == 0
    for _ in range(80):
        small = packer(frame, motion, tiles[:2]).data
    assert not np.shares_memory(first, small)
    assert packer._buffer.nbytes == small.nbytes


def test_memory_does_not_follow_the_frame() -> None:
    import tracemalloc

    wh = (3840, 2160)
    planes = np.zeros((2160, 3840), np.uint8), np.zeros((1080, 1920), np.uint8)
    picture = Picture(planes[0], (planes[1], planes[1]), make_bgr=lambda: np.zeros((0, 0, 3), np.uint8))
    motion = Motion(planes[0], planes[0], planes[0], planes[0], state="steady")
    tiles = plan_tiles(wh, input_wh=(320, 320), config=TilesConfig())[:3]
    packer = CpuPacker(InputSpec((320, 320), channels=SIX))
    tracemalloc.start()
    try:
        packer(frame_of(picture), motion, tiles)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 6 * 320 * 320 * 4 + 3_000_000


@pytest.mark.parametrize(
    ("kw", "words"),
    [
        ({"channels": ("r", "x")}, "'x' is unknown"),
        ({"channels": ("r[1]",)}, "unknown"),
        ({"channels": ("difference[-1]",)}, "drop the offset"),
        ({"channels": ()}, "at least one"),
        ({"mean": (1.0, 2.0)}, "mean has 2 values for 3"),
        ({"std": (0.0,)}, "std not 0"),
        ({"dtype": "uint8", "channels": SIX}, "signed"),
        ({"wh": (0, 5)}, "0x5"),
        ({"batch": 0}, "batch"),
        ({"signed_clip": 0.0}, "signed_clip"),
    ],
)
def test_spec_refuses_nonsense(kw: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=None) as caught:
        InputSpec(**kw)
    assert words in str(caught.value)
