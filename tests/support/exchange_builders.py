"""An exchange for tests: the real server on a loopback socket, with a frame and a run's directory in a folder."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chorus_api.contract import EXCHANGE_ARTEFACT, EXCHANGE_FRAME
from chorus_api.run_config import ExchangeConfig
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.jobs.exchange import run_exchange
from message_receiver import Receiver

TOKEN = "a-token-of-the-run"
FRAME = {"train.parquet": b"PAR1" + bytes(range(256)) * 40, "eval.parquet": b"PAR1", "frame.json": b'{"rows": 2}'}
SECONDS = 20.0


@dataclass(frozen=True)
class Exchange:
    """A line to an exchange that runs."""

    client: httpx.Client
    out: Path
    certificate: str
    port: int

    def get(self, name: str, **headers: str) -> httpx.Response:
        return self.client.get(EXCHANGE_FRAME + name, headers=headers)

    def put(self, name: str, content: Any = b"{}", **headers: str) -> httpx.Response:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.put(EXCHANGE_ARTEFACT + name, content=content, headers=given)

    def delete(self, name: str) -> httpx.Response:
        return self.client.delete(EXCHANGE_ARTEFACT + name)

    @property
    def files(self) -> dict[str, bytes]:
        """What is in the artefact."""
        found = self.out.rglob("*")
        return {str(path.relative_to(self.out)): path.read_bytes() for path in found if path.is_file()}


def lay_frame(folder: Path, *, without: str = "") -> tuple[Path, Path]:
    """Make the directories that an exchange is given: the frame, and the run's own."""
    data, run = folder / "data", folder / "run"
    data.mkdir()
    run.mkdir()
    for name, content in FRAME.items():
        if name != without:
            (data / name).write_bytes(content)
    return data, run


def exchange_config(receiver: Receiver, **changes: Any) -> ExchangeConfig:
    values = {
        "run_name": "home-far-1",
        "run_uid": "uid-1",
        "project_id": 4095123,
        "plugin_id": 77,
        "hosts": ["localhost", "127.0.0.1"],
        "port": 0,
        "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "max_bytes": 1_000_000,
        "max_files": 5,
        "messaging": receiver.messaging(),
    }
    return ExchangeConfig.model_validate(values | changes)


@contextmanager
def exchanging(folder: Path, receiver: Receiver, *, laid: tuple[Path, Path], **changes: Any) -> Iterator[Exchange]:
    """Run an exchange in a thread; it is stopped at the end, and must end by that alone."""
    data, run = laid
    stop, told, ended = StopFlag(), threading.Event(), []
    port = 0

    def serving(number: int) -> None:
        nonlocal port
        port = number
        told.set()

    def work() -> None:
        try:
            run_exchange(
                exchange_config(receiver, **changes),
                attempt=2,
                data_dir=data,
                run_dir=run,
                stop=stop,
                address="127.0.0.1",
                serving=serving,
            )
        except BaseException as error:
            ended.append(error)
            told.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert told.wait(SECONDS)
        assert not ended, ended
        certificate = receiver.wait_for_posts(1)[0].event["data"]["certificate"]
        (folder / "exchange.crt").write_text(certificate)
        with httpx.Client(
            base_url=f"https://localhost:{port}",
            verify=trusting(certificate),
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=SECONDS,
            trust_env=False,
        ) as client:
            yield Exchange(client, run / "out", certificate, port)
    finally:
        stop.request()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [Stopped]


def trusting(certificate: str) -> ssl.SSLContext:
    """A client's TLS context that trusts this certificate alone."""
    return ssl.create_default_context(cadata=certificate)
