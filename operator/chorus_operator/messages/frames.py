"""Keeping what a prepare pod reports: one immutable ConfigMap a prepare key."""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from chorus_api import contract
from chorus_api.project import Project
from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists
from chorus_kube.resources import CONFIG_MAPS, PROJECTS
from chorus_operator.decisions import names
from chorus_operator.manifests.job import config_map, project_owner
from chorus_operator.messages.pod_senders import PreparePod
from chorus_operator.messages.runs import Outcome
from chorus_operator.reconcile.children import Owner, Taken, read_child
from chorus_protocol.messages import FrameFailed, FrameReady, StoredFailure, StoredFrame
from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

RESULT_KEY = "result.json"


class Frames:
    """Stores the results of prepare Jobs; the first one of a key stands."""

    def __init__(self, kube: Kube):
        self._kube = kube

    async def take(self, pod: PreparePod, *, subject_uid: str, payload: FrameReady | FrameFailed) -> Outcome:
        """Write a result down; returns when it is stored. Refused when the Project is not the pod's."""
        project = await self._project(pod)
        if project is None or project.metadata.uid != subject_uid:
            raise Refused(Cause.WRONG_RUN, f"subjectuid {subject_uid} is not the uid of Project {pod.project}")
        name = names.frame_config_map(project, pod.prepare_key).name
        labels = names.labels(pod.project, role="frame") | {contract.PREPARE_KEY_LABEL: pod.prepare_key}
        result = _result(payload)
        data = {RESULT_KEY: result.model_dump_json(exclude_none=True)}
        try:
            await self._kube.create(config_map(name, pod.namespace, labels, project_owner(project), data))
        except AlreadyExists:
            await self._compare(pod, name, project, result)
            return Outcome.KNOWN
        return Outcome.TAKEN

    async def _project(self, pod: PreparePod) -> Project | None:
        stored = await self._kube.get(PROJECTS, namespace=pod.namespace, name=pod.project)
        try:
            return Project.model_validate(stored) if stored is not None else None
        except ValidationError as error:
            raise Refused(
                Cause.NOT_YET, f"Project {pod.project} cannot be read: {error.error_count()} errors"
            ) from None

    async def _compare(self, pod: PreparePod, name: str, project: Project, result: StoredFrame) -> None:
        try:
            stored = await read_child(self._kube, CONFIG_MAPS, name=name, owner=Owner.of(project))
        except Taken as error:
            raise Refused(Cause.NOT_YET, f"{error} Then send the message again.") from None
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            raise Refused(Cause.NOT_YET, f"ConfigMap {name} is being deleted; send the message again")
        if StoredFrame.model_validate_json(stored.get("data", {}).get(RESULT_KEY, "{}")) != result:
            log.warning("frame result differs from the one that stands", config_map=name, pod=pod.name)


def _result(payload: FrameReady | FrameFailed) -> StoredFrame:
    if isinstance(payload, FrameReady):
        return StoredFrame(ready=payload.frame)
    return StoredFrame(failed=StoredFailure(reason=payload.reason, detail=payload.detail))
