"""The documentation as tests read it: files, fences, links, tables, and what is named in code."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HANDBOOK = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")])
"""README, change log and handbook."""
DIRECTORIES = (
    *("charts/chorus", "deploy", "kind", "requirements", "examples/demo/data", "examples/data/penguins"),
    "examples/plugins",
    *(f"examples/plugins/{name}" for name in ("recipe", "service", "shell", "sklearn")),
)
PAGES = sorted([*HANDBOOK, *(REPOSITORY / name / "README.md" for name in DIRECTORIES)])
"""HANDBOOK and the README files of directories."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """Path of a page inside the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def fences(*languages: str) -> list[Fence]:
    """The blocks of these languages in all pages."""
    return [fence for page in PAGES for fence in _fences(page) if fence.language in languages]


@functools.cache
def _fences(page: Path) -> tuple[Fence, ...]:
    text = page.read_text(encoding="utf-8")
    return tuple(
        Fence(page, text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in _FENCE.finditer(text)
    )


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links of a page."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make: lower case, spaces to hyphens, no punctuation."""
    made: list[str] = []
    for heading in _HEADING.findall(prose(page)):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        made.append(kept.strip().replace(" ", "-"))
    return set(made)


def rows(page: Path, *, heading: str, columns: int) -> list[list[str]]:
    """The cells of every table below a heading whose first cell is `heading`; each row must have `columns` cells."""
    found, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == heading:
            inside = True
        elif inside and not set(cells[0]) <= set("- "):
            assert len(cells) == columns, f"{name_of(page)}: {line!r} has {len(cells)} cells, not {columns}"
            found.append(cells)
    return found


def codes(text: str) -> list[str]:
    """What stands between backquotes."""
    return re.findall(r"`([^`\n]+)`", text)


def make_targets() -> set[str]:
    """The targets that `make help` lists."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


@functools.cache
def repository_files() -> frozenset[str]:
    """Every file and directory of the repository that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    files = frozenset(listed.stdout.splitlines())
    return files | {parent.as_posix() for file in files for parent in Path(file).parents}


def problem_of_test(reference: str) -> str | None:
    """What is wrong with a page's reference to a test, `path::name`; None when the test is there and not skipped."""
    path, _, name = reference.partition("::")
    file = REPOSITORY / path
    if not file.is_file():
        return f"there is no {path}"
    tests = _tests_of(file)
    if name not in tests:
        return f"{path} has no {name}"
    marks = tests[name]
    return f"{path}::{name} is marked {marks}" if re.search(r"\bmark\.(skip|xfail|chaos)", marks) else None


@functools.cache
def _tests_of(file: Path) -> dict[str, str]:
    """The tests of a module by name, each with its decorators."""
    found: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = " ".join(ast.unparse(mark) for mark in node.decorator_list)
        # A state machine is a test by its TestCase: Name = Machine.TestCase.
        if isinstance(node, ast.Assign):
            found |= {ast.unparse(target): "" for target in node.targets}
    return found
