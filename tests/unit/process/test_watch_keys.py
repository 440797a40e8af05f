"""Which keys an event wakes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from chorus_api.contract import PROJECT_LABEL, RUN_LABEL
from chorus_kube.login import Credentials
from chorus_kube.work_queue import Key
from chorus_operator.watch import (
    PROGRESS_SECONDS,
    RESYNC_RATE,
    SETTLE_SECONDS,
    TURN_SECONDS,
    Keys,
    connection_info,
    resync,
    watch_settings,
)
from message_builders import ended, project, training_run
from simulated_time import simulate

PROJECT = Key("Project", "default", "home", "home")
RUN = Key("TrainingRun", "default", "home-soft-1", "home")
PLUGIN = Key("Plugin", "default", "soft", "")


def run(**status: Any) -> dict[str, Any]:
    return training_run(**status)


def plugin(namespace: str = "default") -> dict[str, Any]:
    return {"metadata": {"name": "soft", "namespace": namespace}, "spec": {}}


def child(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "child", "namespace": "default", "labels": labels}}


def test_a_project_wakes_itself() -> None:
    assert list(Keys().of("Project", False, project())) == [PROJECT]


def test_a_run_wakes_itself_and_its_project() -> None:
    assert list(Keys().of("TrainingRun", False, run())) == [PROJECT, RUN]


def test_what_a_pod_reports_wakes_the_run_alone() -> None:
    keys = Keys()
    keys.of("TrainingRun", False, run(phase="TRAINING"))
    reported = run(phase="TRAINING", progress={"percent": 5}, report={"attempt": 1}, checkpoint={"step": 2})
    assert list(keys.of("TrainingRun", False, reported)) == [RUN]
    assert list(keys.of("TrainingRun", False, run(phase="TRAINED"))) == [PROJECT, RUN]


def test_a_change_of_a_runs_spec_or_its_deletion_wakes_the_project() -> None:
    keys = Keys()
    keys.of("TrainingRun", False, run())
    edited = run()
    edited["metadata"]["generation"] = 2
    assert list(keys.of("TrainingRun", False, edited)) == [PROJECT, RUN]
    edited["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert list(keys.of("TrainingRun", False, edited)) == [PROJECT, RUN]
    assert list(keys.of("TrainingRun", True, edited)) == [PROJECT, RUN]


def test_what_a_user_does_is_looked_at_at_once_and_what_follows_from_it_a_little_later() -> None:
    keys = Keys()
    assert keys.of("TrainingRun", False, run()) == {PROJECT: 0, RUN: TURN_SECONDS}, "its Project may admit it first"
    assert keys.of("TrainingRun", False, run(phase="TRAINING")) == {PROJECT: PROGRESS_SECONDS, RUN: SETTLE_SECONDS}
    assert keys.of("Pod", False, child(**{RUN_LABEL: RUN.name, PROJECT_LABEL: "home"})) == {RUN: SETTLE_SECONDS}
    edited = run(phase="TRAINING")
    edited["metadata"]["generation"] = 2
    assert keys.of("TrainingRun", False, edited) == {PROJECT: 0, RUN: TURN_SECONDS}
    edited["metadata"]["generation"] = 3
    edited["status"]["conditions"] = [{"type": "Accepted", "status": "True"}]
    assert keys.of("TrainingRun", False, edited) == {PROJECT: 0, RUN: 0}
    assert keys.of("Project", False, project()) == {PROJECT: 0}
    assert keys.of("Project", False, {**project(), "status": {"phase": "queued"}}) == {PROJECT: SETTLE_SECONDS}
    asked = project()
    asked["metadata"]["annotations"] = {"chorus.dev/prepare": "again"}
    assert keys.of("Project", False, asked) == {PROJECT: 0}
    assert keys.of("TrainingRun", True, edited) == {PROJECT: 0, RUN: 0}


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_child_wakes_its_run_or_else_its_project(kind: str) -> None:
    keys = Keys()
    assert list(keys.of(kind, False, child(**{RUN_LABEL: "home-soft-1", PROJECT_LABEL: "home"}))) == [RUN]
    assert list(keys.of(kind, True, child(**{PROJECT_LABEL: "home"}))) == [PROJECT]
    assert list(keys.of(kind, False, child())) == []
    assert list(keys.of(kind, False, {"metadata": {"name": "bare", "namespace": "default"}})) == []


def test_a_plugin_wakes_the_projects_that_use_it() -> None:
    keys = Keys()
    keys.of("Project", False, project())
    assert list(keys.of("Plugin", False, plugin())) == [PLUGIN, PROJECT]
    assert list(keys.of("Plugin", False, plugin("elsewhere"))) == [Key("Plugin", "elsewhere", "soft", "")]
    without = project()
    without["spec"]["plugins"] = [{"name": "x", "pluginRef": {"name": "other"}}]
    keys.of("Project", False, without)
    assert list(keys.of("Plugin", False, plugin())) == [PLUGIN]
    keys.of("Project", False, project())
    keys.of("Project", True, project())
    assert list(keys.of("Plugin", True, plugin())) == [PLUGIN]


def test_the_deletion_of_a_plugin_or_a_project_wakes_the_runs_that_it_concerns_at_once() -> None:
    keys = Keys()
    keys.of("Project", False, project())
    keys.of("TrainingRun", False, run())
    assert keys.of("Plugin", True, plugin()) == {PLUGIN: 0, PROJECT: 0, RUN: 0}
    assert list(keys.of("Plugin", True, plugin("elsewhere"))) == [Key("Plugin", "elsewhere", "soft", "")]
    assert keys.of("Project", True, project()) == {PROJECT: 0, RUN: 0}
    ended = {"conditions": [{"type": "Succeeded", "status": "False"}]}
    keys.of("TrainingRun", False, {**run(), "status": ended})
    assert keys.of("Project", True, project()) == {PROJECT: 0}


def test_everything_alive_is_looked_at_again_every_five_minutes_and_not_all_at_once() -> None:
    async def main() -> None:
        keys = Keys()
        keys.of("Project", False, project())
        keys.of("Plugin", False, plugin())
        keys.of("TrainingRun", False, run())
        added: list[tuple[Key, float]] = []
        time = asyncio.get_running_loop().time
        task = asyncio.create_task(resync(keys, look=lambda key: added.append((key, time())), every=300))
        await asyncio.sleep(541)
        assert [key for key, _ in added] == [PROJECT, PLUGIN, RUN]
        assert [moment for _, moment in added] == pytest.approx([300, 380, 460])
        keys.of("TrainingRun", False, run(conditions=[ended()]))
        keys.of("Plugin", True, plugin())
        added.clear()
        await asyncio.sleep(61)
        assert [key for key, _ in added] == [PROJECT]
        task.cancel()

    simulate(main())


def test_looking_at_everything_again_takes_longer_when_there_is_more_and_not_more_at_a_time() -> None:
    async def main() -> None:
        keys = Keys()
        for number in range(1600):
            keys.of("Plugin", False, plugin(f"team-{number}"))
        added: list[float] = []
        time = asyncio.get_running_loop().time
        task = asyncio.create_task(resync(keys, look=lambda _: added.append(time()), every=300))
        await asyncio.sleep(301)
        assert len(added) == pytest.approx(RESYNC_RATE * 1, abs=1)
        await asyncio.sleep(800)
        assert len(added) == 1600
        assert added[-1] - added[0] == pytest.approx(1599 / RESYNC_RATE)
        await asyncio.sleep(190)  # before the next round
        assert len(added) == 1600
        await asyncio.sleep(100)
        assert len(added) > 1600
        task.cancel()

    simulate(main())


def test_kopf_gets_the_clients_own_credentials_for_a_while() -> None:
    credentials = Credentials("https://api", "/ca", None, None, insecure=False, token="secret")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    info = connection_info(credentials, now=now)
    assert (info.server, info.ca_path, info.scheme, info.token) == ("https://api", "/ca", "Bearer", "secret")
    assert info.expiration is not None
    assert info.expiration > now


def test_kopf_writes_nothing() -> None:
    settings = watch_settings()
    assert settings.peering.standalone
    assert not settings.posting.enabled
