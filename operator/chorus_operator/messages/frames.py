"""Keeping what a prepare pod reports: one immutable ConfigMap a prepare key."""

from __future__ import annotations

import structlog

from chorus_api import contract
from chorus_api.messages import FrameFailed, FrameReady, StoredFailure, StoredFrame
from chorus_operator.kube.client import Kube
from chorus_operator.kube.errors import AlreadyExists
from chorus_operator.kube.resources import CONFIG_MAPS, PROJECTS
from chorus_operator.manifests.job import config_map
from chorus_operator.messages.refusals import Cause, Refused
from chorus_operator.messages.runs import Outcome
from chorus_operator.messages.senders import PreparePod
from chorus_operator.rules import names

log = structlog.get_logger()

RESULT_KEY = "result.json"


class Frames:
    """Stores the results of prepare Jobs; the first one of a key stands."""

    def __init__(self, kube: Kube):
        self._kube = kube

    async def take(self, pod: PreparePod, *, subject_uid: str, payload: FrameReady | FrameFailed) -> Outcome:
        """Write a result down; returns when it is stored. Refused when the Project is not the pod's."""
        project = await self._kube.get(PROJECTS, namespace=pod.namespace, name=pod.project)
        if project is None or project["metadata"]["uid"] != subject_uid:
            raise Refused(Cause.WRONG_RUN, f"subjectuid {subject_uid} is not the uid of Project {pod.project}")
        name = names.frame_config_map(pod.project, pod.prepare_key)
        labels = names.labels(pod.project, role="frame") | {contract.PREPARE_KEY_LABEL: pod.prepare_key}
        owner = names.owner_reference("Project", pod.project, subject_uid)
        result = _result(payload)
        data = {RESULT_KEY: result.model_dump_json(exclude_none=True)}
        try:
            await self._kube.create(config_map(name, pod.namespace, labels, owner, data))
        except AlreadyExists:
            await self._compare(pod, name, subject_uid, result)
            return Outcome.KNOWN
        return Outcome.TAKEN

    async def _compare(self, pod: PreparePod, name: str, uid: str, result: StoredFrame) -> None:
        stored = await self._kube.get(CONFIG_MAPS, namespace=pod.namespace, name=name)
        owners = {owner["uid"] for owner in stored["metadata"].get("ownerReferences", [])} if stored else set()
        if stored is None or uid not in owners or stored["metadata"].get("deletionTimestamp"):
            # Left over from a Project of the same name: the garbage collector is about to remove it.
            raise Refused(Cause.NOT_YET, f"ConfigMap {name} belongs to another Project; send the message again")
        if StoredFrame.model_validate_json(stored.get("data", {}).get(RESULT_KEY, "{}")) != result:
            log.warning("frame result differs from the one that stands", config_map=name, pod=pod.name)


def _result(payload: FrameReady | FrameFailed) -> StoredFrame:
    if isinstance(payload, FrameReady):
        return StoredFrame(ready=payload.frame)
    return StoredFrame(failed=StoredFailure(reason=payload.reason, detail=payload.detail))
