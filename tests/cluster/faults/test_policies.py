"""What other people's admission does to pods of a run: a sidecar that does not end, a node that refuses the pod."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from cluster_builders import claim_project
from fault_builders import program
from fault_stories import PROJECT, assert_tried_again, run_of, wide_row
from harness.cluster import Cluster, Env
from harness.hands import lay_hands
from harness.policies import changing

pytestmark = [pytest.mark.faults, pytest.mark.policies]

SIDECAR = "mesh"
SIDECAR_SECONDS = 120.0


def with_sidecar(image: str) -> str:
    """Put a container beside the others that never ends by itself."""
    return f"""[JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{
        name: "{SIDECAR}", image: "{image}", command: ["sleep", "infinity"],
        securityContext: Object.spec.containers.securityContext{{
            allowPrivilegeEscalation: false, runAsNonRoot: true, runAsUser: 65532,
            capabilities: Object.spec.containers.securityContext.capabilities{{drop: ["ALL"]}}
        }}
    }}}}]"""


def on_a_node_that_is_not_its_own(node: str) -> str:
    """Pass the scheduler by, and put the pod onto a node that has not the labels that it asks for."""
    return f"""[
        JSONPatch{{op: "add", path: "/spec/nodeName", value: "{node}"}},
        JSONPatch{{op: "add", path: "/spec/nodeSelector", value: {{"kubernetes.io/hostname": "elsewhere"}}}}
    ]"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(cluster: Cluster) -> AsyncIterator[Env]:
    """A namespace with both policies, and a Project whose two programs end well in a pod that nobody changes."""
    async with Env.make(cluster.api, "policies") as made, AsyncExitStack() as policies:
        await lay_hands(made, image=cluster.operator_image, models=cluster.models)
        node = (await cluster.api.get("Pod", "hands", namespace=made.namespace))["spec"]["nodeName"]
        for plugin, patch in (
            ("accompanied", with_sidecar(cluster.operator_image)),
            ("misplaced", on_a_node_that_is_not_its_own(node)),
        ):
            await policies.enter_async_context(changing(made, run=run_of(plugin), patch=patch, attempt=1))
        names = ["accompanied", "misplaced"]
        await made.apply(
            *(program(name, cluster.operator_image) for name in names), claim_project(PROJECT, plugins=names)
        )
        yield made


async def test_a_pod_that_its_kubelet_refuses_is_told_in_the_kubelets_words_and_tried_again(place: Env) -> None:
    words = ("NodeAffinity", "Predicate NodeAffinity failed", "was refused")
    failure = await assert_tried_again(
        place, run_of("misplaced"), reason="PodRejected", words=words, failure_class="infrastructure"
    )
    assert "exitCode" not in failure


async def test_a_program_that_has_ended_beside_an_injected_sidecar_is_trained_and_its_pod_is_deleted(
    place: Env,
) -> None:
    run = await place.wait("TrainingRun", run_of("accompanied"), phase="TRAINED", seconds=SIDECAR_SECONDS)
    assert run["status"]["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
    assert "failure" not in run["status"]
    assert (await wide_row(place, run_of("accompanied")))["MODEL"] == "mended"
    pods = [pod for pod in place.record.versions("Pod") if is_of(pod, run_of("accompanied"))]
    assert SIDECAR in {container["name"] for pod in pods for container in pod["spec"]["containers"]}
    assert len({pod["metadata"]["uid"] for pod in pods}) == 1
    name = pods[0]["metadata"]["name"]
    await place.api.wait_until_gone("Pod", name, namespace=place.namespace, seconds=SIDECAR_SECONDS)


def is_of(pod: dict[str, object], run: str) -> bool:
    """Whether it is a training pod of the run."""
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    return bool({"chorus.dev/run": run, "chorus.dev/role": "train"}.items() <= metadata.get("labels", {}).items())
