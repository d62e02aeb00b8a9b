"""Writes the tables of README.md from the records in benchmarks/results: numbers there are never typed.

    python benchmarks/readme_tables.py            # rewrite README.md
    python benchmarks/readme_tables.py --check    # fail if it is not what the records say
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Rows = list[list[str]]


def table(header: list[str], rows: Rows) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def startup(record: dict[str, Any]) -> str:
    rows = [[name, f"{times['median']:.2f} s"] for name, times in record["seconds"].items()]
    return table(["start-up", "median"], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"startup": startup}


def rendered(text: str) -> str:
    """`text` with every ``<!-- table:NAME -->...<!-- end -->`` block filled from results/NAME.json."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        machine = record["machine"]
        where = f"`benchmarks/results/{name}.json`: {machine['cores']} cores {machine['processor']}, {machine['date'][:10]}, commit {machine['commit'][:7]}"
        return f"<!-- table:{name} -->\n{TABLES[name](record)}\n\n<sub>{where}</sub>\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->.*?<!-- end -->", fill, text, flags=re.S)


def main() -> None:
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = rendered(before)
    if "--check" in sys.argv:
        if before != after:
            sys.exit("README.md does not match benchmarks/results: run python benchmarks/readme_tables.py")
        return
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
