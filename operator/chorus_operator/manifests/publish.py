"""The Job that publishes.

It sends no message and writes to the Project's claim alone, so it has neither an identity nor a /tmp. It stays a Job of
its own because it sees the whole claim: what a training runs never does.
"""

from __future__ import annotations

from chorus_api import contract
from chorus_api.project import Project
from chorus_api.publication import ListedRuns, PublishConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.accepted import AcceptedRun
from chorus_operator.decisions.decision import StartPublish
from chorus_operator.manifests.job import ClaimPlace, Given, config_map, cpu_job, run_owner
from chorus_operator.manifests.pod import Manifest


def publish_manifests(
    run: TrainingRun,
    project: Project,
    accepted: AcceptedRun,
    wanted: StartPublish,
    *,
    image: str,
    listed_runs: ListedRuns | None,
) -> list[Manifest]:
    """The Job that checks and publishes a run's artefact, which its environment tells what to do.

    `listed_runs`: see PublishConfig. As many uids as a namespace may have runs fit into no environment: with them the
    Job is told by a ConfigMap, which comes first.
    """
    name = names.publish_job(run)
    labels = names.labels(project.metadata.name, role="publish", plugin=run.spec.plugin, run=run.metadata.name)
    config = PublishConfig(
        run_name=run.metadata.name,
        run_uid=run.metadata.uid,
        run_id=accepted.config.run_id,
        plugin=run.spec.plugin,
        model_name=accepted.config.model_name,
        expected_digest=wanted.expected_digest,
        kind=wanted.kind,
        optional=wanted.optional,
        promote=wanted.promote,
        project=project.metadata.name,
        namespace=project.metadata.namespace,
        project_uid=project.metadata.uid,
        promoted_before=next((row.name for row in project.status.latest_model if row.plugin == run.spec.plugin), None),
        listed_runs=listed_runs,
    )
    if listed_runs is None:
        given = Given({contract.JOB_CONFIG_VARIABLE: _as_variable(config)}, tmp=False)
    else:
        given = Given(tmp=False).and_config_map(name)
    job = cpu_job(
        name=name,
        namespace=run.metadata.namespace,
        place=ClaimPlace.of_run(accepted),
        owner=run_owner(run),
        labels=labels,
        annotations={contract.RUN_UID_ANNOTATION: run.metadata.uid},
        command="publish",
        image=image,
        pods=[accepted.operator.pod],
        given=given,
    )
    if listed_runs is None:
        return [job]
    data = {"job.json": config.model_dump_json(by_alias=True, indent=1)}
    return [config_map(name, run.metadata.namespace, labels, run_owner(run), data), job]


def _as_variable(config: PublishConfig) -> str:
    """Write a configuration as the value of an environment variable, in which the kubelet would expand `$(NAME)`."""
    return config.model_dump_json(by_alias=True, exclude_none=True).replace("$", "\\u0024")
