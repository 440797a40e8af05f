"""The operator's label on everything that it makes: admission policies let its account write nothing else."""

from __future__ import annotations

from builders import LABELLED
from operator_worlds import children


def test_everything_that_the_operator_makes_bears_its_label_and_so_do_the_pods_of_its_jobs() -> None:
    for manifest in children():
        assert LABELLED.items() <= manifest["metadata"].get("labels", {}).items(), manifest["metadata"]["name"]
        if manifest["kind"] == "Job":
            assert LABELLED.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()


def test_every_kind_of_child_is_looked_at() -> None:
    kinds = {manifest["kind"] for manifest in children()}
    assert kinds == {"ConfigMap", "Job", "PersistentVolumeClaim", "Service", "ServiceAccount", "TrainingRun"}
