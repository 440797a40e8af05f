"""A cluster in memory, with the methods of `chorus_kube.client.Kube`.

It keeps what the operator relies on: resource versions and conflicts, uids, generations, create-once, server-side apply
by field manager, finalizers and garbage collection by owner. It checks no schema and runs no controllers: what needs
those is tested against the real API server.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import marshal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chorus_kube import resources
from chorus_kube.client import Deleted
from chorus_kube.errors import AlreadyExists, Conflict, Invalid, NotFound
from chorus_kube.resources import Resource

Manifest = dict[str, Any]
ObjectKey = tuple[str, str, str]  # kind, namespace, name
Manifests = list[Manifest]
Present = list[tuple[str, str, Manifest]]


class _Objects(dict[ObjectKey, Manifest]):
    """The objects that are there. Whoever takes one out has it deleted, and the watches tell of it."""

    def __init__(self, kube: FakeKube, objects: Mapping[ObjectKey, Manifest] | None = None):
        super().__init__(objects or {})
        self._kube = kube

    def __delitem__(self, key: ObjectKey) -> None:
        self.pop(key)

    def pop(self, key: ObjectKey, *default: Any) -> Any:
        there = key in self
        last = super().pop(key, *default)
        if there:
            self._kube.forgotten(key, last)
        return last


@dataclass(frozen=True)
class Call:
    """One call of the operator."""

    verb: str  # get list create replace patch delete patch_status apply_status pod_log token_review token_keys
    kind: str
    name: str = ""

    @property
    def writes(self) -> bool:
        return self.verb not in {"get", "list", "pod_log", "token_review", "token_keys"}


class FakeKube:
    """The API server as a dictionary. `before` and `after` see each call and may raise, to break it there.

    What `objects` holds may be taken out, but is not changed in place: `put` stores what has changed.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime(2026, 1, 1, tzinfo=UTC),
        collect_garbage: bool = True,
    ):
        self.log: list[tuple[str, bool, Manifest]] = []
        """What a watch tells: the kind, whether the object is gone, and the object."""
        self.objects: dict[ObjectKey, Manifest] = _Objects(self)
        self.calls: list[Call] = []
        self.next_call: Call | None = None
        """The call that was begun last: the one before which its caller stands, while others run."""
        self.logs: dict[str, str] = {}
        """Log of a pod, by its name."""
        self.tokens: dict[str, Manifest] = {}
        """Answer of the TokenReview for a token."""
        self.issuer: tuple[Manifest, Manifest] = ({}, {})
        """The discovery document of service accounts' tokens, and the keys."""
        self.namespace_uids: dict[str, str] = {}
        """Uid of a namespace, where it is not `uid-of-<its name>`."""
        self.before: Callable[[Call], None] = lambda call: None
        self.after: Callable[[Call], None] = lambda call: None
        self.others: Callable[[], bool] = lambda: True
        """Whether there may be somebody else to let run before a call."""
        self.answers: Any = None
        """Is told what is read and written, as `Kube.answers`."""
        self._clock = clock
        self._collect_garbage = collect_garbage
        self._version = 0
        self._lives: Counter[ObjectKey] = Counter()
        self._applied: dict[tuple[ObjectKey, str], Manifest] = {}
        self._written: dict[ObjectKey, tuple[Manifest, str, bytes]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeKube:
        """Copy plain data as it is copied for readers, and the calls, which nobody changes, not at all."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        plain = {"objects": _Objects(twin, _copy(dict(self.objects))), "_applied": _copy(self._applied)}
        shared = {"calls": list(self.calls), "log": list(self.log), "_written": {}}
        rest = {key: value for key, value in vars(self).items() if key not in plain.keys() | shared.keys()}
        vars(twin).update(plain | shared | copy.deepcopy(rest, memo))
        return twin

    # For tests

    def put(self, manifest: Manifest) -> Manifest:
        """Store an object as it is, status included, as another program would; missing metadata is filled in."""
        stored = _copy(manifest)
        metadata = stored["metadata"]
        metadata.setdefault("namespace", "default")
        key = (stored["kind"], metadata["namespace"], metadata["name"])
        old = self.objects.get(key)
        if "uid" not in metadata:
            metadata["uid"] = old["metadata"]["uid"] if old else self._new_uid(key)
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        metadata["resourceVersion"] = self._next_version()
        self._keep(key, stored)
        return self._read(key, stored)

    @property
    def version(self) -> int:
        """The newest resource version: a list that is taken now has it."""
        return self._version

    def delete_now(self, resource: Resource, name: str, namespace: str = "default") -> None:
        """Delete an object as another program would; a finalizer keeps it."""
        self._delete((resource.kind, namespace, name))

    def _keep(self, key: ObjectKey, stored: Manifest) -> None:
        self.objects[key] = stored
        self.log.append((key[0], False, stored))

    def forgotten(self, key: ObjectKey, last: Manifest) -> None:
        """Tell the watches that an object is gone."""
        gone = {**last, "metadata": last["metadata"] | {"resourceVersion": self._next_version()}}
        self.log.append((key[0], True, gone))

    def _read(self, key: ObjectKey, stored: Manifest) -> Manifest:
        """Give a copy. What it is made from is kept for the next reader: most objects are read many times."""
        version = stored["metadata"]["resourceVersion"]
        known = self._written.get(key)
        if known is None or known[0] is not stored or known[1] != version:
            known = self._written[key] = (stored, version, marshal.dumps(stored))
        copied: Manifest = marshal.loads(known[2])
        return copied

    def _new_uid(self, key: ObjectKey) -> str:
        """Make a uid that depends on what was made under the name before, and on nothing else that was made."""
        self._lives[key] += 1
        digits = hashlib.sha256(f"{key} {self._lives[key]}".encode()).hexdigest()
        return "-".join((digits[:8], digits[8:12], f"4{digits[13:16]}", f"8{digits[17:20]}", digits[20:32]))

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def remove(self, resource: Resource, name: str, namespace: str = "default") -> None:
        """Delete an object by its name, whichever it is, as its user would; no trace in `calls`."""
        self._delete((resource.kind, namespace, name))

    def find(self, resource: Resource, name: str, namespace: str = "default") -> Manifest | None:
        """Read an object without leaving a trace in `calls`."""
        key = (resource.kind, namespace, name)
        stored = self.objects.get(key)
        return None if stored is None else self._read(key, stored)

    def all(self, resource: Resource) -> Manifests:
        """Read all objects of a kind without leaving a trace in `calls`."""
        return [self._read(key, stored) for key, stored in self.objects.items() if key[0] == resource.kind]

    def present(self, resource: Resource) -> Present:
        """Namespace, name and the stored object itself, to be read alone, of all of a kind that are there now."""
        return [(key[1], key[2], stored) for key, stored in self.objects.items() if key[0] == resource.kind]

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """What users were told: (object's name, reason, message), oldest first."""
        return [
            (event["involvedObject"]["name"], event["reason"], event["message"]) for event in self.all(resources.EVENTS)
        ]

    # As Kube has them

    async def close(self) -> None:
        pass

    async def get(self, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
        async with self._call(Call("get", resource.kind, name)):
            return self._found(resource, namespace, name, self.find(resource, name, namespace))

    async def namespace_uid(self, namespace: str) -> str:
        async with self._call(Call("get", "Namespace", namespace)):
            return self.namespace_uids.get(namespace, f"uid-of-{namespace}")

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> Manifests:
        async with self._call(Call("list", resource.kind)):
            return [
                self._told(resource, self._read(key, stored), own=False)
                for key, stored in self.objects.items()
                if key[0] == resource.kind
                and namespace in (None, key[1])
                and (labels or {}).items() <= stored["metadata"].get("labels", {}).items()
                and all(_at(stored, path) == value for path, value in (fields or {}).items())
            ][:most]

    async def names(self, resource: Resource, *, namespace: str, most: int) -> Sequence[str]:
        async with self._call(Call("list", resource.kind)):
            return [name for kind, place, name in self.objects if (kind, place) == (resource.kind, namespace)][:most]

    async def create(self, manifest: Manifest) -> Manifest:
        async with self._call(Call("create", manifest["kind"], manifest["metadata"]["name"])):
            resource, key = _locate(manifest)
            if key in self.objects:
                self._doubt(resource, key)
                raise AlreadyExists(f"{key} already exists", status=409, reason="AlreadyExists")
            return self._told(resource, self.put(_without_status(resource, manifest)), own=True)

    async def replace(self, manifest: Manifest, *, resource_version: str) -> Manifest:
        async with self._call(Call("replace", manifest["kind"], manifest["metadata"]["name"])):
            resource, key = _locate(manifest)
            self._existing(key, resource_version, resource)
            return self._told(resource, self.put(manifest), own=True)

    async def patch(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        merge_patch: Manifest,
        uid: str,
        resource_version: str,
    ) -> Manifest:
        async with self._call(Call("patch", resource.kind, name)):
            key = (resource.kind, namespace, name)
            patch = _copy(merge_patch)
            old = self._existing(key, resource_version, resource, uid=uid)
            if _has_status_subresource(resource):
                patch.pop("status", None)
            return self._told(resource, self._store(key, old, _merge(old, patch)), own=True)

    async def delete(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        uid: str,
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> Deleted:
        async with self._call(Call("delete", resource.kind, name)):
            key = (resource.kind, namespace, name)
            stored = self.objects.get(key)
            if stored is None or uid != stored["metadata"]["uid"]:
                self._found(resource, namespace, name, stored)
                return Deleted(found=False)
            self._delete(key, orphan=propagation == "Orphan", force=grace_seconds == 0)
            remaining = self.find(resource, name, namespace)
            if remaining is not None:
                self._told(resource, remaining, own=True)
            elif self.answers is not None:
                self.answers.found_gone(resource, namespace, name, uid)
            return Deleted(found=True, remaining=remaining)

    async def patch_status(
        self, resource: Resource, *, namespace: str, name: str, status: Manifest, resource_version: str
    ) -> Manifest:
        async with self._call(Call("patch_status", resource.kind, name)):
            key = (resource.kind, namespace, name)
            old = self._existing(key, resource_version, resource)
            return self._told(resource, self._store(key, old, _merge(old, {"status": _copy(status)})), own=True)

    async def apply_status(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        status_part: Manifest,
        manager: str,
        resource_version: str,
    ) -> Manifest:
        async with self._call(Call("apply_status", resource.kind, name)):
            key = (resource.kind, namespace, name)
            old = self._existing(key, resource_version, resource)
            applied = self._apply(key, old, {"status": _copy(status_part)}, manager=manager)
            return self._told(resource, applied, own=True)

    async def pod_log(
        self,
        namespace: str,
        *,
        name: str,
        container: str | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        last_bytes: int | None = None,
    ) -> str | None:
        async with self._call(Call("pod_log", "Pod", name)):
            log = self.logs.get(name)
            if log is None:
                return None
            if tail_lines is not None:
                log = "".join(log.splitlines(keepends=True)[-tail_lines:])
            return log[:limit_bytes][-(last_bytes or len(log)) :] if log else log

    async def token_review(self, token: str, *, audiences: Sequence[str]) -> Manifest:
        async with self._call(Call("token_review", "TokenReview")):
            return _copy(self.tokens.get(token, {"authenticated": False, "error": "unknown token"}))

    async def token_issuer(self) -> Manifest:
        return _copy(self.issuer[0])

    async def token_keys(self) -> Manifest:
        async with self._call(Call("token_keys", "")):
            return _copy(self.issuer[1])

    # How

    def _call(self, call: Call) -> _Calling:
        self.next_call = call
        return _Calling(self, call)

    def _told(self, resource: Resource, stored: Manifest, *, own: bool) -> Manifest:
        if self.answers is not None:
            self.answers.answered(resource, stored, own=own)
        return stored

    def _found(self, resource: Resource, namespace: str, name: str, stored: Manifest | None) -> Manifest | None:
        if stored is not None:
            return self._told(resource, stored, own=False)
        if self.answers is not None:
            self.answers.found_gone(resource, namespace, name, None)
        return None

    def _doubt(self, resource: Resource, key: ObjectKey) -> None:
        if self.answers is not None:
            self.answers.doubt(resource, key[1], key[2])

    def _existing(
        self, key: ObjectKey, resource_version: str, resource: Resource, *, uid: str | None = None
    ) -> Manifest:
        stored = self.objects.get(key)
        if stored is None:
            self._found(resource, key[1], key[2], None)
            raise NotFound(f"{key} not found", status=404, reason="NotFound")
        metadata = stored["metadata"]
        if resource_version != metadata["resourceVersion"] or uid not in (None, metadata["uid"]):
            self._doubt(resource, key)
            raise Conflict(f"{key} has changed", status=409, reason="Conflict")
        return stored

    def _store(self, key: ObjectKey, old: Manifest, new: Manifest) -> Manifest:
        """Store a changed object; a write that changes nothing leaves the resource version."""
        if new != old:
            if key[0] in {"ConfigMap", "Secret"} and old.get("immutable") and new.get("data") != old.get("data"):
                raise Invalid(f"{key}: data is immutable", status=422, reason="Invalid")
            new["metadata"] = dict(new["metadata"])
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
            new["metadata"]["resourceVersion"] = self._next_version()
            self._keep(key, new)
            if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
                self._remove(key)
                return new
        return self._read(key, self.objects[key])

    def _apply(self, key: ObjectKey, old: Manifest, part: Manifest, *, manager: str) -> Manifest:
        """Make the manager's fields so: what it no longer names is removed, unless another manager holds it too."""
        gone = _leaves(self._applied.get((key, manager), {})) - _leaves(part)
        for (other, holder), held in self._applied.items():
            if other == key and holder != manager:
                gone -= _leaves(held)
        new = _copy(old)
        for path in sorted(gone, key=len, reverse=True):
            _drop(new, path)
        new = _merge(new, part, keep_nulls=True)
        self._applied[key, manager] = part
        return self._store(key, old, new)

    def _delete(self, key: ObjectKey, *, orphan: bool = False, force: bool = False) -> None:
        stored = self.objects[key]
        if stored["metadata"].get("finalizers") and not force:
            ending = {"deletionTimestamp": self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")} | stored["metadata"]
            self._keep(key, {**stored, "metadata": ending | {"resourceVersion": self._next_version()}})
            return
        self._remove(key, orphan=orphan)

    def _remove(self, key: ObjectKey, *, orphan: bool = False) -> None:
        uid = self.objects.pop(key)["metadata"]["uid"]
        self._applied = {place: part for place, part in self._applied.items() if place[0] != key}
        if orphan or not self._collect_garbage:
            return
        for child, stored in list(self.objects.items()):
            owners = stored["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == uid for owner in owners) and child in self.objects:
                self._delete(child)


class _Calling:
    """Record a call, let others run before it, and let the test break it before or after it took effect."""

    def __init__(self, kube: FakeKube, call: Call):
        self._kube = kube
        self._call = call

    async def __aenter__(self) -> None:
        if self._kube.others():
            await asyncio.sleep(0)
        self._kube.calls.append(self._call)
        self._kube.before(self._call)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._kube.after(self._call)


def _copy(value: Any) -> Any:
    """Copy plain JSON-like data; several times faster than a deep copy."""
    return marshal.loads(marshal.dumps(value))


def _at(manifest: Manifest, path: str) -> Any:
    """Read a field by its dotted path; None when it is not there."""
    value: Any = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _locate(manifest: Manifest) -> tuple[Resource, ObjectKey]:
    resource = resources.of(manifest)
    return resource, (resource.kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _has_status_subresource(resource: Resource) -> bool:
    return resource in {resources.PROJECTS, resources.PLUGINS, resources.TRAINING_RUNS, resources.JOBS, resources.PODS}


def _without_status(resource: Resource, manifest: Manifest) -> Manifest:
    hidden = {"status"} if _has_status_subresource(resource) else set()
    return {name: _copy(value) for name, value in manifest.items() if name not in hidden}


def _merge(base: Any, patch: Any, *, keep_nulls: bool = False) -> Any:
    """RFC 7386 JSON merge patch. The result shares with `base` what the patch leaves as it is."""
    if not isinstance(patch, dict):
        return _copy(patch) if isinstance(patch, list) else patch
    merged = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None and not keep_nulls:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value, keep_nulls=keep_nulls)
    return merged


def _leaves(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        return {path} if path else set()
    return {leaf for name, member in value.items() for leaf in _leaves(member, (*path, name))}


def _drop(value: Manifest, path: tuple[str, ...]) -> None:
    """Remove a leaf, and the maps that it leaves empty."""
    head, *rest = path
    if head not in value:
        return
    if rest and isinstance(value[head], dict):
        _drop(value[head], tuple(rest))
        if not value[head]:
            del value[head]
    elif not rest:
        del value[head]
