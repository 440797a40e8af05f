"""Access to what others than Chorus may have written: below an open directory, without links, bounded, never blocking.

A training pod, a service or a user's own pod fills directories of the claim and may do so in bad faith: with links to
what is not theirs, with FIFOs that keep a reader waiting, with files of any size. So every name is resolved in the
descriptor of an open directory, one part at a time; a link in any part is refused; a file is taken only if it is a
regular one with no second name. What Chorus writes is a new file under a random name, renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20
_BATCH = 1000


class Refused(OSError):
    """Something that is not taken from others: a link, a FIFO, a device, a file with a second name or too large."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EINVAL, message)


class Directory:
    """An open directory. Names may have several parts, divided by `/`; no part may be `..`, empty, or a link.

    Every method raises `OSError`: `FileNotFoundError` for what is not there, `Refused` for what is not taken.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over an open descriptor."""
        self._descriptor = descriptor

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open a directory whose own path nobody else can change, such as a mount."""
        return cls(os.open(path, _DIRECTORY))

    def close(self) -> None:
        """Close the directory."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    def status(self, name: str) -> os.stat_result:
        """Give the status of an entry itself, also of a link."""
        with self._parent(name) as (parent, last):
            return os.stat(last, dir_fd=parent, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Tell whether there is an entry of that name, of whatever kind."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """Yield the names of all entries, in no order. The directory may change meanwhile."""
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                yield entry.name

    def target(self, name: str) -> str | None:
        """Give what a link says; None for anything else and for nothing."""
        try:
            with self._parent(name) as (parent, last):
                return os.readlink(last, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def directory(self, name: str) -> Directory:
        """Open a directory below this one."""
        with self._parent(name) as (parent, last):
            try:
                return Directory(os.open(last, _DIRECTORY, dir_fd=parent))
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise Refused("is a link or no directory") from error
                raise

    def file(self, name: str, *, limit: int | None = None, second_names: bool = False) -> BinaryIO:
        """Open a regular file of at most `limit` bytes for reading. `second_names`: it may have more than one name."""
        with self._parent(name) as (parent, last):
            # Looked at first, for opening a device may do something; and again below, for it may have been replaced.
            before = os.stat(last, dir_fd=parent, follow_symlinks=False)
            check_status(before, limit=limit, second_names=second_names)
            try:
                descriptor = os.open(last, _FILE, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise Refused("is a symbolic link or no plain file") from error
                raise
        try:
            check_status(os.fstat(descriptor), limit=limit, second_names=second_names)
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")

    def read(self, name: str, *, limit: int, second_names: bool = False) -> bytes:
        """Read a regular file of at most `limit` bytes. `second_names`: it may have more than one name."""
        with self.file(name, limit=limit, second_names=second_names) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Refused(f"grew to more than {limit:,} bytes")
        return content

    def sha256(self, name: str, *, check: Callable[[], None] = lambda: None) -> str:
        """Digest of a regular file as hex digits. `check` is called for each MiB and may raise."""
        digest = hashlib.sha256()
        with self.file(name) as file:
            while block := file.read(_BLOCK):
                check()
                digest.update(block)
        return digest.hexdigest()

    # Writing

    def open_to_owner(self, name: str) -> None:
        """Let the owner of a directory or a plain file read and write it, and search a directory, if it is this user's.

        Nothing else, no link and no file with a second name is changed. What is another user's stays as it is, for it
        may be accessible by its group.
        """
        with self._parent(name) as (parent, last):
            descriptor = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            status = os.fstat(descriptor)
            wanted = _owners_rights(status)
            if wanted & ~status.st_mode:
                with contextlib.suppress(PermissionError):
                    # A descriptor that needs no right to read takes no fchmod, but its name in /proc is it alone.
                    os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(status.st_mode) | wanted)
        finally:
            os.close(descriptor)

    def make(self, name: str) -> Directory:
        """Open a directory below this one, which is made, with its parents, where it is not there."""
        opened = Directory(os.dup(self._descriptor))
        for part in _parts(name):
            with opened:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=opened._descriptor)
                opened = opened.directory(part)
        return opened

    def create(self, name: str) -> BinaryIO:
        """Create a file that is not there yet, for writing."""
        with self._parent(name) as (parent, last):
            return os.fdopen(os.open(last, _NEW_FILE, 0o666, dir_fd=parent), "wb")

    def create_random(self) -> tuple[str, BinaryIO]:
        """Create a file under a name that nobody can guess; give the name, too."""
        name = f".{secrets.token_hex(16)}"
        return name, self.create(name)

    def write(self, name: str, content: bytes, *, aside: Directory | None = None) -> None:
        """Put a file in place in one step, written to the disk. `aside`: where it is made; here when None."""
        folder = aside or self
        temporary, file = folder.create_random()
        try:
            _write_to_disk(file, content)
            folder.move(temporary, self, name)
        except BaseException:
            folder.remove_file(temporary)
            raise

    def write_new(self, name: str, content: bytes) -> bool:
        """Put a file where nothing is, in one step, written to the disk; False, and no change, if something is there.

        Whoever is killed meanwhile may leave the file with a second name, and where the volume has no hard links, an
        empty file.
        """
        temporary, file = self.create_random()
        try:
            _write_to_disk(file, content)
            with self._parent(name) as (parent, last):
                os.link(temporary, last, src_dir_fd=self._descriptor, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return self._write_new_without_links(name, content)
        finally:
            self.remove_file(temporary)
        return True

    def _write_new_without_links(self, name: str, content: bytes) -> bool:
        try:
            file = self.create(name)
        except FileExistsError:
            return False
        try:
            _write_to_disk(file, content)
        except BaseException:
            self.remove_file(name)
            raise
        return True

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link where nothing is."""
        os.symlink(target, _one(name), dir_fd=self._descriptor)

    def move(self, name: str, folder: Directory, new_name: str) -> None:
        """Rename an entry, a link itself included, into another directory of the volume. A file there is replaced."""
        with self._parent(name) as (old, last), folder._parent(new_name) as (new, new_last):
            os.rename(last, new_last, src_dir_fd=old, dst_dir_fd=new)

    def remove_file(self, name: str) -> None:
        """Remove an entry that is no directory; nothing if it is not there."""
        with contextlib.suppress(FileNotFoundError), self._parent(name) as (parent, last):
            os.unlink(last, dir_fd=parent)

    def remove_empty(self, name: str) -> bool:
        """Remove a directory if it is empty; tell whether it was."""
        try:
            with self._parent(name) as (parent, last):
                os.rmdir(last, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def remove(self, name: str, *, check: Callable[[], None] = lambda: None) -> None:
        """Remove an entry with all that is in it; nothing if it is not there. `check` is called often and may raise.

        A tree may be deeper than descriptors or the stack reach, so what is nested is first moved to the top. Modes
        that keep its owner out are changed.
        """
        try:
            is_directory = stat.S_ISDIR(self.status(name).st_mode)
        except FileNotFoundError:
            return
        if not is_directory:
            self.remove_file(name)
            return
        self.open_to_owner(name)
        with self.directory(name) as top:
            top._empty(check)
        with self._parent(name) as (parent, last):
            os.rmdir(last, dir_fd=parent)

    def _empty(self, check: Callable[[], None]) -> None:
        while batch := list(itertools.islice(self.names(), _BATCH)):
            for name in batch:
                check()
                if not self._unlink_unless_directory(name):
                    self.open_to_owner(name)
                    with self.directory(name) as nested:
                        nested._empty_into(self)
                    os.rmdir(name, dir_fd=self._descriptor)

    def _empty_into(self, top: Directory) -> None:
        while batch := list(itertools.islice(self.names(), _BATCH)):
            for name in batch:
                if not self._unlink_unless_directory(name):
                    self.open_to_owner(name)  # to be moved, a directory itself must be writable
                    self.move(name, top, f".{secrets.token_hex(16)}")

    def _unlink_unless_directory(self, name: str) -> bool:
        if stat.S_ISDIR(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=self._descriptor)
        return True

    # The volume

    def sync(self) -> None:
        """Bring the directory's list of names to the disk."""
        os.fsync(self._descriptor)

    def sync_file(self, name: str) -> None:
        """Bring a file to the disk."""
        with self.file(name) as file:
            os.fsync(file.fileno())

    def free_bytes(self) -> int:
        """Bytes of the volume that may still be written."""
        volume = os.fstatvfs(self._descriptor)
        return volume.f_bavail * volume.f_frsize

    def volume_bytes(self) -> int:
        """Size of the volume in bytes."""
        volume = os.fstatvfs(self._descriptor)
        return volume.f_blocks * volume.f_frsize

    def _parent(self, name: str) -> _Parent:
        return _Parent(self._descriptor, _parts(name))


class _Parent:
    """The descriptor of the directory that holds an entry, and the entry's own name."""

    def __init__(self, start: int, parts: list[str]) -> None:
        self._start = start
        self._parts = parts
        self._opened: int | None = None

    def __enter__(self) -> tuple[int, str]:
        current = self._start
        for part in self._parts[:-1]:
            try:
                below = os.open(part, _DIRECTORY, dir_fd=current)
            except OSError as error:
                self._close()
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise Refused(f"lies below {part}, which is a link or no directory") from error
                raise
            self._close()
            self._opened = current = below
        return current, self._parts[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


def check_status(status: os.stat_result, *, limit: int | None = None, second_names: bool = False) -> None:
    """Raise `Refused` unless it is that of a regular file with one name and at most `limit` bytes."""
    if stat.S_ISLNK(status.st_mode):
        raise Refused("is a symbolic link")
    if stat.S_ISDIR(status.st_mode):
        raise Refused("is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("is no plain file")
    if status.st_nlink > 1 and not second_names:
        raise Refused(f"has {status.st_nlink} names (hard links), so it can be changed from elsewhere")
    if limit is not None and status.st_size > limit:
        raise Refused(f"has {status.st_size:,} bytes; at most {limit:,} are taken")


def _owners_rights(status: os.stat_result) -> int:
    """Rights that the owner of a directory or of a plain file with one name should have; none of anything else."""
    if stat.S_ISDIR(status.st_mode):
        return stat.S_IRWXU
    return stat.S_IRUSR | stat.S_IWUSR if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0


def _write_to_disk(file: BinaryIO, content: bytes) -> None:
    """Write a file that is open, and close it."""
    with file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Refused(f"{name!r} names nothing below its directory")
    return parts


def _one(name: str) -> str:
    [part] = _parts(name)
    return part
