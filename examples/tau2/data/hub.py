"""Reads files of data sets on the Hugging Face hub, which are named by URLs.

A URL is `hf://datasets/<owner>/<name>[@<revision>]/<file>`. `pinned` names the revision by its
commit, so that all processes of a run read the same data. `local_path` finds a file in the hub's
cache on this machine; what is missing is downloaded, once for all processes of the machine.
"""

import os
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import httpx

SCHEME = "hf://"

_URL = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/@]+))?/(.+\.jsonl?)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(ValueError):
    """A file of the hub cannot be read; the message says why, and what to do."""


class HubFile(NamedTuple):
    """A file of a data set; without a revision, it is that of the hub's branch main."""

    data_set: str
    revision: str | None
    file: str


def is_hub_file(path: str) -> bool:
    """Whether a path is the URL of a file on the hub."""
    return path.startswith(SCHEME)


@cache
def pinned(url: str, earlier: str = "") -> str:
    """Return the URL with the commit that its revision is now.

    In a process, a URL keeps its commit. Without a network, the commit is that of the last
    download. If `earlier` is a pinned URL of the same file, its commit is kept, unless the URL
    names a commit itself.

    Raises:
        HubError: the URL is malformed, or the file cannot be downloaded.
    """
    hub_file = _parse(url)
    commit = hub_file.revision
    if commit is None or not _COMMIT.fullmatch(commit):
        match = _URL.fullmatch(earlier)
        if match and (match[1], match[3]) == (hub_file.data_set, hub_file.file):
            return earlier
        # in the hub's cache, a file is at snapshots/<commit>/<file>
        copy = Path(_download(hub_file))
        commit = copy.parents[hub_file.file.count("/")].name
    return f"{SCHEME}datasets/{hub_file.data_set}@{commit}/{hub_file.file}"


def local_path(path: str) -> str:
    """Return the path of a file on this machine: of a URL's copy, or with `~` expanded.

    Raises:
        HubError: the URL is malformed, or the file cannot be downloaded.
    """
    return _download(_parse(pinned(path))) if is_hub_file(path) else os.path.expanduser(path)


@cache
def local_database(url: str, db_path: str) -> str:
    """Return the local path of a database, which is named relative to the folder of a file.

    Raises:
        ValueError: the database is not under the folder.
        HubError: the database cannot be downloaded.
    """
    hub_file = _parse(pinned(url))
    folder = posixpath.join("/", posixpath.dirname(hub_file.file), "")
    file = posixpath.normpath(folder + db_path)
    if db_path.startswith("/") or not file.startswith(folder):
        raise ValueError(f"db_path {db_path!r} leads out of the file's folder")
    return _download(hub_file._replace(file=file.lstrip("/")))


def _parse(url: str) -> HubFile:
    match = _URL.fullmatch(url)
    if match is None or posixpath.normpath(f"/{match[3]}") != f"/{match[3]}":
        raise HubError(
            "the URL of a file on the hub is hf://datasets/<owner>/<name>[@<revision>]/<file>, "
            "and the file is *.jsonl or *.json"
        )
    return HubFile(match[1], match[2] and unquote(match[2]), match[3])


def _download(hub_file: HubFile) -> str:
    """Return the path of a file in the hub's cache; download it if the cache lacks it."""
    # the import takes 0.4 s, and few runs need the hub
    from huggingface_hub import constants, errors, hf_hub_download

    name, revision, file = hub_file
    hub = constants.ENDPOINT
    not_cached = "and the hub's cache on this machine does not have it"
    try:
        return hf_hub_download(name, file, repo_type="dataset", revision=revision)
    except errors.LocalEntryNotFoundError as error:
        obstacle = f"{hub} does not give {file}"
        if constants.HF_HUB_OFFLINE:
            obstacle = f"HF_HUB_OFFLINE=1 forbids to download {file}"
        raise HubError(f"{obstacle}, {not_cached}") from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"the data set {name} has no file {file}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"the data set {name} has no revision {revision}") from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"the data set {name} is gated: ask for access at {hub}/datasets/{name}, "
            "and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{hub} has no data set {name}, or it is private: correct the name, or set HF_TOKEN"
        ) from error
    except errors.HFValidationError as error:
        raise HubError(f"{name} is no name of a data set") from error
    except RuntimeError as error:
        # huggingface_hub 1.12 sends requests by a client that it closed after a failed connection
        raise HubError(f"{hub} does not give {file}, {not_cached}") from error
    except httpx.HTTPError as error:
        hint = " (check HF_TOKEN)" if "401" in str(error) else ""
        cause = str(error).partition("\n")[0]
        raise HubError(f"{hub} does not give {file}{hint}: {cause}") from error
