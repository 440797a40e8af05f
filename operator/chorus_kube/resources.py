"""The kinds that the operator reads and writes, and their paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from chorus_api.base import API_VERSION
from chorus_kube.errors import NotFound


@dataclass(frozen=True)
class Resource:
    """A namespaced kind of the API server."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Build the URL path of the collection, of an object, or of a subresource of it.

        Raises NotFound for a name that no object can have: the API server would take it for another path.
        """
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if namespace is not None:
            parts += ["namespaces", _segment(namespace)]
        if self.plural:
            parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


def _segment(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise NotFound(f"no object can have the name {name!r}", status=404, reason="NotFound")
    return quote(name, safe="")


@dataclass(frozen=True)
class Page(Resource):
    """A path of the API server that holds no objects."""

    at: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Give the path."""
        return self.at


PROJECTS = Resource(API_VERSION, "Project", "projects")
PLUGINS = Resource(API_VERSION, "Plugin", "plugins")
TRAINING_RUNS = Resource(API_VERSION, "TrainingRun", "trainingruns")
JOBS = Resource("batch/v1", "Job", "jobs")
PODS = Resource("v1", "Pod", "pods")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")
SERVICES = Resource("v1", "Service", "services")
SECRETS = Resource("v1", "Secret", "secrets")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
EVENTS = Resource("v1", "Event", "events")

ALL = (
    PROJECTS,
    PLUGINS,
    TRAINING_RUNS,
    JOBS,
    PODS,
    CONFIG_MAPS,
    CLAIMS,
    SERVICE_ACCOUNTS,
    SERVICES,
    SECRETS,
    ENDPOINT_SLICES,
    LEASES,
    EVENTS,
)
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in ALL}


def of(manifest: Mapping[str, Any]) -> Resource:
    """Find the Resource of a manifest by its apiVersion and kind; KeyError for a kind that Chorus does not use."""
    return _BY_KIND[manifest["apiVersion"], manifest["kind"]]
