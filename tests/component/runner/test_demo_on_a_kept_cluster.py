"""What the demo says of runs that were there before it. The cluster is simulated: `kubectl` is a script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

# Everything is TRAINED at once. Before the Project is applied there are the runs of `before`, then those of `after`.
KUBECTL = r"""#!/usr/bin/env bash
cat >/dev/null
case "$*" in
  *"project.yaml") touch "$SCENE/applied" ;;
  *"get crun -o name") if [ -e "$SCENE/applied" ]; then cat "$SCENE/after"; else cat "$SCENE/before"; fi ;;
  *"jsonpath={.status.phase}") echo TRAINED ;;
  *"{.status.model.metrics.eval_loss_without_adapter}") echo 1.0 ;;
  *"{.status.model.metrics.eval_loss}") echo 0.5 ;;
  *creationTimestamp*) echo 2026-11-30T09:00:00Z ;;
esac
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def demo(directory: Path, *, before: str, after: str) -> str:
    shutil.copytree(REPOSITORY / "examples" / "demo", directory / "examples" / "demo")
    (directory / "models" / "t5").mkdir(parents=True)
    (directory / "models" / "decoder").mkdir()
    (directory / "before").write_text(before)
    (directory / "after").write_text(after)
    script(directory / "bin" / "kubectl", KUBECTL)
    script(directory / "kind" / "cluster", "#!/bin/sh\n")
    script(directory / "scripts" / "tiny-models", f"#!/bin/sh\necho {directory}/models\n")
    script(directory / "scripts" / "install", "#!/bin/sh\n")
    env = os.environ | {
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
        "SCENE": str(directory),
        "KUBECONFIG": "",
        "CHORUS_OPERATOR_IMAGE": "operator",
        "CHORUS_TRAINER_IMAGE": "trainer",
    }
    done = subprocess.run(
        ["bash", str(directory / "examples" / "demo" / "run.sh")],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_runs_of_this_demo_are_timed_from_apply(tmp_path: Path) -> None:
    printed = demo(tmp_path, before="", after="trainingrun/home-requests-t5-1\n")
    assert re.search(r"TRAINED, \d+ s after kubectl apply", printed)
    assert "before" not in printed


def test_runs_from_before_are_said_to_be_from_before(tmp_path: Path) -> None:
    earlier = "trainingrun/home-requests-t5-1\n"
    printed = demo(tmp_path, before=earlier, after=earlier)
    assert "there are runs from before: trainingrun/home-requests-t5-1" in printed
    assert "TRAINED before, by the runs of 2026-11-30T09:00:00Z: nothing was trained now" in printed
    assert "s after kubectl apply" not in printed
