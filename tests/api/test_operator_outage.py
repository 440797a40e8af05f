"""An operator that was away: what pods said meanwhile arrives later, and what was never said is read from their end."""

from __future__ import annotations

import asyncio

from builders import make_plugin, make_project
from chorus_api.contract import RUN_LABEL
from harness.apiserver import ControlPlane
from harness.client import Api, eventually
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import Attempt, by_run
from harness.proxy import ApiRequest, Cut, Fault
from harness.proxy import Moment as When

SAID = ["DATA_REPORT", "MODEL_NAME", "TRAINING_START"]


async def apply_project(on: OperatorHarness) -> None:
    spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}}
    await on.create(make_plugin("soft", namespace=on.namespace, spec=spec))
    entries = [{"name": "a", "pluginRef": {"name": "soft"}}]
    await on.create(make_project("home", namespace=on.namespace, plugins=entries))


async def until_job_ends(on: OperatorHarness, run: str) -> None:
    async def ended() -> bool:
        jobs = await on.api.list("Job", namespace=on.namespace, labels=f"{RUN_LABEL}={run}")
        conditions = [each for job in jobs for each in job.get("status", {}).get("conditions", ())]
        return any(each["type"] in ("Complete", "Failed") for each in conditions)

    await eventually(ended, what=f"a Job of {run} has ended", seconds=30)


async def test_pods_that_speak_to_nobody_go_on_trying_and_are_heard_when_the_operator_is_back(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        on.kill_at_first_attempt()
        await apply_project(on)

        async def speaks_in_vain() -> bool:
            return on.kubelet.started["home-a-1-1"] == 1 and not on.operator.running

        await eventually(speaks_in_vain, what="the pod has started and the operator is dead", seconds=40)
        await asyncio.sleep(0.5)  # long enough for a few refused connections; nothing can be waited for
        assert on.mailbag.delivered == []
        on.operator.start()
        run = await on.reaches("TrainingRun", "home-a-1", "TRAINED")
        assert [kind for _, _, kind in on.mailbag.delivered] == SAID
        assert on.mailbag.lost == []
        assert {"dataReport", "trainingStart", "modelName"} <= run["status"]["report"].keys()
        assert run["status"]["attempts"]["current"] == 1
        assert on.jobs_created()["home-a-1-1"] == 1


async def test_the_end_of_a_pod_alone_tells_how_its_run_went(installed: ControlPlane, api: Api, namespace: str) -> None:
    plan = by_run({"home-a-1": [Attempt(speaks=False)]})
    async with operator_harness(installed, api, namespace=namespace, plan=plan) as on:
        on.kill_at_first_attempt()
        await apply_project(on)
        await until_job_ends(on, "home-a-1")
        assert not on.operator.running
        on.operator.start()
        run = await on.reaches("TrainingRun", "home-a-1", "TRAINED")
        assert run["status"]["model"]["finalLoss"] == "0.4"
        assert "report" not in run["status"]
        assert on.jobs_created()["home-a-1-1"] == 1


async def test_a_message_is_acknowledged_only_once_it_is_stored(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    """Each write of the report is cut off before or after it was done, and the operator with it."""
    moments = iter([("before", 1), ("after", 2)])
    due = next(moments)
    seen = 0

    async def hook(request: ApiRequest, when: When) -> Fault | None:
        nonlocal due, seen
        if b'"report"' not in request.body or request.subresource != "status" or request.verb != "patch":
            return None
        seen += when == "before"
        if on.operator.running and when == due[0] and seen >= due[1]:
            due = next(moments, ("never", 0))
            on.operator.kill()
            return Cut()
        return None

    async with operator_harness(installed, api, namespace=namespace) as on:
        on.proxy.hook = hook
        reviving = asyncio.create_task(on.operator.keep_alive())
        try:
            await apply_project(on)
            run = await on.reaches("TrainingRun", "home-a-1", "TRAINED", seconds=100)
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)
        assert on.operator.starts == 3
        assert [kind for _, _, kind in on.mailbag.delivered] == SAID
        assert {"dataReport", "trainingStart", "modelName"} <= run["status"]["report"].keys()
