"""Writes a file whole or not at all: a reader never sees half of it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Generator[IO[Any], None, None]:
    """Open `<path>.partial`, and rename it to `path` when the block ends without an error.

    Text is UTF-8; what UTF-8 cannot express, a lone surrogate, becomes `?`. A failed block leaves
    `path` as it was, and no partial file.

    A device, such as /dev/stdout, is written to directly.

    Raises:
        OSError: the disk is full, read-only, ...
    """
    partial = path.with_name(f"{path.name}.partial")
    is_text = "b" not in mode
    encoding, errors = ("utf-8", "replace") if is_text else (None, None)
    if path.exists() and not path.is_file():
        with path.open(mode, encoding=encoding, errors=errors) as file:
            yield file
        return
    try:
        with partial.open(mode, encoding=encoding, errors=errors) as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
