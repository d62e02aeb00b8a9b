"""Huge stills and the picture service: time, tiles and peak memory of each in a process of its own; 64 clients at once.

python benchmarks/bench_images.py                 # both
python benchmarks/bench_images.py --only pictures # a 9000 x 9000 px PDF page and PNG; 30,000 x 30,000 px TIFF, JPEG, PNG
python benchmarks/bench_images.py --only service  # 64 clients, some of whom send bombs: statuses, latency, growth of memory
"""

from __future__ import annotations

import argparse
import base64
import collections
import itertools
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness

PICTURE = """
import json, resource, sys, time
import streamdet
path, model, tile, dpi = sys.argv[1:5]
start = time.perf_counter()
[result] = streamdet.predict(path, model=model, threshold=0.25, tile=int(tile), dpi=float(dpi), backend="onnxruntime",
                             settings={"tiles.whole_frame": True})
found_s = time.perf_counter() - start
result.save_to_json(sys.argv[5]), result.save_to_img(sys.argv[5] + "/drawn.png")
print(json.dumps({"wh": result.wh, "tiles": result.tiles, "boxes": len(result.boxes), "seconds": round(found_s, 1),
    "drawn_wh": result.annotated().shape[1::-1], "drawn_seconds": round(time.perf_counter() - start - found_s, 1),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
"""

CASES = {  # name: file, side px, tile px, how it is written
    "PDF page, 9,000 px": ("page.pdf", 9000, 832, {}),
    "PNG, 9,000 px": ("page.png", 9000, 832, {"compression": 1}),
    "TIFF, deflate strips, 30,000 px": (
        "strips.tif",
        30000,
        832,
        {"compression": "deflate", "predictor": "horizontal"},
    ),
    "TIFF, JPEG tiles, 30,000 px": ("tiles.tif", 30000, 1664, {"compression": "jpeg", "Q": 85, "tile": True}),
    "JPEG, 30,000 px": ("a.jpg", 30000, 1664, {"Q": 85}),
    "PNG, 30,000 px": ("a.png", 30000, 1664, {"compression": 1}),
}


def write(photo: Path, path: Path, side: int, options: dict[str, Any]) -> None:
    """`photo` over and over, as a square picture of `side` px, or on a PDF page that is one at 200 dpi."""
    if path.suffix == ".pdf":
        path.write_bytes(page(photo, side * 72 / 200))
        return
    import pyvips

    image = pyvips.Image.new_from_file(str(photo))
    image = image.replicate(-(-side // image.width), -(-side // image.height)).crop(0, 0, side, side)
    if path.suffix == ".tif":
        options = {"bigtiff": True, **options}
    image.write_to_file(str(path), **options)


def page(photo: Path, side_pt: float) -> bytes:
    """A page with the photo eight times across, each in the resolution it has at 200 dpi."""
    across, down = 8, 14
    width, height = side_pt / across, side_pt / down
    drawing = b"".join(
        b"q %f 0 0 %f %f %f cm /I Do Q\n" % (width, height, x * width, y * height)
        for x in range(across)
        for y in range(down)
    )
    jpeg = photo.read_bytes()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %f %f] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>"
        % (side_pt, side_pt),
        b"<< /Length %d >>\nstream\n" % len(drawing) + drawing + b"\nendstream",
        b"<< /Type /XObject /Subtype /Image /Width 1068 /Height 580 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        b"/Filter /DCTDecode /Length %d >>\nstream\n" % len(jpeg) + jpeg + b"\nendstream",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n" % number + text + b"\nendobj\n"
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(
        b"%010d 00000 n \n" % o for o in offsets
    )
    return (
        body + table + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    )


def pictures(photo: Path, model: Path) -> dict[str, Any]:
    record = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (file, side, tile, options) in CASES.items():
            path = Path(scratch) / file
            write(photo, path, side, options)
            words = [sys.executable, "-c", PICTURE, str(path), str(model), str(tile), "200", scratch]
            row = harness.run_json(words)
            record[name] = {"file_mib": round(path.stat().st_size / 2**20, 1), "tile_px": tile, **row}
            print(f"{name:<34}{json.dumps(record[name])}", file=sys.stderr)
            path.unlink()
    return record


# ---------------------------------------------------------------------------------------------------------------- service


def bombs() -> list[bytes]:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    tiff = (
        b"II*\0"
        + struct.pack("<IH", 8, 2)
        + struct.pack("<HHII", 256, 4, 1, 90_000)
        + struct.pack("<HHII", 257, 4, 1, 90_000)
    )
    return [
        png,
        tiff,
        b"%PDF-1.7 nothing",
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\1\x11\0\2\x11\1\3\x11\1",
        b"nothing",
    ]


def resident_mib(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return round(int(text.split("VmRSS:")[1].split()[0]) / 1024, 1)


def service(photo: Path, model: Path, *, clients: int = 64, rounds: int = 8) -> dict[str, Any]:
    import httpx

    good = json.dumps({"image": base64.b64encode(photo.read_bytes()).decode(), "threshold": 0.4})
    bad = [json.dumps({"image": base64.b64encode(bomb).decode()}) for bomb in bombs()] + ["[" * 50_000, '{"image": 7}']
    statuses: collections.Counter[int] = collections.Counter()
    took_s: list[float] = []
    lock = threading.Lock()
    command = [sys.executable, "-m", "streamdet", "serve", "--port", "0", "--model", str(model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split(" at ")[1].strip()

        def ask(number: int) -> None:
            """Every eighth request is one that has to be refused."""
            with httpx.Client(timeout=300) as client:
                for turn in range(2):
                    harm = (number + turn) % 8 == 0
                    start = time.perf_counter()
                    answer = client.post(url, content=bad[number % len(bad)] if harm else good)
                    with lock:
                        statuses[answer.status_code] += 1
                        if not harm:
                            took_s.append(time.perf_counter() - start)

        alone = [time.perf_counter()]
        for _ in range(5):
            httpx.post(url, content=good, timeout=300).raise_for_status()
            alone.append(time.perf_counter())
        resident = [resident_mib(server.pid)]
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            for number in range(rounds):
                list(pool.map(ask, range(clients)))
                resident.append(resident_mib(server.pid))
                print(f"round {number + 1}: {dict(statuses)}, {resident[-1]} MiB", file=sys.stderr)
        wall_s = time.perf_counter() - started
        server.terminate()
        server.wait(timeout=60)
    return {
        "clients": clients,
        "requests": sum(statuses.values()),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "requests_per_s": round(sum(statuses.values()) / wall_s, 2),
        "seconds": harness.spread(took_s),
        "seconds_alone": harness.spread([b - a for a, b in itertools.pairwise(alone)]),
        "resident_mib": {"before": resident[0], "after each round": resident[1:]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("pictures", "service"))
    only = parser.parse_args().only
    data = harness.shared_data()
    photo, model = data / "images" / "small-vehicles1.jpeg", data / "models" / "yolox_nano_416_coco.onnx"
    if only != "service":
        harness.save("images", {"model": model.name, "pictures": pictures(photo, model)})
    if only != "pictures":
        harness.save("picture_service", {"model": model.name, **service(photo, model)})


if __name__ == "__main__":
    main()
