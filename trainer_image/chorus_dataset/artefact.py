"""Check an artefact before anybody else sees it: every file named, none of them code, every digest right."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing

SUMS_FILE = "SHA256SUMS"
RECORD_FILE = "training_run.json"
METRICS_FILE = "metrics.jsonl"
ADDED_FILES = (RECORD_FILE, METRICS_FILE)
"""Files that publishing adds to the artefact; the sums need not name them."""
SUFFIXES = frozenset({".safetensors", ".json", ".md", ".txt", ".jsonl", ".model", ".jinja"})
"""Kinds of files in an adapter."""
FILE_SUFFIXES = SUFFIXES | {".onnx", ".skops", ".ubj", ".gguf", ".csv"}
"""Kinds of files in what a container leaves: none of them is code, or is run when it is read."""
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_MAX_SUMS_BYTES = 4 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Artefact:
    """A directory that passed the check."""

    digest: str
    """sha256:… of the bytes of SHA256SUMS."""
    bytes: int


def seal_files(folder: Path, *, where: str) -> None:
    """Write the SHA256SUMS of a directory that a container left without one; `PublishFailed` when it is empty."""
    if (folder / SUMS_FILE).exists():
        return
    names = [name for name, _ in _files(folder, where=where, suffixes=FILE_SUFFIXES) if name not in ADDED_FILES]
    if not names:
        raise _refused(f"{where} is empty", "the container must leave its model in $CHORUS_OUT_DIR")
    lines = [f"{file_digest(folder / name)}  {name}\n" for name in names]
    # Only a complete file may be in the directory: what is there is published.
    temporary = folder.with_name(f"{SUMS_FILE}.new")
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(folder / SUMS_FILE)


def check_artefact(
    folder: Path, *, where: str, adapter: bool = True, check: Callable[[], None] = lambda: None
) -> Artefact:
    """Check a directory against its SHA256SUMS. An adapter must hold .safetensors.

    Raises `DataError`: `DigestMismatch` for a missing, changed or unnamed file, `PublishFailed` for links, for files of
    kinds that may hold code (only those of SUFFIXES, or FILE_SUFFIXES, are taken), and for sums that cannot be read.
    `check` is called for each file and may raise.
    """
    sizes = dict(_files(folder, where=where, suffixes=SUFFIXES if adapter else FILE_SUFFIXES))
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
        check()
        if file_digest(folder / name) != expected:
            raise _mismatch(f"{where}/{name} is not what {SUMS_FILE} says")
    return Artefact(digest=digest, bytes=sum(sizes.values()))


def file_digest(path: Path) -> str:
    """SHA-256 of a file as hex digits; a symbolic link is not followed (OSError)."""
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path, *, where: str, suffixes: Set[str], below: str = "") -> Iterator[tuple[str, int]]:
    """Yield the files of a directory with their sizes; anything but plain files of known kinds is refused."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name = f"{below}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from _files(folder, where=where, suffixes=suffixes, below=f"{name}/")
                continue
            if not stat.S_ISREG(status.st_mode):
                raise _refused(f"{where}/{name} is a link or no plain file", "an artefact holds plain files only")
            if name != SUMS_FILE and PurePosixPath(name).suffix.lower() not in suffixes:
                raise _refused(
                    f"{where}/{name}: files of this kind are not published",
                    f"an artefact holds {', '.join(sorted(suffixes))} and {SUMS_FILE}: no pickle and no code",
                )
            yield name, status.st_size


def _read_sums(folder: Path, *, where: str) -> tuple[dict[str, str], str]:
    path = folder / SUMS_FILE
    if not path.is_file():
        raise _mismatch(f"{where} has no {SUMS_FILE}")
    with path.open("rb") as file:
        content = file.read(_MAX_SUMS_BYTES)
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
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
