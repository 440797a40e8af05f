"""What a frame is prepared for is named by every word that the Project says about its data."""

from __future__ import annotations

from typing import Any

import pytest

from chorus_api.project import Project
from chorus_operator.decisions.names import dataset_hash

DATASET: dict[str, Any] = {
    "source": {"volume": {"claimName": "data", "path": "rows.db"}},
    "format": "sqlite",
    "query": "SELECT * FROM a",
    "maxRows": 10,
    "fields": {"prompt": {"column": "a"}},
    "evalFraction": "0.1",
    "info": {"outcome": "a"},
}


def key(dataset: dict[str, Any], **spec: Any) -> str:
    metadata = {"name": "home", "namespace": "lab", "uid": "u"}
    plugins = [{"name": "a", "pluginRef": {"name": "a"}}]
    return dataset_hash(
        Project.model_validate({"metadata": metadata, "spec": {"dataset": dataset, "plugins": plugins, **spec}})
    )


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"volume": {"claimName": "data", "path": "other.db"}}},
        {"source": {"configMap": {"name": "data", "key": "rows.db"}}},
        {"format": None},
        {"query": "SELECT * FROM b"},
        {"maxRows": 11},
        {"maxRows": None},
        {"fields": {"prompt": {"column": "a"}, "response": {"column": "b"}}},
        {"fields": None},
        {"evalFraction": "0.2"},
        {"info": {"outcome": "b"}},
        {"info": {}},
    ],
    ids=str,
)
def test_pc_27_every_field_of_a_dataset_changes_what_is_prepared(change: dict[str, Any]) -> None:
    changed = {name: value for name, value in (DATASET | change).items() if value is not None}
    assert key(changed) != key(DATASET)


def test_the_same_words_are_the_same_key() -> None:
    assert key(dict(reversed(DATASET.items()))) == key(DATASET)


def test_resources_that_the_project_sets_are_a_part_since_with_others_the_job_may_succeed() -> None:
    small, large = ({"limits": {"memory": size}} for size in ("1Gi", "8Gi"))
    assert len({key(DATASET), key(DATASET, jobResources=small), key(DATASET, jobResources=large)}) == 3
    assert key(DATASET, jobResources={"limits": {}}) == key(DATASET)
