"""Two operators: one reconciles, both receive; the Lease goes over when its holder ends, dies or is robbed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from builders import make_plugin, make_project
from chorus_api.run_config import RunConfig
from chorus_protocol.messages import ProgressReport
from harness import operator
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest, eventually
from harness.kubelet import Container, Exit
from harness.operator import LEASE, NAMESPACE, Operator
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import DELIVERY_SECONDS, Attempt, by_run, chorus, open_sender

LEASE_SECONDS = 15
RETRY_SECONDS = 3
SLACK_SECONDS = 10  # for a loaded machine


@asynccontextmanager
async def standby(control_plane: ControlPlane, on: OperatorHarness) -> AsyncIterator[Operator]:
    """Run a second operator behind the same proxy; it is ready, and the first one holds the Lease."""
    await eventually(lambda: operator.holder(on.api), what="the first operator holds the Lease")
    kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace=NAMESPACE, server=on.proxy.url)
    async with Operator(control_plane, kubeconfig=kubeconfig, identity="operator-2", forked=True) as second:
        assert await operator.holder(on.api) == "operator-1"
        yield second


async def until_held_by(on: OperatorHarness, identity: str, *, seconds: float) -> float:
    """Wait until that operator holds the Lease; how many seconds that took."""
    began = time.monotonic()

    async def check() -> bool:
        return await operator.holder(on.api) == identity

    await eventually(check, what=f"{identity} holds the Lease", seconds=seconds)
    return time.monotonic() - began


async def apply_project(on: OperatorHarness, name: str = "home") -> None:
    """One plugin, one automatic run."""
    if await on.api.find("Plugin", "soft", namespace=on.namespace) is None:
        spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}}
        await on.create(make_plugin("soft", namespace=on.namespace, spec=spec))
    entries = [{"name": "a", "pluginRef": {"name": "soft"}}]
    await on.create(make_project(name, namespace=on.namespace, plugins=entries))


async def test_one_reconciles_and_both_receive_and_the_second_goes_on_when_the_first_is_asked_to_end(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on, standby(installed, on) as second:
        on.kubelet.program = chorus(by_run({}), on.mailbag, url=second.url)
        await apply_project(on)
        await on.reaches("Project", "home", "TRAINED")
        assert [await replica.probe("/readyz") for replica in (on.operator, second)] == [200, 200]
        assert {kind for _, _, kind in on.mailbag.delivered} == {"DATA_REPORT", "TRAINING_START", "MODEL_NAME"}
        code, seconds = await on.operator.terminate()
        assert (code, seconds < 10) == (0, True)
        await until_held_by(on, "operator-2", seconds=RETRY_SECONDS + SLACK_SECONDS)
        await apply_project(on, "shop")
        await on.reaches("Project", "shop", "TRAINED")


async def test_when_the_holder_dies_the_other_takes_over_within_the_time_of_the_lease(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    plan = by_run({"home-a-1": [Attempt(exit_code=75), Attempt(exit_code=137)]})
    async with operator_harness(installed, api, namespace=namespace, plan=plan) as on, standby(installed, on) as second:
        on.kubelet.program = chorus(plan, on.mailbag, url=second.url)
        on.kill_at_first_attempt()
        await apply_project(on)
        await on.operator.wait(40)
        seconds = await until_held_by(on, "operator-2", seconds=LEASE_SECONDS + RETRY_SECONDS + SLACK_SECONDS)
        print(f"\nthe Lease went over {seconds:.1f} s after its holder was killed")
        await on.reaches("Project", "home", "TRAINED", seconds=80)
        assert on.runs["home-a-1"]["status"]["attempts"]["current"] == 3
        assert set(on.jobs_created().values()) == {1}


async def test_a_holder_that_loses_its_lease_ends_with_an_error(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        await eventually(lambda: operator.holder(api), what="the operator holds the Lease")
        robbed = {"spec": {"holderIdentity": "a-robber", "leaseDurationSeconds": 3600}}
        await api.patch("Lease", LEASE, robbed, namespace=NAMESPACE)
        assert await on.operator.wait(2 * RETRY_SECONDS + SLACK_SECONDS) == 1
        assert '"part": "the Lease"' in on.operator.log
        assert await operator.holder(api) == "a-robber"


async def test_an_operator_that_ends_writes_the_progress_that_it_has_not_written_yet(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    """Progress is written every ten seconds; the second message within them is only in memory."""
    said = asyncio.Event()

    def is_at_ten(run: Manifest) -> bool:
        return bool(run["status"].get("progress", {}).get("percent") == 10)

    async def program(container: Container) -> Exit:
        if "run.json" not in container.files:
            return await prepare(container)
        config = RunConfig.model_validate_json(container.files["run.json"])
        sender = open_sender(container, config.messaging, attempt=1)
        ids = {"project_id": config.project_id, "plugin_id": config.plugin_id}
        sender.progress(ProgressReport(percent=10, **ids))
        await on.api.wait_for("TrainingRun", "home-a-1", is_at_ten, namespace=namespace)
        sender.progress(ProgressReport(percent=20, **ids))
        await asyncio.get_running_loop().run_in_executor(container.threads, sender.close, DELIVERY_SECONDS)
        said.set()
        await container.stopping.wait()
        return Exit(75)

    async with AsyncExitStack() as stack:
        on = await stack.enter_async_context(operator_harness(installed, api, namespace=namespace))
        prepare = on.kubelet.program
        on.kubelet.program = program
        await apply_project(on)
        async with asyncio.timeout(40):
            await said.wait()
        code, seconds = await on.operator.terminate()
        assert (code, seconds < 10) == (0, True)
        run = await api.get("TrainingRun", "home-a-1", namespace=namespace)
        assert run["status"]["progress"]["percent"] == 20
