"""Who is told what the API server answers: what is read and written is newer than what a watch has told of."""

from __future__ import annotations

from typing import Any, Protocol

from chorus_kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from chorus_kube.resources import Resource

Manifest = dict[str, Any]


class Answers(Protocol):
    """Takes in answers; it must neither wait nor fail."""

    def answered(self, resource: Resource, stored: Manifest, *, own: bool) -> None:
        """Take in a state of an object; `own`: this client has just written it."""

    def found_gone(self, resource: Resource, namespace: str, name: str, uid: str | None) -> None:
        """Take in that there is no object of this name, or none of this uid."""

    def doubt(self, resource: Resource, namespace: str, name: str) -> None:
        """Take in that there is another state than the one that a write was based on."""


def tell(answers: Answers, resource: Resource, answer: Manifest, *, own: bool) -> None:
    """Tell of the object, or of the objects of a list, in an answer. A table and a subresource of another kind are not
    told."""
    if answer.get("kind") == resource.kind:
        answers.answered(resource, answer, own=own)
    elif answer.get("kind") == f"{resource.kind}List":
        for item in answer["items"]:
            typed = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            answers.answered(resource, typed, own=own)


def tell_error(answers: Answers, resource: Resource, namespace: str, name: str, error: KubeError) -> None:
    """Tell what an error says about the object that was asked for."""
    if isinstance(error, NotFound):
        answers.found_gone(resource, namespace, name, None)
    elif isinstance(error, Conflict | AlreadyExists):
        answers.doubt(resource, namespace, name)
