"""Looking at the data again: a real API server, the rights that the operator has, and a clock of the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from builders import make_plugin, make_project
from chorus_api.contract import ROLE_LABEL
from chorus_api.project import Project
from chorus_kube.client import Kube
from chorus_kube.informer import Informer
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names
from chorus_operator.manifests.job import config_map
from chorus_operator.reconcile import make_reconciler
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.pace import Pace
from chorus_operator.reconcile.stores import Stores
from chorus_operator.services.outbound import ReturnAddress
from chorus_protocol.messages import StoredFrame
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest
from world import TOKENS, SimulatedDispatcher, frame

DATASET = {"refreshSeconds": 3600}


class Looker:
    """A Project's reconciles, and the message receiver's part in them."""

    def __init__(self, kube: Kube, api: Api, *, namespace: str) -> None:
        self.now = datetime.now(UTC)
        self._api = api
        self._kube = kube
        self._key = Key("Project", namespace, "shop", "shop")
        self._stores = Stores(kube, seconds=lambda: self.now.timestamp())
        kube.answers = self._stores
        self._environment = ReconcileContext(
            kube=kube,
            operator_image="operator:1",
            trainer_image="trainer:1",
            messages_url="https://chorus.test:8443/v1/messages",
            clock=lambda: self.now,
            since=self.now,
            ensure_namespace=_nothing,
            wake=lambda key, after=0.0: None,
            stores=self._stores,
            pace=Pace(seconds=lambda: self.now.timestamp()),
            dispatcher=SimulatedDispatcher(lambda: self.now),
            tokens=TOKENS,
            address=ReturnAddress("https://chorus.test:8443/v1/messages", "the CA"),
        )
        self._reconcile = make_reconciler(self._environment)

    async def look(self, key: Key) -> None:
        """Reconcile what is there now."""
        for resource in (PROJECTS, PLUGINS, TRAINING_RUNS, JOBS, PODS):
            store = self._stores.of(resource)
            await Informer(
                self._kube, resource, store, on_change=lambda stored, gone: None, namespace=key.namespace
            ).read_anew()
        await self._reconcile(key)

    async def jobs(self) -> list[str]:
        found = await self._api.list("Job", namespace=self._key.namespace, labels=f"{ROLE_LABEL}=prepare")
        return [job["metadata"]["name"] for job in found]

    async def later(self, seconds: float = 3600) -> str:
        """Let time pass and look; the name of the Job that is new."""
        before = await self.jobs()
        self.now += timedelta(seconds=seconds)
        await self.look(self._key)
        [name] = set(await self.jobs()) - set(before)
        return name

    async def reports(self, job: str, number: int) -> str:
        """The pod of a look reports a frame; the name of the ConfigMap that the receiver makes."""
        key = job.rpartition("-")[2]
        project = await self.project()
        name = names.frame_config_map(Project.model_validate(project), key).name
        owner = names.owner_reference("Project", "shop", project["metadata"]["uid"])
        result = StoredFrame(ready=frame(f"df-{number:012d}"))
        labels = names.labels("shop", role="frame")
        data = {"result.json": result.model_dump_json(exclude_none=True)}
        await self._kube.create(config_map(name, self._key.namespace, labels, owner, data))
        self.now += timedelta(seconds=1)  # the status was written just now
        await self.look(self._key)
        return name

    async def project(self) -> Manifest:
        return await self._api.get("Project", "shop", namespace=self._key.namespace)


async def _nothing(namespace: str) -> None:
    return None


async def test_a_newer_look_takes_the_job_and_the_config_maps_of_the_one_before_with_it(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    await api.create(make_plugin("t5", namespace=namespace))
    await api.create(make_project("shop", namespace=namespace, spec={"dataset": DATASET}))
    kubeconfig = await installed.kubeconfig_for("chorus-operator", namespace="chorus-system")
    async with await Kube.connect(str(kubeconfig)) as kube:
        looker = Looker(kube, api, namespace=namespace)
        first = await looker.later(0)
        first_frame = await looker.reports(first, 0)
        second = await looker.later()
        assert (await looker.project())["status"]["dataset"]["configMap"] == first_frame
        second_frame = await looker.reports(second, 1)
        status = (await looker.project())["status"]
        assert status["dataset"]["configMap"] == second_frame
        assert status["preparations"]["number"] == 1
        for kind, name in (("Job", first), ("ConfigMap", first), ("ConfigMap", first_frame)):
            await api.wait_until_gone(kind, name, namespace=namespace)
        assert await looker.jobs() == [second]
        for name in (second, second_frame):
            await api.get("ConfigMap", name, namespace=namespace)
