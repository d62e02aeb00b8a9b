"""Opening media with PyAV: which options a kind of address gets, and one clear sentence when it cannot be opened.

Every text that comes from FFmpeg holds the whole address with its password: it passes `errors.redact` here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from streamdet.config import SourceConfig
from streamdet.errors import SourceOpenError, SourceRefusedError, redact

__all__ = [
    "ALWAYS_LIVE",
    "descriptor_of",
    "is_address",
    "local_path",
    "open_media",
    "reason_of",
    "scheme_of",
    "video_stream_of",
]

ALWAYS_LIVE = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "udp", "rtp", "srtp", "tcp"})
_HTTP = frozenset({"http", "https"})
_NOT_BUILT_IN = {"srt": "srt-live-transmit", "rist": "ristreceiver"}
_QUICK = {"probesize": "32", "analyzeduration": "0"}  # the stream description says enough: 0.06 s instead of 1.1 s
_PATIENT = {"analyzeduration": "1000000"}


def scheme_of(uri: str) -> str:
    """``rtsp`` of ``rtsp://...``; "" for a path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator and head.replace("+", "").isalnum() else ""


def is_address(uri: str) -> bool:
    """True for something with a scheme other than ``file``: not a path on this machine."""
    return scheme_of(uri) not in ("", "file")


def local_path(uri: str) -> str:
    return uri.removeprefix("file://")


def open_media(
    uri: str,
    config: SourceConfig,
    *,
    format: str | None = None,
    options: dict[str, str] | None = None,
    hwaccel: HWAccel | None = None,
) -> InputContainer:
    """Open a path, an address, or (with `format`) a device. Raises SourceOpenError."""
    if format is None and not is_address(uri):
        path = local_path(uri)
        _check_file(path)
        # "file:" so that a name such as "12:30.mp4" is not taken for a protocol
        return _open(f"file:{path}", uri, config, None, options or {}, hwaccel)
    if scheme_of(uri) in _NOT_BUILT_IN:
        raise SourceOpenError(
            f"cannot open {redact(uri)}: {scheme_of(uri).upper()} is not built into PyAV; receive it with "
            f"{_NOT_BUILT_IN[scheme_of(uri)]} and give its udp:// output"
        )
    wanted = _options(uri, config) if format is None else {}
    container = _open(uri, uri, config, format, {**wanted, **(options or {})}, hwaccel)
    if "probesize" in wanted and not _knows_its_size(container):
        container.close()
        patient = {key: value for key, value in wanted.items() if key not in _QUICK} | _PATIENT
        container = _open(uri, uri, config, format, {**patient, **(options or {})}, hwaccel)
    return container


def _options(uri: str, config: SourceConfig) -> dict[str, str]:
    scheme = scheme_of(uri)
    read_us = str(round(config.read_timeout_s * 1e6))
    if scheme in ("rtsp", "rtsps"):
        return {
            "rtsp_transport": config.rtsp_transport,
            "allowed_media_types": "video",
            "timeout": read_us,
            **_QUICK,
        }
    if scheme.startswith("rtmp"):  # its option "timeout" would mean: wait for somebody to publish
        return dict(_QUICK)
    if scheme in _HTTP:
        return {"rw_timeout": read_us, **({"analyzeduration": "500000"} if ".m3u8" in uri else {})}
    if scheme in ("udp", "tcp"):
        return {"timeout": read_us, **_PATIENT}
    return {}


def _open(
    url: str,
    uri: str,
    config: SourceConfig,
    format: str | None,
    options: dict[str, str],
    hwaccel: HWAccel | None,
) -> InputContainer:
    try:
        return av.open(
            url,
            format=format,
            options=options,
            timeout=(config.open_timeout_s, config.read_timeout_s),
            metadata_errors="replace",
            hwaccel=hwaccel,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        refused = isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError | av.HTTPNotFoundError)
        kind = SourceRefusedError if refused else SourceOpenError
        raise kind(f"cannot open {redact(uri)}: {_why_not(error, uri, config)}") from None


def _knows_its_size(container: InputContainer) -> bool:
    return any(stream.codec_context and stream.width for stream in container.streams.video)


def _check_file(path: str) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise SourceOpenError(f"cannot open {path}: there is no such file; check the name and folder") from None
    except PermissionError:
        raise SourceOpenError(f"cannot open {path}: its folder may not be read by this user") from None
    except (OSError, ValueError) as error:
        raise SourceOpenError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise SourceOpenError(f"cannot open {path}: it is a folder, not a video; name a file in it")
    if stat.S_ISFIFO(status.st_mode):  # it can be opened once, and opening it waits for a writer, for ever
        raise SourceOpenError(f"cannot open {path}: it is a pipe; write a file, or send to an address such as udp://")
    if not os.access(path, os.R_OK):
        raise SourceOpenError(f"cannot open {path}: this user may not read it; change its permissions (chmod +r)")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise SourceOpenError(f"cannot open {path}: the file is empty (0 bytes); record or copy it again")


def video_stream_of(container: InputContainer, uri: str) -> VideoStream:
    """The stream a player would show. Raises SourceOpenError if there is none or no decoder for it."""
    name = redact(uri)
    covers = av.stream.Disposition.attached_pic  # album art of a sound file is no video
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        holds = " and ".join(sorted({s.type for s in container.streams if s.type != "video"}))
        raise SourceOpenError(
            f"cannot use {name}: it has no video stream{f', only {holds}' if holds else ''}; give a file with pictures"
        )
    decodable = [s for s in streams if s.codec_context is not None]
    if not decodable:
        raise SourceOpenError(
            f"cannot use {name}: this FFmpeg has no decoder for its video codec; convert it, for example with "
            "`ffmpeg -i IN -c:v libx264 OUT.mp4`"
        )
    best = container.streams.best("video")
    return best if best in decodable else decodable[0]


def descriptor_of(device: str) -> int | None:
    """The file descriptor by which this process holds `device` open (FFmpeg does not tell); None if not to be found."""
    try:
        wanted, numbers = os.path.realpath(device), os.listdir("/proc/self/fd")
    except OSError:
        return None
    return next((int(number) for number in numbers if os.path.realpath(f"/proc/self/fd/{number}") == wanted), None)


def reason_of(error: BaseException) -> str:
    """FFmpeg's own words for `error`, without the address (and so without its password)."""
    return redact(str(getattr(error, "strerror", None) or error))


def _why_not(error: BaseException, uri: str, config: SourceConfig) -> str:
    for kinds, sentence in _SENTENCES:
        if isinstance(error, kinds):
            return sentence.format(open_s=f"{config.open_timeout_s:g}")
    if isinstance(error, av.InvalidDataError):
        if is_address(uri):
            return "no video came from it; check the address in a player such as VLC"
        if Path(uri).suffix.lower() in (".mp4", ".mov", ".m4v"):
            return (
                "FFmpeg cannot read it: it is no video, damaged, or a recording cut off before its index was written; "
                "check it in a player or repair it"
            )
        return "FFmpeg cannot read it: it is no video or is damaged; check it in a player"
    return f"{reason_of(error)}; check the name and that it can be reached"


_SENTENCES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (
        av.HTTPUnauthorizedError,
        "the user name or password is missing or wrong; write it as scheme://user:password@host",
    ),
    (av.HTTPForbiddenError, "the server forbids it; check the account's rights"),
    (av.HTTPNotFoundError, "the server has no stream of that name; check the path behind the host"),
    (av.error.HTTPError, "the server refused it; check the address and the server's log"),
    (av.error.ProtocolNotFoundError, "FFmpeg here does not know this kind of address; use rtsp, rtmp, http(s) or udp"),
    (ConnectionRefusedError, "nothing listens there; check host and port, and that the server runs"),
    ((av.error.ExitError, TimeoutError), "no answer within {open_s} s; check host, network and firewall"),
    (FileNotFoundError, "there is no such file or device; check its name"),
    (PermissionError, "this user may not read it; change its permissions (a camera: add the user to group video)"),
)
