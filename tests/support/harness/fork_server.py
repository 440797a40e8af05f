"""Start operators from a process that has imported the operator already, and forks for each start.

The imports are two thirds of an operator's start. Everything else is as in a process of its own: signals, exit codes,
threads, the environment, what it writes, and the shutdown of the interpreter. `Operator` says which of both it takes.

    process = fork_server().start(environment, log=log)
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import IO, Any

from harness.apiserver import die_with_parent
from harness.binaries import REPOSITORY

_REQUEST_BYTES = 1 << 16


class ForkedProcess:
    """One process, as `subprocess.Popen` has it."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._code: int | None = None
        if not (pid := self._read()):
            raise RuntimeError("the process that forks has ended: see what it wrote above")
        self.pid = int(pid)
        told.setblocking(False)

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                self._code = int(self._read() or -signal.SIGKILL)
                self._told.close()
        return self._code

    def wait(self) -> int:
        """Wait until it has ended."""
        if self._code is None:
            self._told.setblocking(True)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> bytes:
        return self._told.recv(64)


class ForkServer:
    """The process that forks. It ends with the one that made it, and so does everything that it started."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        roots = ("operator", "trainer_image", "tests/support")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.fork_server"],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join(str(REPOSITORY / root) for root in roots),
                    "PYTHONUNBUFFERED": "1",
                },
                cwd=REPOSITORY,
                stdin=theirs,
                preexec_fn=die_with_parent,
            )
        atexit.register(self._stop)

    def _stop(self) -> None:
        self._control.close()
        self._process.wait(10)

    def start(self, environment: Mapping[str, str], *, log: IO[bytes], loopback_services: bool) -> ForkedProcess:
        """Start an operator that has this environment and no other, and writes to `log`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"environment": dict(environment), "loopback_services": loopback_services}
        with theirs:
            socket.send_fds(self._control, [json.dumps(request).encode()], [log.fileno(), theirs.fileno()])
        return ForkedProcess(ours)


@cache
def fork_server() -> ForkServer:
    """The one of this process, made when it is first needed."""
    return ForkServer()


# In the process that forks


@dataclass(frozen=True)
class _Request:
    """What a new process is told."""

    told: dict[str, Any]
    log: int
    answers: socket.socket


def _serve(control: socket.socket) -> _Request | None:
    """Fork for each request. Returns in each new process, and with None when nobody can ask any more."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                if (request := _receive(control)) is None:
                    return None
                if (pid := os.fork()) == 0:
                    _let_go(selector)
                    return request
                request.answers.send(str(pid).encode())
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, request.answers))
                os.close(request.log)
            else:
                selector.unregister(key.fd)
                _report_end(key.fd, *key.data)


def _receive(control: socket.socket) -> _Request | None:
    body, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 2)
    return _Request(json.loads(body), fds[0], socket.socket(fileno=fds[1])) if body else None


def _report_end(pidfd: int, pid: int, answers: socket.socket) -> None:
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    with answers, contextlib.suppress(OSError):  # nobody wants to know any more
        answers.send(str(os.waitstatus_to_exitcode(status)).encode())


def _let_go(selector: selectors.BaseSelector) -> None:
    """Close, in a new process, what the one that forks has open."""
    for key in list(selector.get_map().values()):
        if key.data is None:
            key.fileobj.detach()  # type: ignore[union-attr]  # it is the standard input, which is replaced
        else:
            os.close(key.fd)
            key.data[1].close()
    selector.close()


def _become(request: _Request) -> None:
    """Take the environment, the output and the signals of a process of one's own."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    request.answers.close()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (request.log, 1), (request.log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(request.log)
    os.environ.clear()
    os.environ.update(request.told["environment"])


def main() -> int:
    """Import the operator and serve; in a new process, be the operator."""
    from chorus_net.addresses import nothing
    from chorus_operator.__main__ import main as operate

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that asks it
    gc.freeze()
    request = _serve(socket.socket(fileno=0))
    if request is None:
        return 0
    _become(request)
    return operate(allows=(lambda address: address.is_loopback) if request.told["loopback_services"] else nothing)


if __name__ == "__main__":
    sys.exit(main())
