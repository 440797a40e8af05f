"""Reading children: the objects that the operator made for a Project, a Plugin or a run, and nobody else's.

A name alone says nothing: a user can make an object of that name, and what an earlier object of the owner's name has
left may be there until the garbage collector comes. So every child is read here, and is the owner's by its uid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chorus_api import contract
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_kube.client import Kube
from chorus_kube.resources import CLAIMS, PLUGINS, PROJECTS, TRAINING_RUNS, Resource
from chorus_operator.decisions.names import ChildName
from chorus_operator.decisions.observed import JobView, PodView, pod_view
from chorus_operator.reconcile.stores import Stores

Manifest = dict[str, Any]


class Taken(Exception):
    """A child cannot be read or made, because another object has its name; the text says which, and what to do."""


class Foreign(Taken):
    """The object is somebody else's: it must go before the owner can go on."""


class EarlierLife(Taken):
    """The object is a child of an earlier object of the owner's name, or is being deleted: it goes by itself."""


class Reader(Protocol):
    """Reads an object by its name: live (`Kube`), or as it is known (`Stores`), whose None proves nothing."""

    async def get(self, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
        """Give an object; None when it is not there, or not known."""


@dataclass(frozen=True)
class Owner:
    """Whose child it is."""

    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, owner: Project | Plugin | TrainingRun) -> Owner:
        """Name an object as an owner."""
        metadata = owner.metadata
        return cls(type(owner).__name__, metadata.namespace, metadata.name, metadata.uid)


async def read_owner(kube: Kube, owner: Project | Plugin | TrainingRun) -> Manifest | None:
    """Read an object live of which an earlier state is known; None when it is gone."""
    resource = _KINDS[type(owner)]
    return await kube.get(resource, namespace=owner.metadata.namespace, name=owner.metadata.name)


_KINDS: Mapping[type, Resource] = {Project: PROJECTS, Plugin: PLUGINS, TrainingRun: TRAINING_RUNS}


async def read_child(reader: Reader, resource: Resource, *, name: str | ChildName, owner: Owner) -> Manifest | None:
    """Read a child by its name; None when there is none. Raises Foreign or EarlierLife when another has the name.

    With a ChildName, the former name is looked for when nothing has the present one: what an older version made goes
    on. Under that name only the owner's own child counts; what others have there is not in the way.
    """
    wanted = name if isinstance(name, str) else name.name
    stored = await reader.get(resource, namespace=owner.namespace, name=wanted)
    if stored is not None:
        check_owner(stored, owner)
        return stored
    if isinstance(name, str):
        return None
    return await read_if_owned(reader, resource, name=name.formerly, owner=owner)


async def read_if_owned(reader: Reader, resource: Resource, *, name: str, owner: Owner) -> Manifest | None:
    """Read an object that counts only if it is the owner's child; None when it is another's, or not there."""
    stored = await reader.get(resource, namespace=owner.namespace, name=name)
    return stored if stored is not None and is_owned(stored, owner) else None


async def read_named_by_user(kube: Kube, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
    """Read an object that a spec names, such as the source of the data: it is the user's, and no child."""
    return await kube.get(resource, namespace=namespace, name=name)


async def read_claim(kube: Kube, *, name: str, project: Project) -> Manifest | None:
    """Read the claim that was made for a Project; None when it is not there. Raises Foreign when it is another's.

    A claim that outlives its Project has no owner: Chorus's labels say whose it is. Claims of the former name count as
    they are, since their Projects used them before anybody looked at their labels.
    """
    stored = await kube.get(CLAIMS, namespace=project.metadata.namespace, name=name)
    if stored is not None:
        check_claim(stored, project, name=name)
    return stored


def check_claim(stored: Mapping[str, Any], project: Project, *, name: str) -> None:
    """Raise Foreign unless a claim was made for the Project."""
    former = project.status.claim_name == name == f"{project.metadata.name}-data"
    if not former and not is_claim_of(stored, project):
        labels = f"{contract.MANAGED_BY_LABEL}={contract.MANAGED_BY},{contract.PROJECT_LABEL}={project.metadata.name}"
        raise Foreign(
            f"PersistentVolumeClaim {name} was not made for Project {project.metadata.name}, which needs the name: "
            f"delete it, or label it {labels} to have the Project use it."
        )


def is_claim_of(stored: Mapping[str, Any], project: Project) -> bool:
    """Tell whether Chorus made a claim for a Project of that name, and no other Project owns it."""
    metadata = stored["metadata"]
    wanted = {contract.MANAGED_BY_LABEL: contract.MANAGED_BY, contract.PROJECT_LABEL: project.metadata.name}
    owners = {owner["uid"] for owner in metadata.get("ownerReferences", ())}
    return wanted.items() <= metadata.get("labels", {}).items() and owners <= {project.metadata.uid}


async def read_pods(stores: Stores, *, owner: Owner, job_name: str, job: JobView | None) -> Sequence[PodView]:
    """Give the pods of a Job, which may be gone while they still save and stop; a pod of no such Job is left out.

    They are read live once the Job has ended or is gone, unless all of them are known to have ended: there is no order
    between what is told of a Job and of its pods, and what follows from the end turns on how they ended.
    """
    pods = _pods_of(await stores.pods(owner.namespace, job_name), owner, job_name, job)
    over = job is None or job.finished
    if over and not (pods and all(pod.ended for pod in pods)):
        pods = _pods_of(await stores.pods_now(owner.namespace, job_name), owner, job_name, job)
    return pods


def _pods_of(stored: Sequence[Manifest], owner: Owner, job_name: str, job: JobView | None) -> Sequence[PodView]:
    return tuple(pod_view(pod) for pod in stored if _is_pod_of(pod, owner, job_name, job))


def _is_pod_of(pod: Mapping[str, Any], owner: Owner, job_name: str, job: JobView | None) -> bool:
    metadata = pod["metadata"]
    controllers = [each for each in metadata.get("ownerReferences", ()) if each["kind"] == "Job"]
    if job is not None:
        return any(each["uid"] == job.uid for each in controllers)
    # Nobody knows the uid of a Job that is gone, but what it was made for is written on its pods.
    return is_pod_of_run(pod, owner.uid) and any(each["name"] == job_name for each in controllers)


def is_pod_of_run(pod: Mapping[str, Any], uid: str) -> bool:
    """Tell whether a pod was made for the run of this uid, by what is written on it."""
    return bool(pod["metadata"].get("annotations", {}).get(contract.RUN_UID_ANNOTATION) == uid)


def is_owned(stored: Mapping[str, Any], owner: Owner) -> bool:
    """Tell whether an object is the owner's by its uid."""
    return owner.uid in {each["uid"] for each in stored["metadata"].get("ownerReferences", ())}


def check_owner(stored: Mapping[str, Any], owner: Owner) -> None:
    """Raise Foreign or EarlierLife unless an object is the owner's."""
    if is_owned(stored, owner):
        return
    metadata, kind = stored["metadata"], stored["kind"]
    owners = metadata.get("ownerReferences", ())
    if metadata.get("deletionTimestamp") or any((o["kind"], o["name"]) == (owner.kind, owner.name) for o in owners):
        raise EarlierLife(
            f"{kind} {metadata['name']} of an earlier {owner.kind} {owner.name} is still being removed; "
            "delete it if it stays."
        )
    raise Foreign(
        f"{kind} {metadata['name']} exists and belongs to somebody else, and {owner.kind} {owner.name} needs the name: "
        "delete it."
    )
