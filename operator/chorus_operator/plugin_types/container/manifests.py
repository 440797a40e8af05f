"""Pods of container plugins: the plugin's own image, and beside it what checks its script, writes its frame in another
format, and forwards its messages."""

from __future__ import annotations

from typing import Any

from chorus_api import contract
from chorus_api.plugin import Plugin
from chorus_api.resources import Resources
from chorus_api.run_config import ContainerConfig, ForwardConfig, Messaging
from chorus_operator.decisions import names
from chorus_operator.decisions.resolve import frozen_script
from chorus_operator.decisions.run.plugin_type import WantedAttempt
from chorus_operator.manifests.environment import speech, training_environment
from chorus_operator.manifests.job import (
    attempt_job,
    attempt_policy,
    compute,
    config_map,
    metadata,
    run_mounts,
    run_volumes,
)
from chorus_operator.manifests.pod import (
    IDENTITY_MOUNT,
    Manifest,
    Mount,
    config_map_volume,
    identity_volume,
    placement_of,
    pod_template,
    restricted,
)
from chorus_operator.manifests.resources import frame_resources, in_manifest, side_resources
from chorus_operator.manifests.script import SCRIPT_MOUNT, check_script, script_volumes
from chorus_operator.manifests.storage import scratch_volume
from chorus_operator.plugin_types.container.requirements import DESCRIBE_SECONDS
from chorus_operator.plugin_types.container.resolve import container_of

CONTAINER = "plugin"
DESCRIBE_GRACE_SECONDS = 5
FORWARDER_START_SECONDS = 120
_FORWARD_CONFIG = contract.ROOT / "forward.json"


def container_job(wanted: WantedAttempt, config: ContainerConfig) -> Manifest:
    """One attempt of a container plugin. It sees the frame read-only, and its own directory."""
    run, accepted, attempt, operator_image = wanted.run, wanted.accepted, wanted.number, wanted.operator_image
    frame = Mount("data", str(contract.DATA_DIR), f"{contract.FRAMES}/{config.frame_name}", read_only=True)
    scratch, job_resources = accepted.operator.scratch, accepted.operator.job_resources
    volumes = run_volumes(accepted)
    init: list[Manifest] = []
    if config.frame_format != "parquet":
        init.append(_convert(config, operator_image, frame, most_bytes=scratch.bytes, job_resources=job_resources))
        volumes.append(scratch_volume("frame", scratch))
        frame = Mount("frame", str(contract.DATA_DIR), read_only=True)
    mounts = [frame, *run_mounts(run)]
    if config.script is not None:
        init.append(check_script(config.script, operator_image, job_resources=job_resources))
        volumes += script_volumes(config.script, scratch)
        mounts.append(SCRIPT_MOUNT)
    if config.messages == "File":
        init.append(_forwarder(operator_image, "config", attempt=attempt, job_resources=job_resources))
        volumes.append(scratch_volume("messages", scratch))
        mounts.append(Mount("messages", str(contract.MESSAGES_DIR)))
    env = training_environment(config, attempt=attempt, messages=config.messages)
    return attempt_job(
        run,
        accepted,
        attempt=attempt,
        container=_main(config.image, config.command, config.args) | compute(accepted.operator, env),
        volumes=volumes,
        mounts=mounts,
        init_containers=init,
    )


def _main(image: str, command: list[str], args: list[str]) -> Manifest:
    given = {name: value for name, value in (("command", command), ("args", args)) if value}
    return {"name": CONTAINER, "image": image, **given}


def _convert(
    config: ContainerConfig, image: str, frame: Mount, *, most_bytes: int, job_resources: Resources
) -> Manifest:
    source = Mount(frame.volume, str(contract.FRAME_DIR), frame.sub_path, read_only=True)
    container = {
        "name": "frame",
        "image": image,
        "command": ["python", "-m", "chorus_dataset.convert"],
        "args": [config.frame_format, str(contract.FRAME_DIR), str(contract.DATA_DIR), f"--most-bytes={most_bytes}"],
        "resources": frame_resources(job_resources),
    }
    return restricted(container, [source, Mount("frame", str(contract.DATA_DIR))])


def _forwarder(image: str, config_volume: str, *, attempt: int, job_resources: Resources) -> Manifest:
    """A native sidecar: it starts before the plugin and ends after it, and does not keep the Job from completing.

    The plugin starts when the sidecar can be stopped: one that misses its SIGTERM holds the pod until it is killed.
    """
    container = {
        "name": contract.MESSAGES_CONTAINER,
        "image": image,
        "restartPolicy": "Always",
        "command": ["python", "-m", "chorus_client.forward"],
        "args": ["--config", str(_FORWARD_CONFIG)],
        "env": [{"name": contract.ATTEMPT_ENV, "value": str(attempt)}, {"name": "HOME", "value": "/tmp"}],
        "startupProbe": {
            "exec": {"command": ["test", "-e", str(contract.MESSAGES_SENT)]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": FORWARDER_START_SECONDS,
        },
        "resources": side_resources(job_resources),
    }
    mounts = [
        Mount("messages", str(contract.MESSAGES_DIR)),
        Mount(config_volume, str(_FORWARD_CONFIG), "forward.json", read_only=True),
        IDENTITY_MOUNT,
    ]
    return restricted(container, mounts)


def describe_manifests(
    plugin: Plugin, messaging: Messaging, *, operator_image: str, job_resources: Resources
) -> list[Manifest]:
    """The ConfigMap and the Job that ask a Plugin's image what it is and needs; `job_resources`: of the Job."""
    container = container_of(plugin)
    scratch = plugin.spec.scratch
    name, namespace = names.describe_job(plugin, container.image).name, plugin.metadata.namespace
    labels = {
        contract.MANAGED_BY_LABEL: contract.MANAGED_BY,
        contract.DESCRIBES_LABEL: plugin.metadata.name,
        contract.ROLE_LABEL: "describe",
    }
    annotations = {
        contract.PLUGIN_UID_ANNOTATION: plugin.metadata.uid,
        contract.PLUGIN_GENERATION_ANNOTATION: str(plugin.metadata.generation),
    }
    owner = names.owner_reference("Plugin", plugin.metadata.name, plugin.metadata.uid)
    volumes: list[Manifest] = [identity_volume(), config_map_volume("config", name)]
    mounts = [IDENTITY_MOUNT]
    init: list[Manifest] = []
    if container.script is not None:
        script = frozen_script(container.script)
        init.append(check_script(script, operator_image, job_resources=job_resources))
        volumes += script_volumes(script, scratch)
        mounts.append(SCRIPT_MOUNT)
    if container.messages == "File":
        init.append(_forwarder(operator_image, "config", attempt=0, job_resources=job_resources))
        volumes.append(scratch_volume("messages", scratch))
        mounts.append(Mount("messages", str(contract.MESSAGES_DIR)))
    env = {contract.ROLE_ENV: "describe", contract.ATTEMPT_ENV: "0", **speech(messaging, container.messages)}
    main: dict[str, Any] = _main(container.image, list(container.command), list(container.args))
    main |= {key: value for key, value in compute(plugin.spec, env).items() if key != "resources"}
    main["resources"] = in_manifest(job_resources)
    template = pod_template(
        labels=labels,
        annotations=annotations,
        container=main,
        volumes=volumes,
        mounts=mounts,
        placement=placement_of([plugin.spec.pod], training=True),
        affinity={},
        grace_seconds=DESCRIBE_GRACE_SECONDS,
        scratch=scratch,
        init_containers=init,
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, namespace, labels, annotations, owner),
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": 900 + DESCRIBE_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _describe_policy(),
            "template": template,
        },
    }
    forward = ForwardConfig(messages_file=str(contract.MESSAGES_FILE), messaging=messaging)
    data = {"forward.json": forward.model_dump_json(by_alias=True, indent=1)}
    return [config_map(name, namespace, labels, owner, data), job]


def _describe_policy() -> Manifest:
    """Ask again only when the node took the pod away: an image that fails will fail again."""
    policy = attempt_policy(CONTAINER)
    return {"rules": [{**policy["rules"][0], "action": "Ignore"}, *policy["rules"][1:]]}
