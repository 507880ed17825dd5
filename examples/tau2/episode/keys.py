"""API keys in environment variables: without the line break that a key from a file ends in."""

import os
from collections.abc import Iterator, Mapping, MutableMapping


def strip_keys(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove white space around each key; a key that is then empty counts as not set."""
    for name in _key_names(environ):
        key = environ.pop(name).strip()
        if key:
            environ[name] = key


def key_problems(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the variables whose key cannot be sent to a server. No message contains the key."""
    for name in _key_names(environ):
        key = environ[name].strip()
        if any(not letter.isprintable() or letter.isspace() for letter in key):
            flaw = "white space or control characters within the key"
        elif not key.isascii():
            flaw = "characters that are not ASCII"
        elif key[:1] in ("'", '"'):
            flaw = "quotes around the key"
        else:
            continue
        yield f"{name} has {flaw}; set it to the key alone"


def _key_names(environ: Mapping[str, str]) -> list[str]:
    tokens = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    return [name for name in environ if name.endswith("_API_KEY") or name in tokens]
