"""The file that holds a Project's data, on a volume that others write to.

Its path may lead through links, as in a ConfigMap's mount, but not out of its volume: the prepare pod has the claim,
Secrets and a token, and none of that is data. It may have been replaced by a FIFO, which is refused and not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.links import find_below
from chorus_dataset.untrusted import Directory, Refused

_HINT = "check the path of spec.dataset.source"


class SourceFile:
    """A regular file, by the open directory that holds it; beside it may be others that belong to it."""

    def __init__(self, path: Path, *, root: Path | None, where: str) -> None:
        """Find the file below `root`; with None it may be anywhere. `where` is what people call it.

        Raises `DataError`, FileNotFound, if it is not there, cannot be read, lies elsewhere or is no regular file.
        """
        try:
            self._directory, self._name = _find(path, root)
        except FileNotFoundError as error:
            raise _problem(where, "does not exist") from error
        except OSError as error:
            raise _problem(where, f"cannot be read: {error.strerror}") from error
        try:
            with self.open() as file:
                self.size = file.seek(0, 2)
        except FileNotFoundError as error:
            self._directory.close()
            raise _problem(where, "does not exist") from error
        except Refused as error:
            self._directory.close()
            raise _problem(where, f"{error.strerror}") from error
        except OSError as error:
            self._directory.close()
            raise _problem(where, f"cannot be read: {error.strerror}") from error

    def open(self, suffix: str = "") -> BinaryIO:
        """Open the file, or the one beside it with this suffix, for reading."""
        return self._directory.file(f"{self._name}{suffix}", second_names=True)

    def version(self, suffix: str = "") -> tuple[int, int] | None:
        """Tell the size and the time of the last change; None when it is not there."""
        try:
            status = self._directory.status(f"{self._name}{suffix}")
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime_ns

    @contextmanager
    def path(self) -> Iterator[Path]:
        """Give a path for readers that open by name: it leads to this file, whatever becomes of its name."""
        with self.open() as file:
            yield Path(f"/dev/fd/{file.fileno()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.close()


def _find(path: Path, root: Path | None) -> tuple[Directory, str]:
    if root is None:
        real = path.resolve(strict=True)
        return Directory.at(real.parent), real.name
    return find_below(root, str(path.relative_to(root)))


def _problem(where: str, what: str) -> DataError:
    return DataError(Reason.FILE_NOT_FOUND, f"the file {where} {what}", hint=_HINT)
