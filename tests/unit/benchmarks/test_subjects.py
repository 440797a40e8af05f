"""The bare Jobs and the runs that are measured."""

from __future__ import annotations

import pytest

from chorus_api.contract import MANAGED_BY, MANAGED_BY_LABEL
from cost.subjects import bare_jobs, projects_for, runs_of, without_owner
from harness.client import Manifest


def template(**labels: str) -> Manifest:
    """A pod template as the API server holds it in a Job."""
    own = {"batch.kubernetes.io/job-name": "a", "job-name": "a", "controller-uid": "u", MANAGED_BY_LABEL: MANAGED_BY}
    return {"metadata": {"creationTimestamp": None, "labels": own | labels}, "spec": {"containers": [{"name": "main"}]}}


def test_a_runs_template_as_a_bare_job_belongs_to_no_job_and_not_to_the_operator() -> None:
    taken = without_owner(template(**{"chorus.dev/role": "train"}))
    assert taken["metadata"] == {"labels": {MANAGED_BY_LABEL: "nobody", "chorus.dev/role": "train"}}
    assert taken["spec"] == template()["spec"]


def test_bare_jobs_of_a_template_leave_it_as_it_was() -> None:
    given = without_owner(template())
    job = bare_jobs("templated", template=given)(7)
    assert job["metadata"]["name"] == "templated-00007"
    assert job["spec"]["template"]["metadata"]["labels"]["bare"] == "true"
    assert "bare" not in given["metadata"]["labels"]


@pytest.mark.parametrize(
    ("number", "project", "plugin"), [(0, "x-home-0", "p0"), (9, "x-home-0", "p9"), (10, "x-home-1", "p0")]
)
def test_each_run_has_an_entry_of_its_own(number: int, project: str, plugin: str) -> None:
    spec = runs_of("x")(number)["spec"]
    assert (spec["projectRef"]["name"], spec["plugin"]) == (project, plugin)


def test_runs_of_one_project_share_its_entries() -> None:
    make = runs_of("one", projects=1)
    assert {make(number)["spec"]["projectRef"]["name"] for number in range(100)} == {"one-home-0"}


@pytest.mark.parametrize(("runs", "projects"), [(1, 1), (10, 1), (11, 2), (5000, 500)])
def test_there_are_projects_enough_for_so_many_runs(runs: int, projects: int) -> None:
    assert projects_for(runs) == projects
