"""Start-up: `streamdet --help`, `import streamdet`, and the time to the first result of a 1080p file.

python benchmarks/bench_startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

FIRST_RESULT = """
import sys, time
start = time.perf_counter()
import streamdet
for result in streamdet.run(sys.argv[1], model="motion"):
    break
print(time.perf_counter() - start)
"""


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "demo" / "demo.mp4"
        subprocess.run(
            [python, "-m", "streamdet", "demo", "--seconds", "1", "--quiet", "--output", str(film.parent)],
            check=True, capture_output=True,
        )  # fmt: skip
        bare = "import sys; sys.exit()"
        values = harness.alternate(
            {
                "python itself": lambda: seconds([python, "-c", bare]),
                "streamdet --help": lambda: seconds([python, "-m", "streamdet", "--help"]),
                "streamdet run --help": lambda: seconds([python, "-m", "streamdet", "run", "--help"]),
                "import streamdet": lambda: seconds([python, "-c", "import streamdet"]),
                "first result of a 1080p file": lambda: seconds([python, "-c", FIRST_RESULT, str(film)]),
            },
            repeats=9,
        )
    record = {name: harness.spread(times) for name, times in values.items()}
    harness.save("startup", {"seconds": record})
    for name, times in record.items():
        print(f"{name:<32}{times['median']:8.3f} s")


if __name__ == "__main__":
    main()
