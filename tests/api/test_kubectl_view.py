"""The tests' own idea of what kubectl shows is that of the real kubectl."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import make_condition, make_plugin, make_project, make_run
from chorus_operator.events import event_manifest
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest
from kubectl_view import describe, get_row

TIME = "2026-01-01T00:00:00Z"
LOG = "step 1\n\n  Traceback (most recent call last):\nValueError: row 17\n"
FAILURE = {"class": "user", "reason": "TrainingFailed", "exitCode": 1, "logTail": LOG, "hint": "See the log."}
RUN = {
    "phase": "failed",
    "reason": "TrainingFailed",
    "message": "ValueError: row 17 has no answer (pod shop-t5-1-x, exit code 1)",
    "observedGeneration": 1,
    "attempts": {"current": 2, "user": 1, "infrastructure": 1, "disruption": 0},
    "progress": {"attempt": 2, "percent": 41, "loss": "1.2499", "etaSeconds": 90, "time": TIME},
    "shown": {"percent": 40, "loss": "1.25", "message": "ValueError: row 17\nhas no answer"},
    "conditions": [make_condition("Accepted"), make_condition("Succeeded", status="False", message="It failed.")],
    "model": {
        "name": "shop-t5-1",
        "uri": "pvc://shop/models/shop-t5-1",
        "digest": "sha256:0",
        "promoted": True,
        "metrics": {"eval_loss": "0.5", "f1": "0.9"},
    },
    "failure": FAILURE,
}
PROJECT = {
    "phase": "failed",
    "reason": "PluginFailed",
    "message": "t5: TrainingFailed: ValueError: row 17 has no answer",
    "dataset": {"name": "df-3f9c", "digest": "sha256:3f9c", "rows": 1873},
    "conditions": [make_condition("DatasetReady")],
}
PLUGIN = {"conditions": [make_condition("Online", status="Unknown"), make_condition("Ready")]}


@pytest.mark.parametrize(
    ("manifest", "status"),
    [
        (make_project(), PROJECT),
        (make_project(), {"phase": "PREPROCESSING"}),
        (make_plugin(), PLUGIN),
        (make_plugin(), {}),
        (make_run(), RUN),
        (make_run(), {"phase": "queued", "reason": "Pending"}),
    ],
    ids=["Project", "new Project", "Plugin", "new Plugin", "TrainingRun", "new TrainingRun"],
)
async def test_what_the_tests_take_for_kubectls_words_is_what_kubectl_prints(
    manifest: Manifest, status: Manifest, control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    await api.create({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}})
    stored = await api.patch(kind, name, {"status": status}, namespace=namespace, subresource="status")
    event = event_manifest(stored, reason="TrainingFailed", message="It failed.\n", now=datetime.now(UTC), warning=True)
    events = [event] if status else []
    for each in events:
        await api.create(each)
    begun = datetime.now(UTC)
    place = [f"--namespace={namespace}", f"{kind.lower()}.chorus.dev", name]
    printed = {
        False: await _kubectl(control_plane, "get", *place),
        True: await _kubectl(control_plane, "get", *place, "--output=wide"),
    }
    ended = datetime.now(UTC)
    times = [begun + timedelta(seconds=more) for more in range(int((ended - begun).total_seconds()) + 2)]
    for wide, text in printed.items():
        assert _cells(text) in [get_row(stored, wide=wide, now=time) for time in times]
    shown = await _kubectl(control_plane, "describe", *place)
    assert _plain(describe(stored, events)) == _described(shown, has_status=bool(status))


def _cells(text: str) -> dict[str, str]:
    """Cut the one row of `kubectl get` where the headings begin."""
    head, row = text.splitlines()
    starts = [heading.start() for heading in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def _described(text: str, *, has_status: bool) -> list[str]:
    """Give the status and the Events as `describe` of the helper has them: no ages, no head of the table of Events."""
    above, _, table = text.partition("\nEvents:")
    status = above.partition("\nStatus:")[2] if has_status else ""
    events = [re.sub(r"^(\s*\S+\s+\S+\s+)\S+", r"\1", line) for line in table.splitlines()[3:]]
    return _plain("\n".join(["Status:", status, "Events:" if events else "Events: <none>", *events]))


def _plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


async def _kubectl(control_plane: ControlPlane, *arguments: str) -> str:
    kubectl: Path = control_plane.binaries / "kubectl"
    process = await asyncio.create_subprocess_exec(
        kubectl,
        f"--kubeconfig={control_plane.admin_kubeconfig}",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()
