"""The kubectl commands of README and handbook, given word for word to the real kubectl, with a Project and runs there.

What takes nodes, images or Helm is tested elsewhere: `docs_commands.NEEDS_MORE` says where.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders import make_plugin, make_project, make_run
from docs_commands import Command, commands, needs_more, runnable
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import Attempt, by_run

PLACE = "chorus-demo"
PROJECT, RUN, BY_HAND, PLUGIN = "home-requests", "home-requests-t5-1", "home-t5-longer", "soft"
SECONDS = 60.0
SAYS_NOTHING = (
    *(".status.failure", ".dataset.info", "status.phase=failed", "role=fetch", "describes="),
    "-n chorus-system get pods",
)
"""What is not there: all went well, nothing is fetched, no image is asked, and the operator is outside the cluster."""


@dataclass(frozen=True)
class Said:
    """What a command printed."""

    code: int
    output: str
    errors: str


@pytest.fixture(scope="module")
def said(installed: ControlPlane) -> dict[Command, Said]:
    return asyncio.run(_try_all(installed))


async def _try_all(control_plane: ControlPlane) -> dict[Command, Said]:
    plan = by_run({BY_HAND: [Attempt(lingers=True)], RUN: [Attempt(log="step 1\nstep 2\n")]})
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        async with operator_harness(control_plane, api, namespace=PLACE, plan=plan) as on:
            frame = await _play(on)
            kubeconfig = await _kubeconfig(control_plane)
            texts = {
                command: runnable(command, project=PROJECT, run=RUN, plugin=PLUGIN, frame=frame)
                for command in commands()
                if needs_more(command) is None
            }
            once = {
                text: await _run(text, kubeconfig=kubeconfig, binaries=control_plane.binaries)
                for text in texts.values()
            }
            return {command: once[text] for command, text in texts.items()}


async def _play(on: OperatorHarness) -> str:
    """Let a Project be trained, and start a run by hand; the name of the frame's ConfigMap."""
    await on.create(make_plugin(PLUGIN, namespace=PLACE, spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}}))
    entries = [{"name": name, "pluginRef": {"name": PLUGIN}} for name in ("t5", "decoder")]
    spec = {"dataset": {"refreshSeconds": 86400}}
    await on.create(make_project(PROJECT, namespace=PLACE, plugins=entries, spec=spec))
    await on.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reader", "namespace": PLACE}})
    project = await on.reaches("Project", PROJECT, "TRAINED")
    await on.create(make_run(BY_HAND, namespace=PLACE, project=PROJECT, plugin="t5"))
    await on.reaches("TrainingRun", BY_HAND, "TRAINING")
    return str(project["status"]["dataset"]["configMap"])


async def _kubeconfig(control_plane: ControlPlane) -> Path:
    """Write a kubeconfig of an administrator whose namespace is that of the Project."""
    path = control_plane.directory / "pages.kubeconfig"
    shutil.copyfile(control_plane.admin_kubeconfig, path)
    done = await _run(
        f"kubectl config set-context --current --namespace={PLACE}", kubeconfig=path, binaries=control_plane.binaries
    )
    assert done.code == 0, done.errors
    return path


async def _run(text: str, *, kubeconfig: Path, binaries: Path) -> Said:
    path, home = f"{binaries}:{os.environ['PATH']}", str(kubeconfig.parent)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        text,
        cwd=REPOSITORY,
        env={"PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": home},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Said(-1, "", f"it did not end within {SECONDS:g} s")
    return Said(process.returncode or 0, output.decode(), errors.decode())


@pytest.mark.parametrize("command", [command for command in commands() if needs_more(command) is None], ids=str)
def test_a_command_does_what_it_says(command: Command, said: dict[Command, Said]) -> None:
    answer = said[command]
    assert answer.code == 0, f"{command}\n{answer.errors}"
    if any(part in command.text for part in SAYS_NOTHING):
        return
    assert "No resources found" not in answer.errors, command
    if not command.text.startswith("kubectl logs"):  # most of the pretend pods log nothing
        assert answer.output.strip(), f"{command}: it prints nothing\n{answer.errors}"
