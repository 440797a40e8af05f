"""After everything else: the operator has the rights that it was seen to use in real pods, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from harness.audit import requests_of_the_operator
from harness.binaries import REPOSITORY
from harness.cluster import Cluster

pytestmark = pytest.mark.audit

# Seen only where nodes are lost, which takes minutes here: tests/api/test_operator_lost_node.py.
# Services have an exchange, which no test of this tier has: tests/api/test_operator_service.py.
SEEN_ELSEWHERE = {("delete", "pods"), ("get", "services"), ("create", "services")}


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
    seen = await requests_of_the_operator(cluster.api, image=cluster.operator_image)
    assert [asked for asked in seen if asked.forbidden] == []
    used = {(asked.verb, asked.resource) for asked in seen}
    assert used - set(granted()) == set()
    assert set(granted()) - used == SEEN_ELSEWHERE
