#!/usr/bin/env python3
"""Names the comment lines of Rust code that are wider than 110 columns; fails if there are any. rustfmt does not wrap comments."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
COLUMNS = 110
PATTERNS = [f"{directory}/*.rs" for directory in ["src", "tests", "benches", "fuzz", "examples"]]


def is_too_wide(line: str) -> bool:
    """Whether the line is a comment that can be wrapped: not a row of a table, and not one long URL."""
    text = line.strip()
    words = text.lstrip("/! ").split()
    is_table = text.lstrip("/!").strip().startswith("|")
    return text.startswith("//") and len(line) > COLUMNS and not is_table and len(words) > 1


def main() -> int:
    listed = subprocess.run(["git", "ls-files", *PATTERNS], cwd=ROOT, capture_output=True, text=True, check=True)
    found = 0
    for name in listed.stdout.splitlines():
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if is_too_wide(line):
                print(f"{name}:{number}: {len(line)} columns, of which comments may use {COLUMNS}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
