"""Strangers without a token attack every port; the operator works on, and who sends at once is answered."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import itertools
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chorus_api.contract import AUDIENCE, EXCHANGE_FRAME, MESSAGES_PATH, RUN_SERVICE_ACCOUNT
from chorus_operator.ca import CA_SECRET
from exchange_builders import TOKEN, exchange_config, lay_frame
from harness import operator
from harness.apiserver import ControlPlane, die_with_parent
from harness.client import Api, Manifest
from harness.operator import NAMESPACE, Operator, free_port
from harness.strangers import Attack, attacking
from message_builders import ended, message, service_account, training_pod, training_run
from message_receiver import serving

ANSWER_SECONDS = 2.0
PAUSE_SECONDS = 0.3
"""Well below what one sender may send: `chorus_protocol/sender_limits.py`."""
RECONCILE_SECONDS = 10.0
TRIES = 3
"""Others may have had the cores meanwhile; what is the operator's own fault shows each time."""
MEMORY_KIB = 300 * 1024
OWN_ADDRESS = "127.0.0.1"
ATTACKERS_ADDRESS = "127.0.1.1"
CONNECTIONS = {"heads": 1500, "handshakes": 1500, "trickle": 100, "tokens": 400}
_numbers = itertools.count(2)


@dataclass(frozen=True)
class Server:
    """A port that is attacked, and what a good sender asks of it."""

    name: str
    port: int
    context: ssl.SSLContext | None
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    expected: frozenset[int]

    def seconds_to_answer(self, source: str) -> float:
        """Ask as a sender does, which tries again when it is cut off; how long it took until the answer."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = self._ask(source)
                assert status in self.expected, f"{self.name} answered {status}"
                return time.monotonic() - began
            assert time.monotonic() - began < 10 * ANSWER_SECONDS, f"{self.name} does not answer {source}"
            time.sleep(0.05)

    def _ask(self, source: str) -> int:
        where = {"timeout": 10 * ANSWER_SECONDS, "source_address": (source, 0)}
        connection = (
            http.client.HTTPSConnection("localhost", self.port, context=self.context, **where)
            if self.context is not None
            else http.client.HTTPConnection("127.0.0.1", self.port, **where)
        )
        with contextlib.closing(connection):
            connection.request(self.method, self.path, body=self.body, headers=self.headers)
            return connection.getresponse().status


@dataclass(frozen=True)
class Env:
    """Everything that is attacked."""

    api: Api
    namespace: str
    servers: list[Server]
    pids: list[int]
    token: str

    def attack(self, kind: str, *, addresses: int) -> Attack:
        ports = {
            secure: [s.port for s in self.servers if (s.context is not None) is secure] for secure in (True, False)
        }
        return Attack(kind, ports[True], ports[False], CONNECTIONS[kind], addresses, self.token)

    async def answers(self) -> dict[tuple[str, str], float]:
        """Ask every server once, from an address of one's own and from one of the attackers'."""
        asked = [(server, source) for server in self.servers for source in (OWN_ADDRESS, ATTACKERS_ADDRESS)]
        took = await asyncio.gather(*(asyncio.to_thread(server.seconds_to_answer, source) for server, source in asked))
        return {(server.name, source): seconds for (server, source), seconds in zip(asked, took, strict=True)}

    async def reconciles(self) -> None:
        """A new object gets a status."""
        run = await self.api.create(bare_run(f"home-soft-{next(_numbers)}", namespace=self.namespace))
        await self.api.wait_for(
            "TrainingRun",
            run["metadata"]["name"],
            lambda seen: bool(seen.get("status", {}).get("phase")),
            namespace=self.namespace,
            seconds=RECONCILE_SECONDS,
        )


def bare_run(name: str, *, namespace: str) -> Manifest:
    """Build a run as a user makes it."""
    run = training_run(name)
    return {**run, "metadata": {"name": name, "namespace": namespace}, "status": {}}


def most_memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def exchange(folder: Path) -> Iterator[tuple[int, Server]]:
    """Run an exchange as its pod does; its process id, and what it serves."""
    (folder / "receiver").mkdir()
    data, run = lay_frame(folder)
    config, port = folder / "job.json", free_port()
    with serving(folder / "receiver") as receiver:
        config.write_text(exchange_config(receiver, port=port).model_dump_json(by_alias=True))
        places = {"--config": config, "--data": data, "--run": run, "--termination-log": folder / "termination-log"}
        words = [str(word) for pair in places.items() for word in pair]
        process = subprocess.Popen(
            [sys.executable, "-m", "chorus_dataset", "exchange", *words],
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            preexec_fn=die_with_parent,
        )
        try:
            certificate = receiver.wait_for_posts(1)[0].event["data"]["certificate"]
            context = ssl.create_default_context(cadata=certificate)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            path = EXCHANGE_FRAME + "frame.json"
            yield process.pid, Server("exchange", port, context, "GET", path, headers, None, frozenset({200}))
        finally:
            process.terminate()
            process.wait(20)


@asynccontextmanager
async def attacked(control_plane: ControlPlane, api: Api, namespace: str, folder: Path) -> AsyncIterator[Env]:
    """Run an operator and an exchange, and make a pod that has something to say."""
    await operator.clear(api)
    kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace=NAMESPACE)
    async with Operator(control_plane, kubeconfig=kubeconfig) as process:
        run = await api.create(bare_run("home-soft-1", namespace=namespace))
        status = {"attempts": {"current": 1}, "conditions": [ended("False")]}
        await api.patch("TrainingRun", "home-soft-1", {"status": status}, namespace=namespace, subresource="status")
        await api.create(service_account(RUN_SERVICE_ACCOUNT, namespace=namespace))
        authority = await api.get("Secret", CA_SECRET, namespace=NAMESPACE)
        pod = await api.create(training_pod(run))
        token = await control_plane.token_for(
            pod["spec"]["serviceAccountName"], namespace=namespace, audience=AUDIENCE, pod=pod
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents+json"}
        body = message("progress", subject=run["metadata"]["uid"], percent=5)
        context = ssl.create_default_context(cadata=base64.b64decode(authority["data"]["tls.crt"]).decode())
        receiver = Server(
            "receiver", process.messages_port, context, "POST", MESSAGES_PATH, headers, body, frozenset({204})
        )
        health = Server("health", process.health_port, None, "GET", "/healthz", {}, None, frozenset({200}))
        with exchange(folder) as (pid, served):
            yield Env(api, namespace, [receiver, health, served], [process.pid, pid], token)
        assert "Traceback" not in process.log


@pytest.fixture
async def place(installed: ControlPlane, api: Api, namespace: str, tmp_path: Path) -> AsyncIterator[Env]:
    async with attacked(installed, api, namespace, tmp_path) as running:
        yield running


async def slowest_answers(place: Env, attack: Attack) -> dict[tuple[str, str], float]:
    """Attack, and ask every server until everything is under way and once more; the slowest answer of each."""
    slowest: dict[tuple[str, str], float] = {}
    async with attacking(attack) as under_way:
        last = False
        while not last:
            await asyncio.sleep(PAUSE_SECONDS)
            last = under_way.done()
            for key, seconds in (await place.answers()).items():
                slowest[key] = max(slowest.get(key, 0.0), seconds)
        assert set(under_way.result()["did"].values()) == {attack.connections}
        await place.reconciles()
    return slowest


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_strangers_on_every_port_stop_neither_the_operator_nor_a_good_sender(place: Env) -> None:
    late: dict[tuple[str, int], list[dict[tuple[str, str], float]]] = {}
    for kind, addresses in itertools.product(CONNECTIONS, (1, 250)):
        tries: list[dict[tuple[str, str], float]] = []
        while len(tries) < TRIES:
            tries.append(await slowest_answers(place, place.attack(kind, addresses=addresses)))
            if max(tries[-1].values()) <= ANSWER_SECONDS:
                break
        else:
            late[kind, addresses] = tries
    assert late == {}
    assert max(most_memory_kib(pid) for pid in place.pids) < MEMORY_KIB
