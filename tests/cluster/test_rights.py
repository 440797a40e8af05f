"""After everything else: the operator has the rights that it was seen to use in real pods, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from builders import make_project, make_run
from child_names import plain
from harness.audit import requests_of_the_operator
from harness.binaries import REPOSITORY
from harness.cluster import Cluster, Env

pytestmark = pytest.mark.audit
SECONDS = 60.0

# In tests/api: where nodes are lost, minutes here (test_operator_lost_node.py); where the name of an exchange
# is taken (test_operator_service.py); where data was looked at several times (test_operator_refresh.py).
SEEN_ELSEWHERE = {("delete", "pods"), ("get", "services"), ("delete", "configmaps"), ("patch", "configmaps")}


def granted() -> Iterator[tuple[str, str]]:
    """Every verb and resource of the operator's own roles; `finalizers` are asked for by admission alone."""
    for role in yaml.safe_load_all((REPOSITORY / "deploy" / "rbac.yaml").read_text(encoding="utf-8")):
        for rule in role.get("rules", ()):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    if not resource.endswith("/finalizers"):
                        yield from ((verb, f"{group}/{resource}" if group else resource) for verb in rule["verbs"])


async def test_the_operator_has_the_rights_that_it_uses_and_no_others(
    cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    if request.session.items[:-1] == []:
        pytest.fail("this test is about what the others did: run the whole tier", pytrace=False)
    await what_no_other_test_has(cluster)
    seen = await requests_of_the_operator(cluster.api, image=cluster.operator_image)
    assert [asked for asked in seen if asked.forbidden] == []
    used = {(asked.verb, asked.resource) for asked in seen}
    assert used - set(granted()) == set()
    assert set(granted()) - used == SEEN_ELSEWHERE


async def what_no_other_test_has(cluster: Cluster) -> None:
    """A Project that brings no claim, and a run that is removed after its time."""
    async with Env.make(cluster.api, "rights") as place:
        await place.apply(
            make_project("own"), make_run("gone", project="own", spec={"cancel": True, "ttlSecondsAfterFinished": 0})
        )
        await cluster.api.wait_until_gone("TrainingRun", "gone", namespace=place.namespace, seconds=SECONDS)
        claims = await cluster.api.list("PersistentVolumeClaim", namespace=place.namespace)
        assert [plain(claim["metadata"]["name"]) for claim in claims] == ["own-data"]
