"""The page as a person uses it: a real station, a real browser, mouse and keys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from station_up import Running, running

from streamdet.config import CameraConfig, SourceConfig
from streamdet.sources.demo import DemoSource

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
WAIT_MS = 90_000  # the machine may be busy with other things

# where marks are drawn, told by the canvas itself
SPY = """
window.marks = [];
const arc = CanvasRenderingContext2D.prototype.arc;
CanvasRenderingContext2D.prototype.arc = function (x, y, r, ...rest) {
  if (this.canvas.closest(".stage") && r >= 7) marks.push([Math.round(x), Math.round(y)]);
  return arc.call(this, x, y, r, ...rest);
};
"""

# of the picture in the large view: 0..255, by every hundredth pixel
BRIGHTNESS = """() => {
  const canvas = document.querySelector(".stage canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0, count = 0;
  for (let i = 0; i < data.length; i += 400, count++) sum += (data[i] + data[i + 1] + data[i + 2]) / 3;
  return sum / count;
}"""

# the film runs, and its pictures are not black
PLAYING = """() => {
  const video = document.querySelector("#sheet video");
  if (!video || video.currentTime < 0.2 || video.videoWidth !== 640) return false;
  const small = Object.assign(document.createElement("canvas"), { width: 16, height: 9 }).getContext("2d");
  small.drawImage(video, 0, 0, 16, 9);
  const { data } = small.getImageData(0, 0, 16, 9);
  return data.reduce((sum, value) => sum + value, 0) / data.length > 100; // black and opaque: 64
}"""

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt: chromium)"),
]


def film(path: Path) -> Path:
    """Twelve seconds of the rendered scene as H.264, a key frame each second."""
    config = SourceConfig(demo_size="640x360", demo_seconds=12, fps=15, demo_movers=6)
    with DemoSource(stream="film", config=config) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.gop_size = 15
        for frame in source:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame.picture.bgr, format="bgr24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    cameras = {
        "court": CameraConfig(source=str(film(folder / "court.mp4"))),
        "gate": CameraConfig(source="rtsp://viewer:opensesame@127.0.0.1:9/nothing"),
    }
    recorded = {"record.dir": str(folder / "recorded"), "record.on": ["new", "enter"]}
    with running(folder, cameras=cameras, settings={**recorded, "record.pre_s": 1, "record.post_s": 1}) as up:
        up.wait_for_frames("court")
        yield up


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh profile; a fault in the page's own code fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 860}, color_scheme="dark")
    context.set_default_timeout(WAIT_MS)
    faults: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.add_init_script(SPY)
    yield opened
    context.close()
    assert faults == []


def test_the_grid_shows_moving_pictures_and_what_is_lost(station: Running, page: Any, tmp_path: Path) -> None:
    page.goto(station.url)
    page.wait_for_selector(".tile canvas[data-frame]")
    first = int(page.get_attribute(".tile canvas[data-frame]", "data-frame"))
    page.wait_for_function("n => Number(document.querySelector('.tile canvas').dataset.frame) > n", arg=first + 3)
    page.wait_for_function("() => document.querySelector('#sum').textContent.includes('1 of 2 live')")
    lost = page.locator(".tile", has_text="gate").locator(".say")
    lost.wait_for()
    assert "opensesame" not in page.content()
    page.screenshot(path=tmp_path / "grid.png")


def test_the_large_view_draws_marks_that_move(station: Running, page: Any, tmp_path: Path) -> None:
    page.goto(station.url)
    page.click(".tile >> text=court")
    page.wait_for_function("() => new Set(marks.map(String)).size >= 12")
    marks = page.evaluate("marks")
    width, height = page.evaluate(
        "[document.querySelector('.stage canvas').clientWidth, document.querySelector('.stage canvas').clientHeight]"
    )
    assert all(-40 <= x <= width + 40 and -40 <= y <= height + 40 for x, y in marks)
    dark = page.evaluate(BRIGHTNESS)
    assert 40 < dark < 220  # a picture, not an empty canvas
    page.wait_for_function("() => document.querySelectorAll('.chart b')[1].textContent !== '–'")
    page.screenshot(path=tmp_path / "large.png")
    page.click("text=Pause")
    page.locator(".stage .say", has_text="Paused").wait_for()
    page.click("text=Resume")
    page.wait_for_function("() => !document.querySelector('.stage .say')")


def test_an_event_appears_and_its_clip_plays(station: Running, page: Any, tmp_path: Path) -> None:
    page.goto(station.url)
    page.wait_for_selector(".event")
    before = station.client.get("/api/events?type=new&limit=1").json()["events"][0]["id"]
    page.wait_for_function("id => [...document.querySelectorAll('.event')].some(e => e.dataset.id > id)", arg=before)
    station.wait(lambda: clip_that_is_there(station), timeout_s=120)
    known = clip_that_is_there(station)
    page.reload()
    page.click(f".event[data-id='{known}']")
    page.wait_for_function(
        "() => { const v = document.querySelector('#sheet video'); return v && v.currentTime > 0.2 && v.videoWidth === 640; }"
    )
    page.screenshot(path=tmp_path / "clip.png")
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('#sheet').open")


def clip_that_is_there(up: Running) -> str:
    for event in up.client.get("/api/events?type=end&type=new&limit=60").json()["events"]:
        name = event.get("clip", "").split("#")[0]
        if event["type"] == "end" and name and up.client.head(f"/{name}").status_code == 200:
            part = up.client.get(f"/{name}", headers={"range": "bytes=0-99"})
            assert (part.status_code, len(part.content)) == (206, 100)
            return str(event["id"])
    return ""


def test_a_zone_drawn_with_the_mouse_tells_who_enters(station: Running, page: Any, tmp_path: Path) -> None:
    page.goto(f"{station.url}/#/camera/court")
    page.wait_for_selector(".stage canvas[data-frame]")
    page.click("[data-edit]")
    page.click("[data-draw=zone]")
    canvas = page.locator(".stage canvas").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return canvas["x"] + canvas["width"] * x, canvas["y"] + canvas["height"] * y

    for corner in ((0.02, 0.03), (0.98, 0.03), (0.98, 0.97), (0.02, 0.97)):
        page.mouse.click(*at(*corner), delay=30)
    page.keyboard.press("Enter")
    page.fill(".editor label:has-text('Name') input", "Everywhere")
    page.click("[data-draw=line]")  # pressed, drawn, let go
    page.mouse.move(*at(0.5, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.5, 0.5), steps=4)
    page.mouse.move(*at(0.5, 0.9), steps=4)
    page.mouse.up()
    page.screenshot(path=tmp_path / "editor.png")
    page.click(".editor >> text=Save")
    page.wait_for_selector(".editor", state="detached")
    kept = station.client.get("/api/cameras/court/zones").json()
    (zone,), (line,) = kept["zones"], kept["lines"]
    assert zone["name"] == "Everywhere"
    assert [pytest.approx(value, abs=0.01) for value in (0.02, 0.03)] == zone["polygon"][0]
    assert line["start"] == [pytest.approx(0.5, abs=0.01), pytest.approx(0.1, abs=0.01)]
    entered = page.locator(".event[data-type=enter]", has_text="Everywhere").first
    entered.wait_for()
    page.screenshot(path=tmp_path / "entered.png")
    station.client.put("/api/cameras/court/zones", json={})


def test_a_camera_is_added_and_removed(station: Running, page: Any) -> None:
    page.goto(station.url)
    page.click(".heading >> text=Add camera")
    page.fill("#sheet [name=name]", "yard")
    page.fill("#sheet [name=source]", "rtsp://127.0.0.1/x")
    page.click("#sheet .strong")
    page.locator("#sheet .error", has_text="127.0.0.1").wait_for()  # the API's own sentence
    page.fill("#sheet [name=source]", "demo")
    page.click("#sheet .strong")
    page.click(".tile >> text=yard")
    page.wait_for_selector(".stage canvas[data-frame]")
    page.click("[aria-label='Remove camera']")
    page.click("#sheet .strong")
    page.wait_for_selector(".cameras")
    page.wait_for_function("() => ![...document.querySelectorAll('.tile .name')].some(n => n.textContent === 'yard')")
    assert station.client.get("/api/cameras/yard").status_code == 404


def test_keys_themes_and_a_phone(station: Running, browser: Any, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="light", has_touch=True)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(station.url)
    page.wait_for_selector(".tile canvas[data-frame]")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus(".tile")
    page.keyboard.press("Enter")
    page.wait_for_selector(".stage canvas[data-frame]")
    assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
    page.screenshot(path=tmp_path / "phone.png")
    page.tap("#show-events")
    page.wait_for_function("() => document.querySelector('#rail').classList.contains('open')")
    page.wait_for_selector(".event")
    page.tap("[aria-label='Close events']")
    page.tap("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("Escape")
    page.wait_for_selector(".cameras")
    context.close()


def test_a_station_that_goes_away_is_told_and_comes_back(tmp_path: Path, page: Any) -> None:
    from streamdet.config import ServeConfig

    with running(tmp_path) as up:
        port = int(up.url.rsplit(":", 1)[1])
        page.goto(up.url)
        page.wait_for_selector(".tile canvas[data-frame]")
    page.wait_for_function("() => document.querySelector('#link').dataset.state === 'lost'")
    page.locator(".say", has_text="Not connected").wait_for()
    page.screenshot(path=tmp_path / "gone.png")
    with running(tmp_path, serve=ServeConfig(port=port)):
        page.wait_for_function("() => document.querySelector('#link').dataset.state === 'open'")
        page.wait_for_function("() => !document.querySelector('.tile .say')")
