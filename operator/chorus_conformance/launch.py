"""Start a plugin, as a process or as a container, and make sure that it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from chorus_api import contract
from chorus_conformance.errors import CannotCheck
from chorus_conformance.pod_files import PodFiles

ENGINES = ("docker", "podman", "nerdctl")
ENGINE_SECONDS = 60.0
PULL_SECONDS = 1800.0
USER = 65532
ENGINE_FAILED = 125
_ENGINE_SPEAKS = re.compile(r"^(docker|Error|time=.* level=fatal)\b", re.MULTILINE)
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")


class Running(Protocol):
    """A plugin that was started."""

    async def wait(self, seconds: float) -> int | None:
        """Exit code, 128 and the signal's number after a signal; None when it has not ended after so many seconds."""

    async def terminate(self) -> bool:
        """Send SIGTERM as the kubelet does, to the main process alone; whether it was still running."""


class Launcher(Protocol):
    """A way of running plugins."""

    @property
    def is_container(self) -> bool:
        """Whether the plugin sees a file system of its own."""

    @property
    def host(self) -> str:
        """Name or address by which the plugin reaches the receiver."""

    @property
    def listen(self) -> str:
        """Address that the receiver listens on."""

    @property
    def watched(self) -> tuple[Path, ...]:
        """Directories that the plugin could write to and must not."""

    async def prepare(self) -> None:
        """See that the plugin can be run at all; CannotCheck when not."""

    def check_end(self, code: int | None, output: str) -> None:
        """CannotCheck when it was not the plugin that ended like this, but what runs it."""

    def paths(self, pod_files: PodFiles) -> Mapping[PurePosixPath, str]:
        """Give each path of the contract as the plugin sees it."""

    def start(
        self, pod_files: PodFiles, env: Mapping[str, str], *, confined: bool = True
    ) -> contextlib.AbstractAsyncContextManager[Running]:
        """Start it; at the end of the context it does not run any more. OSError when it cannot be executed."""


async def _exit_code(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        async with asyncio.timeout(seconds):
            code = await process.wait()
    except TimeoutError:
        return None
    return 128 - code if code < 0 else code


@dataclass(frozen=True)
class _Process:
    process: asyncio.subprocess.Process

    async def wait(self, seconds: float) -> int | None:
        return await _exit_code(self.process, seconds)

    async def terminate(self) -> bool:
        if self.process.returncode is not None:
            return False
        self.process.terminate()
        return True


@dataclass(frozen=True)
class ProcessLauncher:
    """Runs a command in the plugin's directory, in a process group of its own."""

    folder: Path
    command: Sequence[str]
    is_container: bool = False
    host: str = "127.0.0.1"
    listen: str = "127.0.0.1"

    @property
    def watched(self) -> tuple[Path, ...]:
        """The plugin's own directory."""
        return (self.folder,)

    async def prepare(self) -> None:
        """Nothing to do."""

    def check_end(self, code: int | None, output: str) -> None:
        """Nothing stands between."""

    def paths(self, pod_files: PodFiles) -> Mapping[PurePosixPath, str]:
        """Real paths: they differ from those of a container, so that a plugin must look."""
        return {path: str(here) for path, here in pod_files.here().items()}

    @asynccontextmanager
    async def start(
        self, pod_files: PodFiles, env: Mapping[str, str], *, confined: bool = True
    ) -> AsyncIterator[Running]:
        """Start it with the environment of the contract and little else."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        own = {"HOME": str(pod_files.tmp), "TMPDIR": str(pod_files.tmp), "PYTHONDONTWRITEBYTECODE": "1"}
        with pod_files.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env={**inherited, **env, **own},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield _Process(process)
        finally:
            # What it started itself is in its group, and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@dataclass(frozen=True)
class _Container:
    engine: str
    name: str
    client: asyncio.subprocess.Process

    async def wait(self, seconds: float) -> int | None:
        return await _exit_code(self.client, seconds)

    async def terminate(self) -> bool:
        if self.client.returncode is not None:
            return False
        code, _ = await call(self.engine, "kill", "--signal=TERM", self.name)
        return code == 0


@dataclass(frozen=True)
class ContainerLauncher:
    """Runs an image with a pod's limits: read-only root, no rights, an unknown user."""

    engine: str
    image: str
    arguments: Sequence[str] = ()
    entrypoint: str | None = None
    host_network: bool = True
    is_container: bool = True
    watched: tuple[Path, ...] = ()

    @property
    def host(self) -> str:
        """This machine, as the container sees it."""
        return "127.0.0.1" if self.host_network else "chorus-receiver"

    @property
    def listen(self) -> str:
        """Every address, unless the container shares this machine's."""
        return "127.0.0.1" if self.host_network else "0.0.0.0"

    async def prepare(self) -> None:
        """Pull the image if it is not there; CannotCheck when it cannot be had."""
        code, _ = await call(self.engine, "image", "inspect", self.image)
        if code == 0:
            return
        code, said = await call(self.engine, "pull", self.image, seconds=PULL_SECONDS)
        if code != 0:
            raise CannotCheck(
                f"the image {self.image} is not here and cannot be pulled: {said[-500:].strip()}",
                hint=f"build it, or look whether `{self.engine} pull {self.image}` works",
            )

    def check_end(self, code: int | None, output: str) -> None:
        """The engine says by an exit code of its own that it could not make the container."""
        if code == ENGINE_FAILED and _ENGINE_SPEAKS.search(output):
            raise CannotCheck(
                f"{Path(self.engine).name} could not make the container: {output.strip()[-500:]}",
                hint="see whether the engine works, and whether it may mount directories below the temporary directory",
            )

    def paths(self, pod_files: PodFiles) -> Mapping[PurePosixPath, str]:
        """The paths of a pod."""
        return {path: str(path) for path in pod_files.here()}

    @asynccontextmanager
    async def start(
        self, pod_files: PodFiles, env: Mapping[str, str], *, confined: bool = True
    ) -> AsyncIterator[Running]:
        """Start it; `confined`: with the limits of a pod."""
        name = f"chorus-check-{secrets.token_hex(6)}"
        words = self.words(pod_files, env, name=name, confined=confined)
        with pod_files.log.open("wb") as log:
            client = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield _Container(self.engine, name, client)
        finally:
            await call(self.engine, "rm", "--force", name)
            with contextlib.suppress(ProcessLookupError):
                client.kill()
            await client.wait()

    def words(self, pod_files: PodFiles, env: Mapping[str, str], *, name: str, confined: bool) -> list[str]:
        """The command line that starts it."""
        words = [self.engine, "run", "--rm", f"--name={name}", "--pull=never", "--label=chorus.dev/check=plugin"]
        words += ["--network=host"] if self.host_network else [f"--add-host={self.host}:host-gateway"]
        if confined:
            words += ["--read-only", "--tmpfs=/tmp:rw,exec,mode=1777", "--cap-drop=ALL"]
            words += ["--security-opt=no-new-privileges", *_user(self.engine)]
        for inside, here in pod_files.here().items():
            if here.exists():
                writable = inside in {contract.RUN_DIR, contract.MESSAGES_DIR}
                words.append(f"--volume={here}:{inside}{'' if writable else ':ro'}")
        words.append(f"--volume={pod_files.termination}:{contract.TERMINATION_LOG}")
        words += [f"--env={key}={value}" for key, value in {**env, "HOME": "/tmp"}.items()]
        words += [f"--entrypoint={self.entrypoint}"] if self.entrypoint is not None else []
        return [*words, self.image, *self.arguments]


def _user(engine: str) -> list[str]:
    """An unknown user; where that needs root rights one's own, since the files must be read and removed afterwards."""
    if os.geteuid() == 0:
        return [f"--user={USER}:{USER}"]
    if Path(engine).name == "podman":
        return [f"--user={USER}:{USER}", f"--userns=keep-id:uid={USER},gid={USER}", "--security-opt=label=disable"]
    return [f"--user={os.geteuid()}:{os.getegid()}"]


def find_engine(wanted: str | None) -> str:
    """Find a container engine's command; CannotCheck when there is none."""
    for name in (wanted,) if wanted else ENGINES:
        if found := shutil.which(name):
            return found
    raise CannotCheck(
        f"there is no {wanted or ' nor '.join(ENGINES)} on PATH",
        hint="install one, name another with --engine, or check the plugin's directory as a process",
    )


async def call(*words: str, seconds: float = ENGINE_SECONDS) -> tuple[int, str]:
    """Run a command of the engine; its exit code and what it said. CannotCheck when it does not end."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    except TimeoutError:
        raise CannotCheck(
            f"`{' '.join(words[:3])}` did not end within {seconds:g} s", hint="see whether the container engine works"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode("utf-8", "replace")
