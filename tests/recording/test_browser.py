"""A clip in a real browser: it starts where the event's address says, and plays to its end."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from recording_stage import record
from source_clips import encode, moving_bgr

from streamdet.config import RecordConfig
from streamdet.recording.names import media_file

PAGE = """<body><video id=v muted autoplay></video><pre id=o></pre><img src=/slow><script>
const v = document.getElementById('v'), o = document.getElementById('o'); let first = null;
v.addEventListener('timeupdate', () => { first ??= v.currentTime || null;
  o.textContent = `${first} ${v.currentTime} ${v.duration} ${v.getVideoPlaybackQuality().totalVideoFrames} ${v.ended}`; });
v.addEventListener('error', () => { o.textContent = 'ERROR ' + v.error.message; });
v.src = location.hash.slice(1);
</script></body>"""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --autoplay-policy=no-user-gesture-required --timeout=40000 --dump-dom"
)


class Pages(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/slow":  # the browser prints the page once all of it is there
            time.sleep(6)
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()  # browsers seek only where ranges are answered
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(data[first : last + 1])


@pytest.mark.parametrize("kind", ["with B-frames", "without"])
def test_a_clip_plays_in_chromium(tmp_path: Path, folder: Path, kind: str) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    options = {"bf": "3" if kind == "with B-frames" else "0", "g": "25"}
    source = encode(tmp_path / "a.ts", moving_bgr((160, 120), 150), options=options)
    told = record(source, folder, RecordConfig(pre_s=0.5, post_s=0.5), {60: [("new", 1)], 70: [("end", 1)]})
    clip = told[0].clip or ""
    assert media_file(folder, clip) is not None
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "media").symlink_to(folder)
    handler = functools.partial(Pages, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/page.html#/{clip}"
        command = [chromium, *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", url]
        dumped = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False).stdout
        server.shutdown()
        thread.join()
    seen = re.search(r'<pre id="o">([^<]*)</pre>', dumped)
    assert seen is not None, dumped
    first, now, length, frames, ended = seen.group(1).split()
    assert float(length) == pytest.approx(2.4, abs=0.3)
    assert float(first) >= float(clip.split("#t=")[1]) - 0.05 >= 0.5
    assert ended == "true"
    assert float(now) == pytest.approx(float(length), abs=0.1)
    assert int(frames) > 20
