"""The training pod of a LoRA run, and the Job that fetches a hub's base model onto the claim."""

from __future__ import annotations

from chorus_api import contract
from chorus_api.run_config import FetchConfig, FrozenBaseModel, FrozenScript, RunConfig
from chorus_operator.decisions import names
from chorus_operator.decisions.run.plugin_type import WantedAttempt, WantedFetch
from chorus_operator.manifests.environment import training_environment
from chorus_operator.manifests.job import (
    ClaimPlace,
    attempt_job,
    compute,
    config_map,
    cpu_job,
    given_to_fetch,
    project_owner,
    run_mounts,
    run_volumes,
)
from chorus_operator.manifests.pod import Manifest, Mount, claim_volume
from chorus_operator.manifests.script import SCRIPT_MOUNT, check_script, script_volumes

TOKEN_DIR = "/var/run/chorus-hub"


def training_job(wanted: WantedAttempt, config: RunConfig) -> Manifest:
    """One attempt: one Job, one pod. It sees the frame and the base model read-only, and its own directory."""
    run, accepted, attempt = wanted.run, wanted.accepted, wanted.number
    claim, base = accepted.operator.claim, config.base_model
    volumes = run_volumes(accepted)
    frame = Mount("data", str(contract.DATA_DIR), f"{contract.FRAMES}/{config.frame_name}", read_only=True)
    mounts = [frame, *run_mounts(run)]
    if base.claim is not None:
        if base.claim != claim:
            volumes.append(claim_volume("base", base.claim))
        volume = "data" if base.claim == claim else "base"
        mounts.append(Mount(volume, str(contract.BASE_DIR), base.sub_path, read_only=True))
    if config.resume_model is not None:
        published = f"{contract.MODELS}/{config.resume_model}"
        mounts.append(Mount("data", str(contract.RESUME_DIR), published, read_only=True))
    env = {contract.ATTEMPT_ENV: str(attempt), "HOME": "/tmp", "HF_HUB_OFFLINE": "1"}
    init: list[Manifest] = []
    if config.script is not None:
        env |= training_environment(config, attempt=attempt, messages="Http")
    if config.script is not None and config.script.config_map is not None:
        script = FrozenScript(config_map=config.script.config_map, key=config.script.path, sha256=config.script.sha256)
        init.append(check_script(script, wanted.operator_image, job_resources=accepted.operator.job_resources))
        volumes += script_volumes(script, accepted.operator.scratch)
        mounts.append(SCRIPT_MOUNT)
    container = {"name": "trainer", "image": config.image} | compute(accepted.operator, env)
    return attempt_job(
        run,
        accepted,
        attempt=attempt,
        container=container,
        volumes=volumes,
        mounts=mounts,
        init_containers=init,
    )


def fetch_manifests(wanted: WantedFetch, base: FrozenBaseModel) -> list[Manifest]:
    """The ConfigMap and the Job that put a hub's model on the claim."""
    project, accepted = wanted.project, wanted.accepted
    name = names.fetch_job(project, wanted.key).name
    labels = names.labels(project.metadata.name, role="fetch")
    volumes: list[Manifest] = []
    mounts: list[Mount] = []
    if base.secret is not None:
        items = [{"key": "token", "path": "token"}]
        volumes = [{"name": "hub", "secret": {"secretName": base.secret, "items": items}}]
        mounts = [Mount("hub", TOKEN_DIR, read_only=True)]
    config = FetchConfig(
        uri=base.uri,
        revision=base.revision,
        base_key=wanted.key,
        project_uid=project.metadata.uid,
        token_file=f"{TOKEN_DIR}/token" if base.secret else None,
        api_server=list(wanted.api_server),
    )
    job = cpu_job(
        name=name,
        namespace=project.metadata.namespace,
        place=ClaimPlace.of_run(accepted),
        owner=project_owner(project),
        labels=labels,
        annotations={},
        command="fetch",
        image=wanted.operator_image,
        pods=[accepted.operator.pod],
        given=given_to_fetch(volumes, mounts).and_config_map(name),
    )
    data = {"job.json": config.model_dump_json(by_alias=True, indent=1)}
    return [config_map(name, project.metadata.namespace, labels, project_owner(project), data), job]
