"""A recording's decoding threads give way to the thread that uses the pictures: they are ahead of it anyway."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import av
from av.video.codeccontext import VideoCodecContext

__all__ = ["BEHIND", "open_behind"]

BEHIND = 5  # nice levels: a third of the processor where there is not enough


def open_behind(codec: VideoCodecContext) -> None:
    """Open `codec`, whose threads are to decode ahead, with less claim to the processor than the calling thread.

    Threads inherit it from the one that makes them, which can never take it back: so it is one of its own. What fails here will
    fail when the first packet comes, too.
    """

    def start() -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "linux":  # elsewhere processes have it, threads do not
                thread = threading.get_native_id()
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + BEHIND)
        with contextlib.suppress(av.FFmpegError, ValueError, OSError):
            codec.open(strict=False)

    thread = threading.Thread(target=start, name="open-codec", daemon=True)
    thread.start()
    thread.join()
