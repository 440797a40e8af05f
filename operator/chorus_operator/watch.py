"""The watches of Projects, Plugins and runs (kopf), and which keys of the work queue a change concerns.

kopf runs in a thread with an event loop of its own, because it takes over the signals and the tasks of its loop. Events
cross to the main loop, where the stores take them in, and `Keys` turns what is new into keys.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from chorus_api.base import GROUP
from chorus_api.conditions import ConditionType
from chorus_api.contract import DESCRIBES_LABEL, PROJECT_LABEL, RUN_LABEL
from chorus_kube.login import Credentials
from chorus_kube.resources import PLUGINS, PROJECTS, TRAINING_RUNS, Resource
from chorus_kube.work_queue import Key
from chorus_operator.reconcile.kept import asked, digest

RESYNC_SECONDS = 300.0
RESYNC_RATE = 2.0
"""Keys a second that the resync adds at most: with thousands of live runs it takes longer, not more of a core."""
LOGIN_LIFETIME = timedelta(minutes=10)
BEAT_SECONDS = 1.0
SETTLE_SECONDS = 0.2
"""What Jobs and pods do, and what is written into a status, comes in bursts: it is looked at together."""
TURN_SECONDS = 0.5
"""A run that is not admitted within this time says what it waits for."""
PROGRESS_SECONDS = 2.0
"""A Project is looked at for how far its runs have come no more often than its status is written."""
_WATCHED = (PROJECTS, PLUGINS, TRAINING_RUNS)
_OWN_REPORTS = {"report", "progress", "checkpoint"}

Object = dict[str, Any]


class Keys:
    """Knows which keys an event concerns, and which keys are alive. Belongs to the main loop.

    What it remembers of objects only spares work: which Projects use a Plugin, what users asked for, and whether an
    event of a run can matter to its Project. A gap in it costs a delay until the next resync, never a decision. Of what
    users write into an object it keeps a digest.
    """

    def __init__(self) -> None:
        self._live: dict[Key, bytes] = {}  # what users ask for
        self._plugins: dict[Key, frozenset[str]] = {}  # plugins that a Project uses
        self._runs: dict[Key, bytes] = {}  # what a Project sees of a run

    def of(self, kind: str, deleted: bool, stored: Object) -> dict[Key, float]:
        """Name the keys to look at after an event, in order, and in how many seconds.

        What users do is looked at at once; what follows from it may settle first.
        """
        metadata = stored["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        match kind:
            case "Project":
                keys = [Key(kind, namespace, name, name)]
                self._note_plugins(keys[0], deleted, stored)
                keys += self._runs_of(keys) if deleted else []
            case "Plugin":
                users = self._users(namespace, name)
                # Who waits for its turn must say that the Plugin is gone.
                keys = [Key(kind, namespace, name, ""), *users, *(self._runs_of(users) if deleted else [])]
            case "TrainingRun":
                project = str(stored.get("spec", {}).get("projectRef", {}).get("name", ""))
                return self._run(Key(kind, namespace, name, project), deleted, stored)
            case _:
                after = 0.0 if kind == "Job" and _has_finished(stored) else SETTLE_SECONDS
                return dict.fromkeys(_owner(namespace, metadata.get("labels", {})), after)
        return dict.fromkeys(keys, self._note(keys[0], stored, live=not deleted))

    def live(self) -> list[Key]:
        """All Projects and Plugins, and the runs that have not ended."""
        return list(self._live)

    def _note(self, key: Key, stored: Object, *, live: bool) -> float:
        """Remember what users ask of an object that is alive; returns in how many seconds to look at it."""
        now, before = asked(stored), self._live.pop(key, None)
        if not live:
            return 0.0
        self._live[key] = now
        return SETTLE_SECONDS if now == before else 0.0

    def _note_plugins(self, key: Key, deleted: bool, stored: Object) -> None:
        if deleted:
            self._plugins.pop(key, None)
            return
        entries = stored.get("spec", {}).get("plugins", [])
        self._plugins[key] = frozenset(str(entry.get("pluginRef", {}).get("name")) for entry in entries)

    def _users(self, namespace: str, plugin: str) -> list[Key]:
        return [
            project
            for project, plugins in self._plugins.items()
            if project.namespace == namespace and plugin in plugins
        ]

    def _runs_of(self, projects: Sequence[Key]) -> list[Key]:
        """Name the runs of Projects that have not ended."""
        places = {(project.namespace, project.name) for project in projects}
        return [key for key in self._live if key.kind == "TrainingRun" and (key.namespace, key.project) in places]

    def _run(self, key: Key, deleted: bool, stored: Object) -> dict[Key, float]:
        # The Project comes first: it admits the run, which can then begin at once.
        both = [Key("Project", key.namespace, key.project, key.project), key] if key.project else [key]
        status = stored.get("status", {})
        after = self._note(key, stored, live=not deleted and not _has_ended(status))
        if deleted:
            self._runs.pop(key, None)
            return dict.fromkeys(both, after)
        of_others = {name: value for name, value in status.items() if name not in _OWN_REPORTS}
        seen = asked(stored) + digest(of_others)
        if self._runs.get(key) == seen:
            return {key: after}  # what its pod reports concerns the run alone
        self._runs[key] = seen
        if not key.project:
            return {key: after}
        if after > 0 and not _has_ended(status):
            return {both[0]: PROGRESS_SECONDS, key: after}
        if not deleted and not _is_admitted(status) and not stored.get("spec", {}).get("cancel"):
            return {both[0]: after, key: max(after, TURN_SECONDS)}
        return dict.fromkeys(both, after)


def _owner(namespace: str, labels: dict[str, str]) -> list[Key]:
    run, project = labels.get(RUN_LABEL, ""), labels.get(PROJECT_LABEL, "")
    if run:
        return [Key("TrainingRun", namespace, run, project)]
    if described := labels.get(DESCRIBES_LABEL, ""):
        return [Key("Plugin", namespace, described, "")]
    return [Key("Project", namespace, project, project)] if project else []


def _is_admitted(status: Object) -> bool:
    conditions: list[Object] = status.get("conditions", [])
    return any(each.get("type") == ConditionType.ACCEPTED and each.get("status") == "True" for each in conditions)


def _has_finished(job: Object) -> bool:
    """Tell whether a Job has ended: its controller has waited for all of its pods."""
    conditions: list[Object] = job.get("status", {}).get("conditions", [])
    return any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)


def _has_ended(status: Object) -> bool:
    conditions: list[Object] = status.get("conditions", [])
    return any(
        condition.get("type") == ConditionType.SUCCEEDED and condition.get("status") in {"True", "False"}
        for condition in conditions
    )


async def resync(keys: Keys, *, look: Callable[[Key], None], every: float = RESYNC_SECONDS) -> None:
    """Have everything alive read and reconciled now and then, one after the other, in case a watch missed something."""
    pause = every
    while True:
        await asyncio.sleep(pause)
        live = keys.live()
        pause = max(every, len(live) / (0.8 * RESYNC_RATE))
        for key in live:
            look(key)
            await asyncio.sleep(pause * 0.8 / len(live))
        pause *= 0.2 if live else 1.0


Login = Callable[[], Awaitable[Credentials]]
OnEvent = Callable[[Resource, str | None, Object], None]
"""Takes the kind, what happened (None: it was listed), and the object."""


class Watches:
    """kopf in its thread, from `start` to `stop`."""

    def __init__(self, *, namespaces: Sequence[str], login: Login, on_event: OnEvent):
        """`namespaces`: all when empty. `on_event` is called on the loop that runs `start`."""
        self._namespaces = namespaces
        self._login = login
        self._on_event = on_event
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._beat = time.monotonic()
        self.ended: Future[None] = Future()
        """Done when the thread has ended; with the error when a watch broke."""
        self.ended.set_running_or_notify_cancel()  # whoever stops waiting for it does not cancel it

    @property
    def seconds_since_beat(self) -> float:
        """Seconds since its loop turned last; 0 before it is started."""
        return time.monotonic() - self._beat if self._main_loop is not None else 0.0

    def start(self) -> None:
        """Start the thread; call it on the loop that shall get the events."""
        self._main_loop = asyncio.get_running_loop()
        self._beat = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        self._stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    async def _main(self) -> None:
        beating = asyncio.create_task(self._beat_on())
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=watch_settings(),
                standalone=True,
                namespaces=list(self._namespaces),
                clusterwide=not self._namespaces,
                stop_flag=self._stop,
            )
        finally:
            beating.cancel()

    async def _beat_on(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.ConnectionInfo:
            return connection_info(await self._login(), now=datetime.now(UTC))

        kopf.on.login(registry=registry, id="share-credentials")(login)
        for resource in _WATCHED:
            self._watch(registry, resource)
        return registry

    def _watch(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        group, _, version = resource.api_version.rpartition("/")

        async def enqueue(event: Any, **_: Any) -> None:
            assert self._main_loop is not None
            self._main_loop.call_soon_threadsafe(self._on_event, resource, event["type"], event["object"])

        kopf.on.event(group, version, resource.plural, registry=registry, id=f"enqueue-{resource.plural}")(enqueue)


def connection_info(credentials: Credentials, *, now: datetime) -> kopf.ConnectionInfo:
    """Hand kopf the client's own credentials, for a while: tokens are rotated."""
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_file,
        insecure=credentials.insecure,
        certificate_path=credentials.certificate_file,
        private_key_path=credentials.key_file,
        scheme="Bearer" if credentials.token else None,
        token=credentials.token,
        expiration=now + LOGIN_LIFETIME,
    )


def watch_settings() -> kopf.OperatorSettings:
    """Settings of kopf as a watcher: it writes nothing, and posts nothing."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.watching.initial_streaming = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.scanning.disabled = True  # the CRDs come with Chorus, and reading CRDs and namespaces takes rights
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, v1=False)
    return settings
