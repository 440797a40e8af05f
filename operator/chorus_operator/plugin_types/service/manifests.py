"""The exchange of a service's attempt: a pod of ours that serves the frame and takes the artefact."""

from __future__ import annotations

from chorus_api import contract
from chorus_api.run_config import ExchangeConfig, ServiceConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.run.plugin_type import WantedAttempt
from chorus_operator.manifests.job import (
    CPU_JOB_GRACE_SECONDS,
    attempt_job,
    config_map,
    metadata,
    run_owner,
)
from chorus_operator.manifests.pod import (
    IDENTITY_MOUNT,
    Manifest,
    Mount,
    claim_volume,
    config_map_volume,
    identity_volume,
)
from chorus_operator.manifests.resources import in_manifest

CONTAINER = "exchange"
ARTEFACT_BYTES = 20 << 30
ARTEFACT_FILES = 1000


def exchange_manifests(wanted: WantedAttempt, config: ServiceConfig) -> list[Manifest]:
    """The ConfigMap, the Service and the Job of an attempt's exchange. The token itself is in none of them."""
    run, attempt = wanted.run, wanted.number
    name, namespace = names.exchange(run, attempt), run.metadata.namespace
    labels = names.labels(config.project, role=CONTAINER, plugin=run.spec.plugin, run=run.metadata.name)
    labels[contract.ATTEMPT_LABEL] = str(attempt)
    host = names.exchange_host(run, attempt)
    takes = config.artefact == "Files"
    exchange = ExchangeConfig(
        run_name=run.metadata.name,
        run_uid=run.metadata.uid,
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        hosts=[host, f"{host}.cluster.local", host.removesuffix(".svc")],
        token_sha256=wanted.token_sha256(),
        max_bytes=ARTEFACT_BYTES if takes else 0,
        max_files=ARTEFACT_FILES if takes else 0,
        messaging=config.messaging,
    )
    data = {"job.json": exchange.model_dump_json(by_alias=True, indent=1)}
    job = attempt_job(
        run,
        wanted.accepted,
        attempt=attempt,
        role=CONTAINER,
        container={
            "name": CONTAINER,
            "image": wanted.operator_image,
            "command": ["python", "-m", "chorus_dataset", "exchange"],
            "env": [{"name": contract.ATTEMPT_ENV, "value": str(attempt)}, {"name": "HOME", "value": "/tmp"}],
            "ports": [{"name": "exchange", "containerPort": contract.EXCHANGE_PORT}],
            "resources": in_manifest(wanted.accepted.operator.job_resources),
            "terminationMessagePolicy": "File",
        },
        volumes=[
            claim_volume("data", wanted.accepted.operator.claim),
            config_map_volume("config", name),
            identity_volume(),
        ],
        mounts=[
            Mount("data", str(contract.DATA_DIR), f"{contract.FRAMES}/{config.frame_name}", read_only=True),
            Mount("data", str(contract.RUN_DIR), f"{contract.RUNS}/{run.metadata.uid}"),
            Mount("config", str(contract.JOB_CONFIG), "job.json", read_only=True),
            IDENTITY_MOUNT,
        ],
        grace_seconds=CPU_JOB_GRACE_SECONDS,
    )
    return [config_map(name, namespace, labels, run_owner(run), data), _service(run, name, labels, attempt), job]


def _service(run: TrainingRun, name: str, labels: dict[str, str], attempt: int) -> Manifest:
    """The name of the exchange's one pod. It is known as soon as the pod has an address: a service is told later."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, run.metadata.namespace, labels, {}, run_owner(run)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            # By the Job, whose name no other run has: pods that an earlier run of the name has left have its labels.
            "selector": {contract.JOB_NAME_LABEL: names.attempt_job(run, attempt)},
            "ports": [{"name": "https", "port": contract.EXCHANGE_PORT, "appProtocol": "https"}],
        },
    }
