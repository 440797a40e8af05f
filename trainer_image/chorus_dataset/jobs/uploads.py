"""Take an artefact file by file, from somebody who is not trusted: names, kinds, sizes and digests are checked.

A file is written beside the artefact and renamed into it when all of it is there, so that the artefact never holds half
a file. What an earlier attempt left is removed first: an artefact is of one attempt.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from chorus_dataset.jobs.artefact import FILE_SUFFIXES, SUMS_FILE
from chorus_dataset.jobs.model_directory import OUT
from chorus_dataset.untrusted import Directory

MAX_PATH = 512
MAX_DEPTH = 8
_UNDER_WAY = ".uploads"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}")


class UploadRefused(Exception):
    """A file that is not taken; `status` is the HTTP status, the text says what to do."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@dataclass(frozen=True)
class Stored:
    """A file of the artefact."""

    name: str
    bytes: int
    sha256: str
    new: bool
    """False: it took the place of an earlier one."""


@dataclass
class Upload:
    """A file on its way. `write` may be called in any thread, one call at a time."""

    name: str
    temporary: str
    """Where it is written, relative to the run's directory."""
    file: IO[bytes] = field(repr=False)
    reserved: int = 0
    size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def write(self, block: bytes) -> None:
        """Append to the file."""
        self._digest.update(block)
        self.file.write(block)
        self.size += len(block)

    @property
    def sha256(self) -> str:
        """Digest of what was written, as hex digits."""
        return self._digest.hexdigest()


class Uploads:
    """The artefact of one attempt, at most `max_bytes` in at most `max_files`. Belongs to one event loop.

    The run's directory is also the training's: what it may have left there is not followed.
    """

    def __init__(self, run_dir: Path, *, max_bytes: int, max_files: int) -> None:
        self._run = Directory.at(run_dir)
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._sizes: dict[str, int] = {}
        self._reserved = 0

    def start(self) -> None:
        """Remove what an earlier attempt left. The artefact's directory is made with its first file."""
        for left in (OUT, _UNDER_WAY):
            self._run.remove(left)
        self._run.make(_UNDER_WAY).close()

    def end(self) -> None:
        """Remove what came in part, and let go of the run's directory."""
        with self._run, suppress(OSError):
            self._run.remove(_UNDER_WAY)

    @property
    def files(self) -> dict[str, int]:
        """Sizes of the files that are there, by name."""
        return dict(self._sizes)

    def begin(self, name: str, *, length: int | None) -> Upload:
        """Open a file for writing; `length` is what its sender promises. UploadRefused (403, 409, 413, 422)."""
        if self._max_bytes == 0:
            raise UploadRefused(403, "the Plugin says artefact: None, so no file is taken")
        check_name(name)
        self._check_place(name)
        if name not in self._sizes and len(self._sizes) >= self._max_files:
            raise UploadRefused(413, f"an artefact has at most {self._max_files} files: pack fewer, larger ones")
        temporary = f"{_UNDER_WAY}/{secrets.token_hex(16)}"
        upload = Upload(name, temporary, self._run.create(temporary))
        try:
            self.reserve(upload, length or 0)
        except UploadRefused:
            self.abandon(upload)
            raise
        return upload

    def reserve(self, upload: Upload, size: int) -> None:
        """Set room aside, so that the file can have `size` bytes; UploadRefused (413) when there is no such room."""
        more = size - upload.reserved
        if more <= 0:
            return
        held = sum(self._sizes.values()) - self._sizes.get(upload.name, 0) + self._reserved
        if held + more > self._max_bytes:
            raise UploadRefused(413, f"an artefact has at most {self._max_bytes} bytes in all")
        upload.reserved += more
        self._reserved += more

    def finish(self, upload: Upload, *, sha256: str | None) -> Stored:
        """Put a file that is complete into the artefact; UploadRefused (409, 422) when its digest is another."""
        upload.file.close()
        if sha256 is not None and not hmac.compare_digest(sha256, upload.sha256):
            raise UploadRefused(
                422, f"{upload.name}: came with the digest {upload.sha256}, not {sha256}: send it again"
            )
        self._check_place(upload.name)
        target = f"{OUT}/{upload.name}"
        self._run.make(target.rpartition("/")[0]).close()
        self._run.move(upload.temporary, self._run, target)
        new = upload.name not in self._sizes
        self._sizes[upload.name] = upload.size
        self._release(upload)
        return Stored(upload.name, upload.size, upload.sha256, new)

    def abandon(self, upload: Upload) -> None:
        """Forget a file that did not come or was refused."""
        upload.file.close()
        self._run.remove_file(upload.temporary)
        self._release(upload)

    def delete(self, name: str) -> bool:
        """Take a file out of the artefact; False when it is not there. UploadRefused (422) for a bad name."""
        check_name(name)
        if self._sizes.pop(name, None) is None:
            return False
        path = f"{OUT}/{name}"
        self._run.remove_file(path)
        while path := path.rpartition("/")[0]:
            # An empty directory would keep a file of that name from coming; without any file there is no artefact.
            if not self._run.remove_empty(path):
                break
        return True

    def _release(self, upload: Upload) -> None:
        self._reserved -= upload.reserved
        upload.reserved = 0

    def _check_place(self, name: str) -> None:
        for other in self._sizes:
            if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
                raise UploadRefused(409, f"{name}: there is {other}, and one of the two would be file and directory")


def check_name(name: str) -> None:
    """Check a file's path inside the artefact; UploadRefused (422) names the rule that it breaks."""
    parts = name.split("/")
    if len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise UploadRefused(422, f"{name[:100]!r}: a path has at most {MAX_PATH} characters and {MAX_DEPTH} parts")
    if not all(_PART.fullmatch(part) for part in parts):
        raise UploadRefused(
            422,
            f"{name!r}: each part of a path is of letters, digits, '.', '_' and '-', at most 127, and starts with a "
            "letter, digit or '_'",
        )
    if name != SUMS_FILE and PurePosixPath(name).suffix.lower() not in FILE_SUFFIXES:
        raise UploadRefused(
            422,
            f"{name!r}: files of this kind are not published; an artefact holds {', '.join(sorted(FILE_SUFFIXES))} and "
            f"{SUMS_FILE}: no pickle and no code",
        )
