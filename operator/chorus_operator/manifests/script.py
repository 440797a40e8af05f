"""A plugin's own script: an init container checks its digest, and puts the very bytes that it checked in place."""

from __future__ import annotations

from chorus_api import contract
from chorus_api.resources import Resources
from chorus_api.run_config import FrozenScript
from chorus_api.scratch import Scratch
from chorus_operator.manifests.pod import Manifest, Mount, restricted
from chorus_operator.manifests.resources import side_resources
from chorus_operator.manifests.storage import scratch_volume

SCRIPT_MOUNT = Mount("script", str(contract.SCRIPT_DIR), read_only=True)


def check_script(script: FrozenScript, image: str, *, job_resources: Resources) -> Manifest:
    """The init container: it ends the pod before anything of a script with another digest is executed."""
    container = {
        "name": "script",
        "image": image,
        "command": ["python", "-m", "chorus_client.script"],
        "args": [
            str(contract.SCRIPT_SOURCE_DIR / script.key),
            str(contract.SCRIPT_DIR / script.key),
            script.sha256,
            f"ConfigMap {script.config_map}, key {script.key}",
        ],
        "resources": side_resources(job_resources),
        "terminationMessagePolicy": "File",
    }
    mounts = [
        Mount("script-source", str(contract.SCRIPT_SOURCE_DIR), read_only=True),
        Mount("script", str(contract.SCRIPT_DIR)),
    ]
    return restricted(container, mounts)


def script_volumes(script: FrozenScript, scratch: Scratch) -> list[Manifest]:
    """The ConfigMap, and the directory for what was checked.

    The check tells of a ConfigMap or key that is missing. So that it can name the keys that are there, all are mounted,
    into the check alone.
    """
    source = {"name": script.config_map, "optional": True}
    return [{"name": "script-source", "configMap": source}, scratch_volume("script", scratch)]
