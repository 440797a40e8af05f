"""The layout that the source roots, the locks and the scripts must keep."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {
    "dev": ["operator", "sources", "exchange", "trainer", "cli", "dev"],
    "operator": ["operator", "sources", "exchange"],
    "trainer": ["trainer"],
}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def wanted_by(extras: list[str]) -> set[str]:
    names = {name_of(requirement) for requirement in PROJECT["dependencies"]}
    for extra in extras:
        for requirement in EXTRAS[extra]:
            nested = re.fullmatch(r"chorus\[(\w+)\]", requirement)
            names |= wanted_by([nested.group(1)]) if nested else {name_of(requirement)}
    return names


def pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (REPOSITORY / "requirements" / f"{lock}.lock").read_text(encoding="utf-8").splitlines():
        pinned = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;]+)", line)
        assert pinned, f"requirements/{lock}.lock: {line!r} is not NAME==VERSION"
        found.setdefault(name_of(pinned.group(1)), set()).add(pinned.group(2))
    return found


@pytest.mark.parametrize("root", ["operator", "trainer_image"])
def test_source_roots_are_not_packages(root: str) -> None:
    assert not (REPOSITORY / root / "__init__.py").exists(), f"{root}/__init__.py shadows a module of the same name"


def test_the_operator_module_of_python_is_imported_from_the_repository_root() -> None:
    script = "import operator; assert operator.add(1, 2) == 3; print(operator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
    )
    assert not done.stdout.startswith(str(REPOSITORY))


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_each_lock_pins_what_pyproject_asks_for(lock: str, extras: list[str]) -> None:
    missing = wanted_by(extras) - pins(lock).keys()
    assert not missing, f"requirements/{lock}.lock lacks {sorted(missing)}: see requirements/README.md"


@pytest.mark.parametrize("lock", ["operator", "trainer"])
def test_images_hold_the_versions_that_the_tests_use(lock: str) -> None:
    tested = pins("dev")
    other = {name: versions for name, versions in pins(lock).items() if not versions <= tested.get(name, set())}
    assert not other, f"requirements/{lock}.lock and dev.lock differ in {other}: see requirements/README.md"


def shell_scripts() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    files = [REPOSITORY / name for name in listed.stdout.splitlines()]
    return [file for file in files if file.is_file() and is_shell(file)]


def is_shell(file: Path) -> bool:
    with file.open("rb") as opened:
        first = opened.readline(80)
    return file.suffix == ".sh" or re.match(rb"#!.*\b(ba)?sh\b", first) is not None


def test_shell_scripts_parse() -> None:
    scripts = shell_scripts()
    assert REPOSITORY / "kind" / "cluster" in scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr


def test_go_modules_are_pinned_by_sums() -> None:
    modules = sorted((REPOSITORY / "kind" / "modules").iterdir())
    assert modules
    for module in modules:
        assert (module / "go.sum").stat().st_size > 0, f"{module.name} has no go.sum"
