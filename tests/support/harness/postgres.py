"""A PostgreSQL server for tests, ready in about two seconds: its own data, a password, on a loopback port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from harness.apiserver import die_with_parent
from harness.binaries import postgres_binaries
from harness.pki import KeyPair

USER, PASSWORD, DATABASE = "reader", "s3cr3t-pass word/@", "postgres"
QUOTED = "s3cr3t-pass%20word%2F%40"
START_SECONDS = 30.0
_NOBODY = 65534


class Postgres:
    """A server. Use it as a context manager."""

    def __init__(self, *, tls: KeyPair | None = None) -> None:
        """`tls`: what the server shows of itself; without it, it does not speak TLS."""
        self._tls = tls
        self._programs = postgres_binaries()
        memory = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="chorus-pg-", dir=memory if memory.is_dir() else None))
        # The server refuses to run as root.
        self._user: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}
        self.port = _free_port()
        if self._user:
            os.chown(self._folder, _NOBODY, _NOBODY)
            self._programs = _where_nobody_reaches(self._programs, self._folder)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def url(
        self,
        *,
        user: str = USER,
        password: str = QUOTED,
        host: str = "127.0.0.1",
        database: str = DATABASE,
        port: int | None = None,
        **parameters: str,
    ) -> str:
        """Address of the server, as a Secret holds it."""
        address = f"postgresql://{user}:{password}@{host}:{port or self.port}/{database}"
        return f"{address}?{urlencode(parameters)}" if parameters else address

    def run(self, sql: str) -> None:
        """Run statements as the owner of the database."""
        command = [
            str(self._programs / "psql"),
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        environment = {**os.environ, "PGPASSWORD": PASSWORD, "PGUSER": USER, "PGDATABASE": DATABASE}
        subprocess.run([*command, "-c", sql], env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)

    def _start(self) -> None:
        data, secret = self._folder / "data", self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = subprocess.run(
            [
                self._programs / "initdb",
                *("-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", secret),
                *("--no-sync", "--encoding=UTF8", "--locale=C"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            **self._user,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr or made.stdout}")
        options = {"fsync": "off", "unix_socket_directories": self._folder, "listen_addresses": "127.0.0.1"}
        if self._tls is not None:
            options |= self._tls_files(self._tls)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", data, "-p", str(self.port)),
                    *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=die_with_parent,
                **self._user,
            )
        self._wait()

    def _tls_files(self, tls: KeyPair) -> dict[str, Any]:
        certificate, key = self._folder / "server.crt", self._folder / "server.key"
        certificate.write_bytes(tls.certificate)
        certificate.chmod(0o644)
        key.touch(0o600)  # the server takes no key that others may read
        key.write_bytes(tls.key)
        if self._user:
            os.chown(key, _NOBODY, _NOBODY)
        return {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key}

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, timeout=10, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"postgres did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)


def _where_nobody_reaches(programs: Path, folder: Path) -> Path:
    """Copy what was unpacked below root's home to where another user may go; the programs find the rest."""
    programs = programs.resolve()
    if all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    top = programs.parents[4]  # of TOP/usr/lib/postgresql/15/bin
    shutil.copytree(top / "usr", folder / "usr", symlinks=True)
    return folder / programs.relative_to(top)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
