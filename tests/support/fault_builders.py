"""Plugins and cluster objects for tests that induce faults: shell programs that need neither data nor time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from builders import Manifest, make_plugin, overlay
from chorus_dataset.frame.write import row_hash
from cluster_builders import PIECES

GRACE_SECONDS = 5
"""Time between SIGTERM and SIGKILL: the fewest that a Plugin may state."""


def say(kind: str, data: str = "{}") -> str:
    """The shell command that sends a message; `data` is JSON."""
    line = f'{{"type": "{kind}", "data": {data}}}\\n'
    return f"""printf '{line}' >> "$CHORUS_MESSAGES_FILE\""""


STARTS = say("TRAINING_START")
ENDS_WELL = say("MODEL_NAME", '{"model_name": "mended"}')
IGNORES_SIGTERM = "while :; do sleep 1; done"
"""A shell that is its container's first process has no handler for SIGTERM: the kernel drops the signal."""


TOLD = "/tmp/told"
EVAL_FRACTION = Decimal("0.2")
ALIKE, UNLIKE = "yes yes yes yes", "Dim attic 42."


def on_sigterm(code: int) -> str:
    """Wait until SIGTERM, then end at once with this exit code."""
    return f"trap 'exit {code}' TERM; {STARTS}; while :; do sleep 1 & wait $!; done"


def once(first: str) -> str:
    """A program whose first pod does `first`; each later one finds the trace of it and ends well."""
    return f'if [ -e "$CHORUS_RUN_DIR/begun" ]; then {ENDS_WELL}; exit 0; fi; : > "$CHORUS_RUN_DIR/begun"; {first}'


def until_told(then: str) -> str:
    """A program that waits for `fault_stories.let_go`, does `then`, and ends."""
    return f"until [ -e {TOLD} ]; do sleep 0.2; done; {then}"


def program(name: str, image: str, script: str = ENDS_WELL, *, spec: Mapping[str, Any] | None = None) -> Manifest:
    """A container Plugin whose image runs a shell script, and which has nothing to publish."""
    container = {
        "image": image,
        "command": ["sh", "-c", script],
        "messages": "File",
        "describe": False,
        "artefact": "None",
    }
    default = {
        "type": "container",
        "lora": None,
        "container": container,
        "resources": PIECES,
        "checkpoint": {"graceSeconds": GRACE_SECONDS},
    }
    return make_plugin(name, spec=overlay(default, spec or {}))


def make_quota(name: str, hard: Mapping[str, str]) -> Manifest:
    """A ResourceQuota."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name},
        "spec": {"hard": dict(hard)},
    }


def make_limit_range(name: str, *, memory: str) -> Manifest:
    """A LimitRange: no container may have a higher memory limit; one that asks for none gets little."""
    limit = {"type": "Container", "max": {"memory": memory}, "defaultRequest": {"memory": "32Mi"}}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name}, "spec": {"limits": [limit]}}


def make_volume(name: str, *, claim: str, namespace: str, node: str, path: str) -> list[Manifest]:
    """A directory of a node as a PersistentVolume, and the claim that is bound to it.

    A directory that is not there is made as root's, and no pod of a run may write to it.
    """
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    common: Manifest = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": common
        | {
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "claimRef": {"namespace": namespace, "name": claim},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }
    claimed = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim},
        "spec": common | {"volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [volume, claimed]


def contrary_table(count: int = 40) -> str:
    """A CSV whose rows held back for evaluation answer otherwise than those trained on: who learns these forgets those.

    The split is by content (`chorus_dataset.frame.write`), so each prompt gets the answer that lands on its side.
    """
    prompts = [f"lights {number} on" for number in range(count)]
    rows = [(prompt, UNLIKE if _is_held_back(prompt, UNLIKE) else ALIKE) for prompt in prompts]
    kept = [(prompt, answer) for prompt, answer in rows if _is_held_back(prompt, answer) is (answer == UNLIKE)]
    return "\n".join(["prompt,response", *(f"{prompt},{answer}" for prompt, answer in kept), ""])


def _is_held_back(prompt: str, answer: str) -> bool:
    return int.from_bytes(row_hash([prompt, answer])[:8]) < int(EVAL_FRACTION * 2**64)
