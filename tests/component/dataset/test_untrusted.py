"""The one way to what others may have written: no link is followed, nothing blocks, everything has a bound."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_dataset.readers.links import find_below
from chorus_dataset.untrusted import Directory, Refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "root"


@pytest.fixture
def folder(root: Path) -> Iterator[Directory]:
    with Directory.at(root) as opened:
        yield opened


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_read_through_its_directories(folder: Directory) -> None:
    assert folder.read("a/b/file", limit=7) == b"content"


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "a//b/file", "./a", "", "a/b/", "a\0b"])
def test_a_name_that_leaves_the_directory_is_refused(folder: Directory, name: str) -> None:
    for use in (folder.status, folder.directory, folder.make, folder.create, folder.remove_file):
        with pytest.raises(Refused):
            use(name)
    with pytest.raises(Refused):
        folder.read(name, limit=100)


@pytest.mark.parametrize("linked", ["a", "a/b", "a/b/file"])
def test_a_link_in_any_part_is_refused(root: Path, folder: Directory, linked: str) -> None:
    (root / linked).rename(root / "real")
    (root / linked).symlink_to(root / "real")
    before = descriptors()
    with pytest.raises(Refused):
        folder.read("a/b/file", limit=100)
    assert descriptors() == before


def test_a_file_that_grows_beyond_its_limit_is_refused(root: Path, folder: Directory) -> None:
    with pytest.raises(Refused, match="has 7 bytes; at most 6 are taken"):
        folder.read("a/b/file", limit=6)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_socket])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, root: Path, folder: Directory, make: object
) -> None:
    assert callable(make)
    monkeypatch.chdir(root)
    make(Path("odd"))
    before = descriptors()
    with pytest.raises(Refused, match=r"is no plain file|is a directory"):
        folder.file("odd")
    assert descriptors() == before


def test_a_file_that_becomes_a_fifo_after_it_was_looked_at_is_not_waited_for(
    root: Path, folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def swapped(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if path == "file":
            (root / "a" / "b" / "file").unlink()
            os.mkfifo(root / "a" / "b" / "file")
        return real(path, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(Refused, match="is no plain file"):
        folder.file("a/b/file")


def test_a_new_file_takes_the_place_of_nothing(root: Path, folder: Directory) -> None:
    (root / "link").symlink_to("../secret")
    for name in ("link", "a"):
        with pytest.raises(FileExistsError):
            folder.create(name)
    folder.write("link", b"new")
    assert (root / "link").read_bytes() == b"new"
    assert (root.parent / "secret").read_bytes() == b"secret"
    assert sorted(os.listdir(root)) == ["a", "link"]


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(root: Path, folder: Directory) -> None:
    with pytest.raises(IsADirectoryError):
        folder.write("a", b"new")
    assert os.listdir(root) == ["a"]


def test_directories_are_made_and_none_is_followed(root: Path, folder: Directory) -> None:
    folder.make("a/x/y").close()
    assert (root / "a" / "x" / "y").is_dir()
    (root / "link").symlink_to(root.parent)
    before = descriptors()
    with pytest.raises(Refused):
        folder.make("link/x")
    assert not (root.parent / "x").exists()
    assert descriptors() == before


def test_removing_follows_no_link(root: Path, folder: Directory) -> None:
    (root / "a" / "out").symlink_to(root.parent)
    (root / "a" / "b" / "out").symlink_to(root.parent / "secret")
    folder.remove("a")
    folder.remove("a")
    assert os.listdir(root) == []
    assert (root.parent / "secret").read_bytes() == b"secret"


NAMES = st.sampled_from(["a", "b", "c", "..", "link", "up", "loop", "abs"])


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_a_path_below_a_root_never_leads_out_of_it(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "root"
        for path in ("a/b", "b/c", "c"):
            (root / path).mkdir(parents=True, exist_ok=True)
        (root / "a" / "link").symlink_to("../b/c")
        (root / "b" / "up").symlink_to("..")
        (root / "link").symlink_to("a")
        (root / "up").symlink_to("..")
        (root / "loop").symlink_to("loop")
        (root / "abs").symlink_to(place)
        before = descriptors()
        try:
            directory, name = find_below(root, "/".join(parts))
        except OSError:
            assert descriptors() == before
            return
        with directory:
            status = directory.status(name)
            assert not stat.S_ISLNK(status.st_mode)
        inside = {(found.stat().st_dev, found.stat().st_ino) for found in root.rglob("*") if not found.is_symlink()}
        assert (status.st_dev, status.st_ino) in inside


def test_links_inside_a_volume_are_followed_as_in_the_mount_of_a_config_map(root: Path) -> None:
    (root / "..2026_01").mkdir()
    (root / "..2026_01" / "rows.csv").write_text("rows")
    (root / "..data").symlink_to("..2026_01")
    (root / "rows.csv").symlink_to("..data/rows.csv")
    directory, name = find_below(root, "rows.csv")
    with directory:
        assert directory.read(name, limit=100) == b"rows"
