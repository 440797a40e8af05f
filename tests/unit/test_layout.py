"""The layout that the source roots, the locks and the scripts must keep."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from locks import read_lock

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALL_LOCKS = sorted(REPOSITORY.glob("requirements/*.lock")) + sorted(REPOSITORY.glob("examples/plugins/*/*.lock"))
DOCKERFILES = [
    *(REPOSITORY / root / "Dockerfile" for root in ("operator", "trainer_image")),
    *sorted(REPOSITORY.glob("examples/plugins/*/Dockerfile")),
]
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
    return {name: set(versions) for name, versions in read_lock(REPOSITORY / "requirements" / f"{lock}.lock").items()}


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


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda lock: str(lock.relative_to(REPOSITORY)))
def test_every_locked_package_is_bound_to_the_digests_of_its_files(lock: Path) -> None:
    unbound = [
        f"{name}=={version}"
        for name, versions in read_lock(lock).items()
        for version, digests in versions.items()
        if not digests or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests)
    ]
    assert not unbound, f"{lock.name}: no digests for {unbound}: see requirements/README.md"


def installs(file: Path) -> list[str]:
    """Commands of a file that install Python packages, with continued lines joined."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    return [part for part in re.split(r"[;\n]|&&|\|\|", text) if re.search(r"\bpip\W+install\b", part)]


def test_every_installation_of_python_packages_checks_digests() -> None:
    files = [*DOCKERFILES, *shell_scripts()]
    commands = [(file, command) for file in files for command in installs(file)]
    assert len(commands) >= 2 * len([file for file in DOCKERFILES if ".lock" in file.read_text(encoding="utf-8")])
    for file, command in commands:
        assert "--require-hashes" in command, f"{file.relative_to(REPOSITORY)}: {command.strip()}"
        assert "--no-deps" in command, f"{file.relative_to(REPOSITORY)}: {command.strip()}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_image_starts_from_a_base_image_by_digest(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    named = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base)
        for base in re.findall(r"^FROM\s+(\S+)|\s--(?:from=|mount=\S*\bfrom=)([^\s,]+)", text, re.MULTILINE)
        for base in base
        if base and base not in named
    ]
    assert bases
    assert [base for base in bases if not re.search(r"@sha256:[0-9a-f]{64}$", base)] == []


def test_images_start_from_one_version_of_python() -> None:
    bases = {
        re.findall(r"^ARG BASE_IMAGE=(python:\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)[0]
        for file in DOCKERFILES
        if "ARG BASE_IMAGE=python" in file.read_text(encoding="utf-8")
    }
    assert len(bases) == 1


def test_examples_install_with_the_uv_of_the_images() -> None:
    uv = (REPOSITORY / "requirements" / "uv.lock").read_bytes()
    copies = sorted((REPOSITORY / "examples" / "plugins").glob("*/uv.lock"))
    assert copies
    assert [str(copy) for copy in copies if copy.read_bytes() != uv] == []


def test_shell_scripts_parse() -> None:
    scripts = shell_scripts()
    assert REPOSITORY / "kind" / "cluster" in scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr


def test_go_modules_are_pinned_by_sums() -> None:
    modules = sorted((REPOSITORY / "kind" / "programs").glob("*.mod"))
    assert len(modules) > 1
    for module in modules:
        assert module.with_suffix(".sum").stat().st_size > 0, f"{module.name} has no sums"


ADDRESSES = "chorus_net/addresses.py"
LISTED_ADDRESS = re.compile(
    r"ip_network\(|IPv[46]Network\(|\.is_(?:loopback|link_local|multicast|unspecified|reserved)\b"
    r"|inet_aton|ip_address\(\s*[\"']|IPv[46]Address\(\s*[\"']|metadata\.google|169\.254\."
)


def sources() -> list[Path]:
    return [path for root in ("operator", "trainer_image") for path in sorted((REPOSITORY / root).rglob("*.py"))]


def test_addresses_that_are_never_connected_to_are_listed_and_judged_in_one_module_alone() -> None:
    found = {
        str(path.relative_to(REPOSITORY)): matches
        for path in sources()
        if not str(path).endswith(ADDRESSES) and (matches := LISTED_ADDRESS.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}, f"use {ADDRESSES}"


def test_whoever_connects_where_a_tenant_says_asks_that_module() -> None:
    asking = {str(path.relative_to(REPOSITORY)) for path in sources() if "address_problem" in path.read_text("utf-8")}
    assert asking == {
        f"operator/{ADDRESSES}",
        "operator/chorus_operator/services/addresses.py",
        "trainer_image/chorus_dataset/sources/egress.py",
    }
