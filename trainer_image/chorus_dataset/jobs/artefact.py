"""Check an artefact before anybody else sees it: every file named, none of them code, every digest right."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing
from chorus_dataset.files import check_room
from chorus_dataset.untrusted import Directory, Refused, check_status

SUMS_FILE = "SHA256SUMS"
RECORD_FILE = "training_run.json"
METRICS_FILE = "metrics.jsonl"
ADDED_FILES = (RECORD_FILE, METRICS_FILE)
"""Files that publishing adds to the artefact; the sums need not name them."""
SUFFIXES = frozenset({".safetensors", ".json", ".md", ".txt", ".jsonl", ".model", ".jinja"})
"""Kinds of files in an adapter."""
FILE_SUFFIXES = SUFFIXES | {".onnx", ".skops", ".ubj", ".gguf", ".csv"}
"""Kinds of files in what a container leaves: none of them is code, or is run when it is read."""
MAX_SUMS_BYTES = 4 << 20
MAX_ENTRIES = 20_000
MAX_DEPTH = 16
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_DIGEST_CHARACTERS = 64


@dataclass(frozen=True)
class Artefact:
    """A directory that passed the check."""

    digest: str
    """sha256:… of the bytes of SHA256SUMS."""
    bytes: int
    named: frozenset[str]
    """Files that SHA256SUMS names."""


def seal_files(folder: Directory, *, where: str, aside: Directory, check: Callable[[], None] = lambda: None) -> None:
    """Write the SHA256SUMS of a directory that a container left without one; `PublishFailed` when it is empty.

    `aside`: a directory of Chorus's own on the same volume, where the file is made. `VolumeFull` without room for it.
    """
    if folder.has(SUMS_FILE):
        return
    names = [name for name in _files(folder, where=where, suffixes=FILE_SUFFIXES) if name not in ADDED_FILES]
    if not names:
        raise _refused(f"{where} is empty", "the container must leave its model in $CHORUS_OUT_DIR")
    size = sum(_DIGEST_CHARACTERS + len(f"  {name}\n".encode()) for name in names)
    if size > MAX_SUMS_BYTES:
        raise _refused(f"{where} has {len(names):,} files: their digests need {size:,} bytes", "leave fewer files")
    check_room(folder, size, what=f"{where}/{SUMS_FILE}")
    lines = [f"{_digest(folder, name, where=where, check=check)}  {name}\n" for name in names]
    # Only a complete file may be in the directory: what is there is published.
    folder.write(SUMS_FILE, "".join(lines).encode(), aside=aside)


def open_to_owner(folder: Directory, *, where: str) -> None:
    """Undo modes that keep the owner of a directory's files and directories from reading them."""
    for seen, (name, _) in enumerate(_entries(folder, where=where), start=1):
        folder.open_to_owner(name)
        if seen > MAX_ENTRIES:
            return  # the check refuses it


@contextmanager
def permitted(what: str) -> Iterator[None]:
    """Raise `PublishFailed` that names `what` if access to it is denied."""
    try:
        yield
    except PermissionError as error:
        raise _refused(
            f"{what} cannot be read or moved: {error.strerror}",
            "let the training end with chmod -R u+rwX $CHORUS_OUT_DIR, and leave files of its own user alone",
        ) from error


def check_artefact(
    folder: Directory, *, where: str, adapter: bool = True, check: Callable[[], None] = lambda: None
) -> Artefact:
    """Check a directory against its SHA256SUMS. An adapter must hold .safetensors.

    Raises `DataError`: `DigestMismatch` for a missing, changed or unnamed file, `PublishFailed` for links, for files
    with a second name, for names that are not UTF-8 or hold control characters, for files of kinds that may hold code
    (only those of SUFFIXES, or FILE_SUFFIXES, are taken), for
    more than MAX_ENTRIES files or MAX_DEPTH levels, for more bytes than the volume has, and for sums that cannot be
    read. `check` is called for each MiB and may raise.
    """
    sizes = _files(folder, where=where, suffixes=SUFFIXES if adapter else FILE_SUFFIXES)
    total = sum(sizes.values())
    if total > folder.volume_bytes():
        raise _refused(
            f"{where} says to have {total:,} bytes, and its volume has {folder.volume_bytes():,}",
            "it holds sparse files: write what they stand for",
        )
    sums, digest = _read_sums(folder, where=where)
    missing = sorted(set(sums) - set(sizes))
    if missing:
        raise _mismatch(f"{where}: {SUMS_FILE} names files that are not there: {listing(missing)}")
    unnamed = sorted(set(sizes) - set(sums) - {SUMS_FILE, *ADDED_FILES})
    if unnamed:
        raise _mismatch(f"{where}: {SUMS_FILE} does not name {listing(unnamed)}")
    if adapter and not any(name.endswith(".safetensors") for name in sums):
        raise _refused(f"{where} holds no .safetensors file", "the trainer must save the adapter's weights")
    for name, expected in sums.items():
        if _digest(folder, name, where=where, check=check) != expected:
            raise _mismatch(f"{where}/{name} is not what {SUMS_FILE} says")
    return Artefact(digest=digest, bytes=total, named=frozenset(sums))


def size_of(folder: Directory) -> int:
    """Bytes of all files of a directory that was checked."""
    return sum(status.st_size for _, status in _entries(folder, where="the model") if stat.S_ISREG(status.st_mode))


def sync_artefact(folder: Directory) -> None:
    """Bring a directory that was checked to the disk, with everything in it."""
    for name, status in _entries(folder, where="the artefact"):
        if stat.S_ISDIR(status.st_mode):
            with folder.directory(name) as nested:
                nested.sync()
        else:
            folder.sync_file(name)
    folder.sync()


def _digest(folder: Directory, name: str, *, where: str, check: Callable[[], None]) -> str:
    check()
    try:
        with permitted(f"{where}/{name}"):
            return folder.sha256(name, check=check)
    except Refused as error:
        raise _refused(f"{where}/{name} {error.strerror}", "an artefact holds plain files only") from error


def _files(folder: Directory, *, where: str, suffixes: Set[str]) -> dict[str, int]:
    """List the files of a directory with their sizes; anything but plain files of known kinds is refused."""
    found: dict[str, int] = {}
    for seen, (name, status) in enumerate(_entries(folder, where=where), start=1):
        if seen > MAX_ENTRIES:
            raise _refused(f"{where} has more than {MAX_ENTRIES:,} files and directories", "leave fewer files")
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise _refused(f"{where}/{name} is a link or no plain file", "an artefact holds plain files only")
        try:
            check_status(status)
        except Refused as error:
            raise _refused(f"{where}/{name} {error.strerror}", "copy the file into the artefact") from error
        if name != SUMS_FILE and PurePosixPath(name).suffix.lower() not in suffixes:
            raise _refused(
                f"{where}/{name}: files of this kind are not published",
                f"an artefact holds {', '.join(sorted(suffixes))} and {SUMS_FILE}: no pickle and no code",
            )
        found[name] = status.st_size
    return dict(sorted(found.items()))


def _entries(folder: Directory, *, where: str, below: str = "", depth: int = 1) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below a directory, directories before what is in them."""
    if depth > MAX_DEPTH:
        raise _refused(f"{where} has more than {MAX_DEPTH} levels of directories", "leave a flatter directory")
    for entry in folder.names():
        _check_name(entry, where=f"{where}/{below}".rstrip("/"))
        with permitted(f"{where}/{below}{entry}"):
            status = folder.status(entry)
        yield f"{below}{entry}", status
        if stat.S_ISDIR(status.st_mode):
            with permitted(f"{where}/{below}{entry}"):
                nested = folder.directory(entry)
            with nested:
                yield from _entries(nested, where=where, below=f"{below}{entry}/", depth=depth + 1)


def _check_name(name: str, *, where: str) -> None:
    """Raise `PublishFailed` for a name that is not UTF-8, or that would break a line or a terminal."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise _refused(
            f"{where}: {name!r} is no name of a file that is published",
            "use names in UTF-8 without control characters, best of letters, digits, '.', '_' and '-'",
        )


def _read_sums(folder: Directory, *, where: str) -> tuple[dict[str, str], str]:
    try:
        with permitted(f"{where}/{SUMS_FILE}"):
            content = folder.read(SUMS_FILE, limit=MAX_SUMS_BYTES)
    except FileNotFoundError as error:
        raise _mismatch(f"{where} has no {SUMS_FILE}") from error
    except Refused as error:
        raise _refused(f"{where}/{SUMS_FILE} {error.strerror}", "write it with sha256sum") from error
    sums: dict[str, str] = {}
    # Not by splitlines(): names may hold other characters that it takes for the end of a line.
    lines = content.decode("utf-8", "replace").removesuffix("\n").split("\n") if content else []
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise _refused(f"{where}/{SUMS_FILE}, line {number}: not a digest and a name", "write it with sha256sum")
        name = match[2].removeprefix("./")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or str(PurePosixPath(name)) != name:
            raise _refused(f"{where}/{SUMS_FILE}, line {number}: {name!r} leaves the artefact", "name files inside it")
        sums[name] = match[1].lower()
    return sums, f"sha256:{hashlib.sha256(content).hexdigest()}"


def _mismatch(message: str) -> DataError:
    return DataError(Reason.DIGEST_MISMATCH, message, hint="train again: what was saved is not complete")


def _refused(message: str, hint: str) -> DataError:
    return DataError(Reason.PUBLISH_FAILED, message, hint=hint)
