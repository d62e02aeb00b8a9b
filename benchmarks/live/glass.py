"""A camera whose pictures say when they were made: RTSP, H.264, encoded while it runs, the tests' own server.

    python benchmarks/live/glass.py --port P --log FILE [--size 1280x720] [--fps 25] [--seconds S]

A ball flies straight across, `STEP_PX` a picture, so its place is the picture's number (within a crossing). FILE gets one line
per picture: its number and ``time.monotonic()`` just before it was drawn: the instant its light fell on the glass.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "live"))

from camera_server import Feed, Visitor

FIRST_PX, STEP_PX, BALL_PX = 40, 8, 12
ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "sliced-threads=0:threads=1", "bf": "0"}


def crossing(width: int) -> int:
    """Pictures in one crossing."""
    return (width - 2 * FIRST_PX) // STEP_PX


def number_at(cx: float, width: int) -> tuple[int, float]:
    """Number within the crossing of a ball seen there, and how far it is from where that picture has it (px)."""
    number = round((cx - FIRST_PX) / STEP_PX)
    return number % crossing(width), cx - FIRST_PX - number * STEP_PX


class Scene:
    """A still court with a ball."""

    def __init__(self, wh: tuple[int, int], seed: int = 0) -> None:
        width, height = wh
        coarse = np.random.default_rng(seed).normal(0, 1, (height // 40 + 2, width // 40 + 2)).astype(np.float32)
        smooth = cv2.resize(coarse, wh, interpolation=cv2.INTER_CUBIC)
        self._ground = np.clip(95 + 9 * smooth, 40, 160).astype(np.uint8)
        self._ground[::90, :] = 150  # lines of the court
        self._chroma = np.full((height // 2, width), 128, np.uint8)
        self.wh = wh

    def draw(self, number: int) -> NDArray[np.uint8]:
        """(H * 3/2, W) planar YUV."""
        width, height = self.wh
        luma = self._ground.copy()
        x = FIRST_PX + (number % crossing(width)) * STEP_PX
        y = height * 2 // 5
        shift = 4
        centre = (round((x - 0.5) * 2**shift), round((y - 0.5) * 2**shift))  # pixel edges -> pixel middles
        cv2.circle(luma, centre, round(BALL_PX / 2 * 2**shift), 240, -1, cv2.LINE_AA, shift)
        return np.vstack([luma, self._chroma])


class GlassFeed(Feed):
    """Draws, encodes and packs a picture when it is due."""

    def __init__(self, scene: Scene, fps: int, log: Any) -> None:
        super().__init__([], garbage=0.0)
        self._scene, self._fps, self._log = scene, fps, log
        sink: Any = type("Sink", (), {"write": lambda _, data: self._pieces.append(bytes(data)) or len(data)})()
        self._rtp = av.open(sink, "w", format="rtp", options={"packetsize": "1200"}, buffer_size=1200)
        self._track: Any = self._rtp.add_stream("libx264", rate=fps)
        self._track.width, self._track.height, self._track.pix_fmt = *scene.wh, "yuv420p"
        self._track.codec_context.options = {**ENCODER, "g": str(fps)}
        self._number = 0
        self.sets: list[bytes] = []
        self._encode()

    async def run(self) -> None:
        started_s = time.monotonic() - self._number / self._fps
        while True:
            await asyncio.sleep(max(0.0, started_s + self._number / self._fps - time.monotonic()))
            self._encode()

    def _encode(self) -> None:
        glass_s = time.monotonic()
        self._log.write(f"{self._number} {glass_s:.6f}\n")
        frame = av.VideoFrame.from_ndarray(self._scene.draw(self._number), "yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, self._fps)
        for packet in self._track.encode(frame):
            if not self.sets:
                units = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
                self.sets = [unit for unit in units if unit and unit[0] & 31 in (7, 8)]
            key = packet.is_keyframe
            self._rtp.mux(packet)
            self._send(key)
        self._number += 1


def description(sets: list[bytes]) -> str:
    import base64

    text = ",".join(base64.b64encode(one).decode() for one in sets)
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=glass\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
        f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets={text}\r\n"
        "a=control:track0\r\n"
    )


async def serve(arguments: argparse.Namespace) -> None:
    width, _, height = arguments.size.partition("x")
    with open(arguments.log, "w", buffering=1, encoding="utf-8") as log:
        feed = GlassFeed(Scene((int(width), int(height))), arguments.fps, log)
        sdp = description(feed.sets)
        arguments.login, arguments.loss, arguments.path = "", 0.0, "live"
        server = await asyncio.start_server(
            lambda reader, writer: Visitor(arguments, feed, sdp).talk(reader, writer), "127.0.0.1", arguments.port
        )
        print("READY", flush=True)
        async with server:
            await feed.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=int, default=25)
    asyncio.run(serve(parser.parse_args()))
