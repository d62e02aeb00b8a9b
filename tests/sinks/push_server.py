"""A server that takes pushed streams, on FFmpeg's own listening mode: ``python push_server.py rtsp://127.0.0.1:PORT/live``.

Says READY before it listens, then a line ``SCHEME FRAMES LEVEL`` for every frame (LEVEL: mean of its middle).
Takes one session after another.
"""

from __future__ import annotations

import sys
import time

import av


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def serve(url: str) -> None:
    is_rtsp = url.startswith("rtsp")
    options = {"rtsp_flags": "listen", "listen_timeout": "60"} if is_rtsp else {"listen": "1"}
    if not is_rtsp:
        options["fflags"] = "nobuffer"
    while True:
        say("READY")
        count = 0
        try:
            with av.open(
                url, format=None if is_rtsp else "flv", options={**options, "probesize": "32768"}
            ) as container:
                for frame in container.decode(video=0):
                    count += 1
                    middle = frame.to_ndarray(format="gray")[frame.height // 2 :, frame.width // 2 :][:16, :16]
                    say(url.split(":")[0], count, f"{middle.mean():.1f}")
        except (OSError, av.FFmpegError) as error:
            say("LOST", type(error).__name__)
        time.sleep(0.1)


if __name__ == "__main__":
    serve(sys.argv[1])
