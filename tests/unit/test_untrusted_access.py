"""Code with the whole claim opens paths that others may write through `chorus_dataset.untrusted` alone."""

from __future__ import annotations

import ast

import pytest

from docs_text import REPOSITORY

SOURCES = REPOSITORY / "trainer_image" / "chorus_dataset"
ALLOWED = {
    "files": "the work directories and frames of prepare and fetch Jobs",
    "frame.kept_frames": "frames/: only prepare Jobs write there, and each link is left alone",
    "frame.spool": "an unnamed file in the prepare Job's own work directory",
    "frame.write": "writes new files into the prepare Job's own work directory",
    "convert": "runs before the plugin does: reads the frame, writes into an emptyDir of its pod",
    "jobs.exchange": "serves the frame from a read-only mount; only prepare Jobs write frames",
    "jobs.fetch": "base/: only fetch Jobs write there, and what is in a model's place is looked at through untrusted",
    "jobs.job": "the Job's configuration, a ConfigMap",
    "jobs.prepare": "frames/: only prepare Jobs write there",
    "readers.links": "resolves a path one part at a time in the descriptor of an open directory, as untrusted does",
    "readers.parquet_file": "opens what source_file gives: a checked descriptor, or a file in the work directory",
    "readers.source_file": "resolves the path of a file for whoever prepares on a machine of their own",
    "readers.text_file": "opens what source_file gives: a checked descriptor, or a file in the work directory",
    "sources.download": "writes one new file into the prepare Job's own work directory",
    "sources.secret": "the mount of a Secret",
    "sources.sqlite_file": "a copy in the prepare Job's own work directory",
    "sources.sqlite_process": "descriptors of its own process, and the copy in the prepare Job's own work directory",
    "sources.sqlite_query": "a copy in the prepare Job's own work directory",
    "untrusted": "the one way itself",
}
"""Modules that touch paths otherwise, and why nobody else can have written what they touch."""
MODULES = {"os", "shutil", "tempfile", "glob", "sqlite3", "io", "pq"}
HARMLESS = {"copyfileobj", "umask"}
"""Those that work on what is open already, or on no file."""
PATH_METHODS = {
    "open", "read_bytes", "read_text", "write_bytes", "write_text", "touch", "mkdir", "rmdir", "unlink", "rename",
    "symlink_to", "hardlink_to", "readlink", "chmod", "iterdir", "glob", "rglob", "walk", "stat", "lstat", "exists",
    "is_file", "is_dir", "is_symlink", "is_fifo", "samefile", "FileResponse",
}  # fmt: skip
"""Methods of `Path` that reach for the file system. Those of `untrusted.Directory` have other names."""


def accesses(text: str) -> list[str]:
    """Name each access to the file system in a module."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id="open" as name)):
                found.append(f"line {node.lineno}: {name}()")
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if module in MODULES:
                if name not in HARMLESS:
                    found.append(f"line {node.lineno}: {module}.{name}()")
            case ast.Call(func=ast.Attribute(attr=name)) if name in PATH_METHODS or _is_paths_alone(name, node):
                found.append(f"line {node.lineno}: .{name}()")
            case ast.ImportFrom(module=module) if module in MODULES:
                found.append(f"line {node.lineno}: from {module} import")
    return found


def _is_paths_alone(name: str, call: ast.Call) -> bool:
    """Tell a method of `Path` from one of the same name by its arguments."""
    return (name == "replace" and len(call.args) == 1) or (name == "resolve" and not call.args)


def modules() -> dict[str, str]:
    names = {path: path.relative_to(SOURCES).with_suffix("").as_posix() for path in sorted(SOURCES.rglob("*.py"))}
    return {name.replace("/", "."): path.read_text(encoding="utf-8") for path, name in names.items()}


@pytest.mark.parametrize("name", sorted(modules().keys() - ALLOWED.keys()))
def test_no_other_module_opens_a_path_that_others_may_write(name: str) -> None:
    assert accesses(modules()[name]) == []


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_whoever_is_allowed_to_open_paths_otherwise_still_does(name: str) -> None:
    assert accesses(modules()[name]), f"{name} does not, so take it off the list"


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "os.open(path, 0)",
        "shutil.copyfile(a, b)",
        "path.read_bytes()",
        "(a / b).write_text('')",
        "a.replace(b)",
        "folder.iterdir()",
        "tempfile.mkdtemp()",
        "Path(a).resolve()",
        "from shutil import rmtree",
        "web.FileResponse(path)",
    ],
)
def test_every_way_to_open_a_path_is_found(line: str) -> None:
    assert len(accesses(line)) == 1


@pytest.mark.parametrize(
    "line", ["'a'.replace('b', 'c')", "folder.read('a', limit=1)", "Directory.at(path)", "egress.resolve(host)"]
)
def test_what_opens_no_path_is_not(line: str) -> None:
    assert accesses(line) == []


def test_publishing_is_not_on_the_list() -> None:
    names = ("publish", "model_directory", "artefact", "run_record", "latest", "owners", "kept_runs", "uploads")
    publishing = {f"jobs.{name}" for name in names}
    assert publishing <= modules().keys()
    assert not publishing & ALLOWED.keys()


def test_the_list_names_modules_that_are_there() -> None:
    assert ALLOWED.keys() <= modules().keys()
