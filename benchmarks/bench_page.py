"""How old a picture is when the page shows it: from the decoder to the canvas of a real browser, by the frame's own time.

A station plays a film made here (the rendered scene as H.264, in real time); Chromium opens its large view; a drawn frame's age
is the browser's clock minus the frame's ``utc``, both of this machine. Beside it: frames shown of frames processed, pictures
encoded, with one and with four viewers. Needs chromium and ``pip install 'streamdet[test]'``.

    python benchmarks/bench_page.py [--seconds 20] [--model motion] [--size 1280x720]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
from harness import save, spread

from streamdet.config import CameraConfig, Config, ServeConfig, SourceConfig, with_values
from streamdet.overlay import Overlay
from streamdet.service.front import front
from streamdet.sinks.hub import Hub
from streamdet.sources.demo import DemoSource
from streamdet.station import Station

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FPS = 25

# every drawn frame's number and age, once
COLLECT = """
window.ages = [];
new MutationObserver((changes) => {
  for (const { target, attributeName } of changes) {
    if (attributeName === "data-age") ages.push([Number(target.dataset.frame), Number(target.dataset.age)]);
  }
}).observe(document.querySelector(".stage canvas"), { attributes: true, attributeFilter: ["data-age"] });
"""


def film(path: Path, size: str, seconds: int) -> None:
    config = SourceConfig(demo_size=size, demo_seconds=seconds, fps=FPS)
    with DemoSource(stream="film", config=config) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        width, height = map(int, size.split("x"))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = FPS
        for frame in source:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame.picture.bgr, format="bgr24")))
        out.mux(stream.encode(None))


def measure(browser: Any, url: str, hub: Hub, *, viewers: int, seconds: float) -> dict[str, Any]:
    pages = [browser.new_context(viewport={"width": 1360, "height": 860}).new_page() for _ in range(viewers)]
    for page in pages:
        page.goto(f"{url}/#/camera/court")
        page.wait_for_selector(".stage canvas[data-frame]", timeout=60_000)
    time.sleep(3)
    for page in pages:
        page.evaluate(COLLECT)
    encoded, processed = hub.encoded, hub.tally("court").totals().frames
    time.sleep(seconds)
    encoded, processed = hub.encoded - encoded, hub.tally("court").totals().frames - processed
    rows = [row for page in pages for row in page.evaluate("ages")]
    for page in pages:
        page.context.close()
    return {
        "viewers": viewers,
        "seconds": seconds,
        "age_ms": spread(age for _, age in rows),
        "frames_processed": processed,
        "frames_shown_per_viewer": round(len(rows) / viewers, 1),
        "pictures_encoded": encoded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", default="motion")
    parser.add_argument("--size", default="1280x720")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or sys.exit("no chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        film(Path(folder) / "court.mp4", arguments.size, 30)
        config = with_values(
            Config(cameras={"court": CameraConfig(source=f"{folder}/court.mp4")}, serve=ServeConfig(port=0)),
            {"model.name": arguments.model, "store.path": f"{folder}/events.db"},
        )
        hub = Hub()
        station = Station(config, hub=hub)
        server = stack.enter_context(front(station, hub, config, overlay=Overlay(Path(folder) / "page.json")))
        thread = threading.Thread(target=station.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(station.stop)
        station.ready.wait(60)
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=FLAGS)
        unwatched_s, encoded = 5.0, hub.encoded
        time.sleep(unwatched_s)
        record = {
            "source": {"size": arguments.size, "fps": FPS, "codec": "h264", "played": "in real time"},
            "model": station.describe(),
            "load_before": round(os.getloadavg()[0], 2),  # what else the machine was doing
            "unwatched": {"seconds": unwatched_s, "pictures_encoded": hub.encoded - encoded},
            "views": [measure(browser, server.url, hub, viewers=n, seconds=arguments.seconds) for n in (1, 4)],
        }
        browser.close()
    save("page", record)
    for view in record["views"]:
        age = view["age_ms"]
        print(f"{view['viewers']} viewers: age p50 {age['median']:.0f} ms, p95 {age['p95']:.0f} ms; {view}")


if __name__ == "__main__":
    main()
