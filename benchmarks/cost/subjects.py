"""What is measured: bare Jobs, and runs of container plugins, by kind."""

from __future__ import annotations

import copy
from collections.abc import Callable

from builders import make_plugin, make_project, make_run
from child_names import plain
from chorus_api.contract import MANAGED_BY_LABEL
from cost.world import BARE, DEADLINE_SECONDS, PLACE, World
from harness.client import Api, Manifest
from harness.pods import Attempt

SILENT, ARTEFACT, SPEAKING = "silent", "artefact", "speaking"
PLUGINS_A_PROJECT = 10
REPORTS, PAUSE_SECONDS = 3, 1.0
"""How often a speaking run tells its progress, and the time between."""
DAY_SECONDS = 86400


def plan(run: str, number: int) -> Attempt:
    """What pods do, by the name of their run."""
    if run.startswith(SPEAKING):
        return Attempt(reports=REPORTS, pause_seconds=PAUSE_SECONDS)
    return Attempt(speaks=False, last_word=True)


def plugin_of(kind: str) -> Manifest:
    """A container plugin that is known without asking it. A silent one may be silent for a day."""
    container = {
        "image": "registry.test/classifier:1",
        "describe": False,
        "artefact": "None" if kind == SILENT else "Files",
    }
    deadlines = {"dataReportSeconds": DAY_SECONDS, "progressSeconds": DAY_SECONDS}
    spec = {"type": "container", "lora": None, "container": container, "deadlines": deadlines}
    return make_plugin(kind, namespace=PLACE, spec=spec)


def project_of(prefix: str, number: int) -> str:
    """Name a Project."""
    return f"{prefix}-home-{number}"


async def set_up(
    api: Api, kind: str, *, projects: int, entries: int = PLUGINS_A_PROJECT, prefix: str | None = None
) -> None:
    """Make a Plugin and Projects whose data is prepared. Entries of a Project train side by side."""
    prefix = prefix or kind
    if await api.find("Plugin", kind, namespace=PLACE) is None:
        await api.create(plugin_of(kind))
    plugins = [{"name": f"p{number}", "pluginRef": {"name": kind}} for number in range(entries)]
    names = [project_of(prefix, number) for number in range(projects)]
    for name in names:
        await api.create(make_project(name, namespace=PLACE, plugins=plugins, spec={"trainOn": "Manual"}))
    for name in names:
        await api.wait_for(
            "Project",
            name,
            lambda project: project.get("status", {}).get("phase") == "queued",
            namespace=PLACE,
            seconds=DEADLINE_SECONDS,
        )


def runs_of(
    prefix: str, *, entries: int = PLUGINS_A_PROJECT, projects: int | None = None, spec: Manifest | None = None
) -> Callable[[int], Manifest]:
    """Make the runs of Projects: the n-th is of the next entry, and of the next Project where those are used up.

    `projects`: after so many begin with the first again; never when None.
    """

    def make(number: int) -> Manifest:
        home, entry = divmod(number, entries)
        home = home if projects is None else home % projects
        project, plugin = project_of(prefix, home), f"p{entry}"
        return make_run(f"{prefix}-{number:05}", namespace=PLACE, project=project, plugin=plugin, spec=spec)

    return make


def job_of_run(run: str) -> str:
    """The plain name of the Job of a run's first attempt."""
    return f"{run}-1"


def projects_for(runs: int) -> int:
    """How many Projects have one entry for each run."""
    return -(-runs // PLUGINS_A_PROJECT)


def bare_jobs(name: str, *, template: Manifest | None = None) -> Callable[[int], Manifest]:
    """Make Jobs of one pod that no operator looks at; `template`: their pods', a single container when None."""
    container = {"name": "main", "image": "none"}
    pods = template or {"metadata": {}, "spec": {"containers": [container], "restartPolicy": "Never", "volumes": []}}
    pods = copy.deepcopy(pods)
    pods["metadata"].setdefault("labels", {})[BARE] = "true"

    def make(number: int) -> Manifest:
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"{name}-{number:05}", "namespace": PLACE},
            "spec": {"backoffLimit": 0, "template": pods},
        }

    return make


async def template_of(world: World, run: str) -> Manifest:
    """Read the pod template of a run's training Job, as it is, but for labels by which the operator would know it."""
    jobs = await world.api.list("Job", namespace=PLACE)
    [job] = [job for job in jobs if plain(job["metadata"]["name"]) == job_of_run(run)]
    return without_owner(job["spec"]["template"])


def without_owner(template: Manifest) -> Manifest:
    """Take out of a Job's template what the Job controller put in, and who manages it."""
    labels = template["metadata"]["labels"]
    kept = {
        name: value
        for name, value in labels.items()
        if not name.startswith("batch.kubernetes.io/") and name not in ("controller-uid", "job-name")
    }
    metadata = {key: value for key, value in template["metadata"].items() if key != "creationTimestamp"}
    return {**template, "metadata": {**metadata, "labels": kept | {MANAGED_BY_LABEL: "nobody"}}}
