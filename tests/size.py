"""Print every Python file of over 400 lines and every line of over 100 columns; fail on any.

`make check` runs this as `python -m tests.size`.
"""

import subprocess
import sys
from pathlib import Path

LINES = 400
COLUMNS = 100


def main() -> int:
    command = ["git", "ls-files", "*.py"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # a file that was removed is listed until the removal is committed
    paths = [path for path in map(Path, listed.splitlines()) if path.exists()]
    too_long = 0
    for path in paths:
        lines = path.read_text().splitlines()
        if len(lines) > LINES:
            too_long += 1
            print(f"{path}: {len(lines)} lines")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                too_long += 1
                print(f"{path}:{number}: {len(line)} columns")
    limits = f"over {LINES} lines or {COLUMNS} columns"
    print(f"{len(paths)} Python files, {too_long} files and lines {limits}")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
