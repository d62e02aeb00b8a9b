"""Which pictures of a live stream are whole: after a loss on the way none is, until the next clean key frame.

A decoder conceals what is missing and says nothing: of the pictures that 1 % of lost packets spoil, one in eleven is marked as
corrupt. FFmpeg's log knows better: every spoilt picture followed a line such as "RTP: missed 3 packets". The log belongs to the
whole process, but its lines come on the thread that reads and decodes, so they are told apart by thread: a live stream must be
decoded without threads of the decoder's own.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator

import av.logging
from av import Packet, VideoFrame
from av.video.stream import VideoStream

__all__ = ["LossWatch"]

FORGIVEN_S = 10.0  # so long without a complaint heals a stream that has no key frames (periodic intra refresh), too

_COMPLAINTS = re.compile(
    r"RTP: missed|max delay reached|error while decoding|[Cc]ould not find ref|Error constructing the frame RPS"
    r"|undecodable NALU|block unavailable|cabac decode|[Mm]issing reference picture|reference picture missing"
    r"|concealing|[Ii]nvalid NAL|non-existing [PS]PS|PPS id out of range|negative number of zero coeff"
    r"|RTP H\.26. NAL unit type|parse header of NALU|missing picture in access unit|no frame!"
    r"|out of range intra chroma|reference count overflow|corrupt(?!ed SEI)|dc exceeds|ac-tex damaged|Overread"
)
_once = threading.Lock()
_listening = False


class LossWatch:
    """Told of every packet read and decoded of one stream, on one thread. Counts pictures that were not whole in `counts`."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.tainted = False
        self._counts = counts
        self._clean_before = True
        self._key_is_clean = False  # a key frame was read without complaint and is still to come out of the decoder
        self._complained_s = 0.0
        _listen()

    @contextlib.contextmanager
    def reading(self) -> Iterator[list[Packet[VideoStream] | None]]:
        """Round the reading and decoding of one packet, which the caller puts into the list."""
        read: list[Packet[VideoStream] | None] = []
        with av.logging.Capture(local=True) as lines:
            yield read
        complaint = any(_COMPLAINTS.search(text) for _, _, text in lines)
        self._note(read[0] if read else None, complaint=complaint)

    def damaged(self) -> None:
        """A packet gave no picture."""
        self._note(None, complaint=True)

    def passes(self, frame: VideoFrame) -> bool:
        """Whether the picture is whole; asked once for each, in the order they are shown."""
        if frame.is_corrupt:
            self._note(None, complaint=True)
        if self.tainted and self._healed(frame):
            self.tainted = self._key_is_clean = False
        self._counts["tainted"] += self.tainted
        return not self.tainted

    def _healed(self, frame: VideoFrame) -> bool:
        if self._key_is_clean and frame.key_frame:
            return True
        return time.monotonic() - self._complained_s > FORGIVEN_S

    def _note(self, packet: Packet[VideoStream] | None, *, complaint: bool) -> None:
        if complaint:
            self.tainted, self._key_is_clean = True, False
            self._complained_s = time.monotonic()
        elif packet is not None and packet.is_keyframe and self._clean_before:
            self._key_is_clean = True  # what misses its beginning is complained of with the packet before it
        self._clean_before = not complaint


def _listen() -> None:
    """Have FFmpeg's log come to Python, where nobody prints it: it holds addresses with their passwords."""
    global _listening
    with _once:
        if _listening:
            return
        _listening = True
        logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
        av.logging.set_skip_repeated(False)  # one camera's line must not swallow another's
        av.logging.set_level(av.logging.WARNING)
        atexit.register(av.logging.set_level, None)  # at the very end there is no Python to log to
