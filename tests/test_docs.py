"""What README.md, CHANGELOG.md and docs/ name is there: links, files, make targets, options."""

import re
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from examples.tau2.utils import Tau2PPOConfig

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
AENV_README = ROOT / "aenv/examples/tau2_rl/README.md"
PAGES = [README, ROOT / "CHANGELOG.md", AENV_README, *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("examples", "aenv", "tests", "benchmarks", "chaos", "docs", "requirements")

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCED_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INDENTED_CODE = re.compile(r"^ {4}.*$", re.MULTILINE)
FOLDER_PATH = re.compile(rf"(?<![\w/.<>-])(?:{'|'.join(FOLDERS)})/[\w./-]*")
FILE_NAME = re.compile(r"(?<![\w/.<>*-])[\w./-]*\w\.(?:py|yaml|jinja|toml)\b")
MODULE = re.compile(r"python3? -m ((?:benchmarks|tests|aenv|examples)[\w.]*)")
MAKE_TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
SECTIONS = "econfig|cluster|actor|rollout|recover|saver|stats_logger|train_dataset|valid_dataset"
OPTION = re.compile(rf"(?<![\w./])(?:{SECTIONS})(?:\.\w+|\[\d\])+")

# files of a run, and not of the repository
WRITTEN_BY_RUNS = {"actor.sh", "config.yaml", "rollout.log", "rollout.sh"}
# messages that AReaL prints, not this project
MESSAGES_OF_AREAL = {"This trajectory will be rejected"}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def code_of(text: str) -> str:
    """Return the code spans and code blocks of a page."""
    blocks = FENCED_CODE.findall(text)
    text = FENCED_CODE.sub("", text)
    return "\n".join([*blocks, *INDENTED_CODE.findall(text), *INLINE_CODE.findall(text)])


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = FENCED_CODE.sub("", page.read_text())
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {heading.strip().replace(" ", "-") for heading in kept}


@cache
def repository_files() -> tuple[str, ...]:
    """Return the paths of the files in the repository's folders, relative to its root."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.glob("*") if path.is_file()]
    return tuple(str(path.relative_to(ROOT)) for path in files)


@every_page
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@every_page
def test_files_that_are_named_exist(page):
    text = page.read_text()
    for path in FOLDER_PATH.findall(text):
        assert (ROOT / path.rstrip(".")).exists(), path
    for name in FILE_NAME.findall(code_of(text)):
        ending = f"/{name.removeprefix('./')}"
        is_there = any(f"/{path}".endswith(ending) for path in repository_files())
        assert is_there or Path(name).name in WRITTEN_BY_RUNS, name
    for module in MODULE.findall(text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@every_page
def test_make_targets_that_are_named_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(MAKE_TARGET.findall(code_of(page.read_text()))) <= targets


def test_the_readme_can_be_read_in_one_sitting():
    text = README.read_text()
    assert len(text.splitlines()) <= 200
    assert len(text.encode()) <= 12 * 1024
    assert "make demo" in text and "make test" in text


def test_the_readme_links_every_page():
    linked = {
        (ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(README.read_text())
    }
    assert {page for page in PAGES if page != README} <= linked


def test_names_in_the_table_of_places_are_in_the_files_that_it_names():
    text = (ROOT / "docs/development.md").read_text()
    table = text.partition("## Where a thing is changed")[2].partition("\n## ")[0]
    for line in table.splitlines():
        spans = INLINE_CODE.findall(line)
        files = [ROOT / span for span in spans if span.endswith(".py") and "/" in span]
        sources = "\n".join(path.read_text() for path in files)
        for name in spans:
            is_option, is_file = OPTION.fullmatch(name), name.endswith(".py")
            is_name = name.replace(".", "").isidentifier() and not is_option and not is_file
            assert not files or not is_name or name.rpartition(".")[2] in sources, name


# -- options -----------------------------------------------------------------------------------


def has_option(config_class: Any, option: str) -> bool:
    """Whether a config class, or a section of it, has an option such as `a.b[0].c`."""
    kind = config_class
    for part in option.replace("[", ".").replace("]", "").split("."):
        kind = without_none(kind)
        if typing.get_origin(kind) in (list, tuple) and part.isdigit():
            kind = typing.get_args(kind)[0]
        elif is_dataclass(kind) and part in {field.name for field in fields(kind)}:
            kind = typing.get_type_hints(kind)[part]
        else:
            # a dict has any key
            return kind is dict or typing.get_origin(kind) is dict
    return True


def without_none(kind: Any) -> Any:
    """Return the X of `X | None`, and any other type as it is."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    return next(choice for choice in typing.get_args(kind) if choice is not type(None))


def cells_of(line: str) -> list[str]:
    """Return the cells of a table's line; a `|` within a cell is escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def option_rows(page: Path) -> list[tuple[list[str], str | None]]:
    """Return (options, default) of each row of the page's tables of options; None if no default."""
    rows = []
    table = None
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            table = None
            continue
        cells = cells_of(line)
        if table is None:
            table = cells
        elif table[0] == "option" and not line.startswith("|-"):
            default = cells[1] if table[1] == "default" else ""
            code = INLINE_CODE.findall(default)
            rows.append((INLINE_CODE.findall(cells[0]), code[0] if code else None))
    return rows


@pytest.mark.parametrize("page", [README, ROOT / "docs/configuration.md"], ids=page_id)
def test_tables_of_options_say_what_is(page):
    rows = option_rows(page)
    defaults = OmegaConf.structured(Tau2PPOConfig)
    assert len(rows) >= 10
    for options, default in rows:
        for option in options:
            assert has_option(Tau2PPOConfig, option), option
            if default is not None:
                assert OmegaConf.select(defaults, option) == yaml.safe_load(default), option


def test_the_readme_has_ten_options():
    assert len(option_rows(README)) == 10


@every_page
def test_options_that_are_named_exist(page):
    for option in set(OPTION.findall(page.read_text())) - WRITTEN_BY_RUNS:
        assert has_option(Tau2PPOConfig, option), option


@pytest.mark.parametrize(
    "option, exists",
    [
        ("econfig.domain", True),
        ("actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR", True),
        ("valid_dataset.dataset_kwargs.domains", True),
        ("econfig.domian", False),
        ("econfig.domain.name", False),
        ("actor.scheduling_spec[0].gpus", False),
    ],
)
def test_options_are_told_from_mistakes(option, exists):
    assert has_option(Tau2PPOConfig, option) == exists


# -- messages ----------------------------------------------------------------------------------


def test_messages_of_the_troubleshooting_table_are_printed_somewhere():
    sources = "\n".join(path.read_text() for path in (ROOT / "examples/tau2").rglob("*.py"))
    for line in (ROOT / "docs/troubleshooting.md").read_text().splitlines():
        if not line.startswith("| `"):
            continue
        messages = set(INLINE_CODE.findall(cells_of(line)[0]))
        for message in messages - MESSAGES_OF_AREAL - WRITTEN_BY_RUNS:
            pieces = [piece.strip() for piece in re.split(r"\.\.\.|<[^>]*>|[(),]", message)]
            for piece in pieces:
                assert " " not in piece or piece in sources, piece
