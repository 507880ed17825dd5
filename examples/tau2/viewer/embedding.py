"""Prepares data for the page: compressed JSON with texts that browsers can lay out."""

import base64
import json
import re
import zlib
from typing import Any

# bytes of documents that are compressed together
CHUNK_SIZE = 1 << 20
# the page shows at most this number of characters of a text
MAX_TEXT = 100_000
# at most this number of characters stand without a space or a place to break: browsers take long
# to lay out longer runs
MAX_RUN = 500

_LONG_RUN = re.compile(rf"\S{{{MAX_RUN}}}(?=\S)")
_BREAK_HERE = "\u200b"


class Packer:
    """Compresses documents in chunks of about `CHUNK_SIZE` bytes of JSON.

    A chunk is a JSON array, deflated, in base64.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._waiting: list[str] = []
        self._size = 0

    def add(self, document: Any) -> tuple[int, int]:
        """Add a document, and return the number of its chunk and its position there."""
        if self._size >= CHUNK_SIZE:
            self._compress()
        self._waiting.append(browser_json(document))
        self._size += len(self._waiting[-1])
        return len(self._chunks), len(self._waiting) - 1

    def chunks(self) -> list[str]:
        """Return the chunks with all documents so far."""
        if self._waiting:
            self._compress()
        return self._chunks

    def _compress(self) -> None:
        array = f"[{','.join(self._waiting)}]".encode("utf-8", "replace")
        self._chunks.append(base64.b64encode(zlib.compress(array)).decode())
        self._waiting, self._size = [], 0


def browser_json(value: Any) -> str:
    """Write JSON that a browser reads: a number that is not finite becomes null."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if "NaN" in text or "Infinity" in text:
        finite = json.loads(text, parse_constant=lambda _: None)
        text = json.dumps(finite, ensure_ascii=False)
    return text


def bound_texts(value: Any) -> Any:
    """Copy JSON data with texts that a browser can lay out: cut, and with places to break."""
    if isinstance(value, dict):
        return {key: bound_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [bound_texts(inner) for inner in value]
    if not isinstance(value, str) or len(value) <= MAX_RUN:
        return value
    if len(value) > MAX_TEXT:
        left_out = len(value) - MAX_TEXT
        value = f"{value[:MAX_TEXT]}\n[{left_out:,} more characters are in the trajectory]"
    return _LONG_RUN.sub(rf"\g<0>{_BREAK_HERE}", value)
