"""The operator's real process with the rights of its own service account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import aiohttp

from harness.apiserver import HOST, ControlPlane, die_with_parent
from harness.binaries import REPOSITORY
from harness.client import Api, ApiError, eventually
from harness.fork_server import ForkedProcess, fork_server

NAMESPACE = "chorus-system"
LEASE = "chorus-operator"
READY_SECONDS = 60.0
PROGRAM = ("-m", "chorus_operator")
ROOTS, SUPPORT = ("operator", "trainer_image"), ("tests/support",)
LOOPBACK_PROGRAM = (
    "-c",
    "import sys; from chorus_operator.__main__ import main; sys.exit(main(allows=lambda address: address.is_loopback))",
)
TERM_SECONDS = 20.0
# Below the ports that the system gives to others, so that a restarted operator finds its own ports free.
_PORTS = range(18000, 32000)


class Operator:
    """One replica: started, stopped and killed as often as a test wants; its ports and its identity stay the same."""

    def __init__(
        self,
        control_plane: ControlPlane,
        *,
        kubeconfig: Path,
        identity: str = "operator-1",
        namespace: str = NAMESPACE,
        variables: Mapping[str, str] | None = None,
        loopback_services: bool = False,
        forked: bool = False,
        program: Sequence[str] | None = None,
    ) -> None:
        """`kubeconfig`: of the service account `chorus-operator`, maybe through a proxy; `variables`: set beside.

        `loopback_services`: plugins may be services on this machine, which it else refuses. `forked`: it begins where
        the imports are done, which takes a third of the time; else it is `python -m chorus_operator`, or `program`
        with the modules of tests/support.
        """
        self._program = program
        self._loopback_services = loopback_services
        self._forked = forked
        self.identity = identity
        self._namespace = namespace
        self._variables = dict(variables or {})
        self.starts = 0
        self._messages, self._health = free_port(), free_port()
        self._kubeconfig = kubeconfig
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._log_file = Path(tempfile.mkstemp(prefix=f"{identity}-", suffix=".log", dir=control_plane.directory)[1])

    async def __aenter__(self) -> Self:
        self.start()
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.running:
            await self.terminate()

    @property
    def url(self) -> str:
        """Where it receives messages."""
        return f"https://localhost:{self._messages}/v1/messages"

    @property
    def messages_port(self) -> int:
        """Where it receives messages."""
        return self._messages

    @property
    def health_port(self) -> int:
        """Where its probes are."""
        return self._health

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has written, over all its starts."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start the process; `ready` waits until it receives messages."""
        assert not self.running, f"{self.identity} runs already"
        self.starts += 1
        with self._log_file.open("ab") as log:
            self._process = self._fork(log) if self._forked else self._run(log)

    def _fork(self, log: IO[bytes]) -> ForkedProcess:
        return fork_server().start(self._environment(), log=log, loopback_services=self._loopback_services)

    def _run(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *(self._program or (LOOPBACK_PROGRAM if self._loopback_services else PROGRAM))],
            env=self._environment(),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )

    def _environment(self) -> dict[str, str]:
        """What the Deployment gives it, and where things are on this machine."""
        roots = (*ROOTS, *(SUPPORT if self._program else ()))
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / root) for root in roots),
            "PYTHONUNBUFFERED": "1",
            "KUBECONFIG": str(self._kubeconfig),
            "CHORUS_NAMESPACE": self._namespace,
            "CHORUS_POD_NAME": self.identity,
            "CHORUS_OPERATOR_IMAGE": "chorus-operator:test",
            "CHORUS_TRAINER_IMAGE": "chorus-trainer:test",
            "CHORUS_MESSAGES_URL": self.url,
            "CHORUS_MESSAGES_PORT": str(self._messages),
            "CHORUS_HEALTH_PORT": str(self._health),
            **self._variables,
        }

    async def probe(self, path: str) -> int:
        """Ask a probe; the HTTP status, 0 when nobody answers."""
        async with self._prober() as session:
            return await self._probe(session, path)

    @staticmethod
    def _prober() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))

    async def _probe(self, session: aiohttp.ClientSession, path: str) -> int:
        try:
            async with session.get(f"http://{HOST}:{self._health}{path}") as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0

    async def metrics(self) -> str:
        """Read /metrics, as Prometheus does."""
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            async with session.get(f"http://{HOST}:{self._health}/metrics") as answer:
                return await answer.text()

    async def ready(self) -> None:
        """Wait until it says that it is ready; RuntimeError with its log when it ends instead."""

        async with self._prober() as session:

            async def check() -> bool:
                if not self.running:
                    raise RuntimeError(f"{self.identity} ended with {self.exit_code}:\n{self.log[-4000:]}")
                return await self._probe(session, "/readyz") == 200

            await eventually(check, what=f"{self.identity} is ready", seconds=READY_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL, at once."""
        assert self._process is not None
        self._process.kill()

    async def terminate(self) -> tuple[int, float]:
        """End it by SIGTERM; its exit code, and how many seconds that took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return await self.wait(TERM_SECONDS), time.monotonic() - began

    async def wait(self, seconds: float) -> int:
        """Wait until the process has ended; its exit code. TimeoutError with its log, and killed, when it does not."""
        assert self._process is not None
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > end:
                self._process.kill()
                self._process.wait()
                raise TimeoutError(f"{self.identity} did not end within {seconds} s:\n{self.log[-4000:]}")
            await asyncio.sleep(0.01)
        return self.exit_code

    @property
    def exit_code(self) -> int:
        """How it ended; negative: the number of the signal that ended it."""
        assert self._process is not None
        code = self._process.poll()
        assert code is not None, f"{self.identity} still runs"
        return code

    async def keep_alive(self) -> None:
        """Start it again whenever it ends, as a kubelet does, until cancelled."""
        while True:
            if not self.running:
                self.start()
            await asyncio.sleep(0.01)


async def clear(api: Api) -> None:
    """Remove what earlier tests left to an operator that serves all namespaces, and its Lease."""
    for kind in ("Project", "TrainingRun", "Plugin"):
        for found in await api.list(kind):
            await _delete(api, kind, found["metadata"]["name"], namespace=found["metadata"]["namespace"])
    await _delete(api, "Lease", LEASE, namespace=NAMESPACE)


async def _delete(api: Api, kind: str, name: str, *, namespace: str) -> None:
    try:
        await api.delete(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status != 404:
            raise


async def holder(api: Api) -> str:
    """Tell who holds the Lease; empty for nobody."""
    lease = await api.find("Lease", LEASE, namespace=NAMESPACE)
    return str(lease["spec"].get("holderIdentity") or "") if lease is not None else ""


def free_port() -> int:
    """Find a port that nobody listens on and that the system gives to no one by itself."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise RuntimeError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")
