"""What was seen of a plugin: facts alone, which the rules judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from chorus_api.reasons import ExitCode
from chorus_dataset.errors import DataError
from chorus_protocol.messages import Envelope, ErrorReport, MessageType, OnlineReport, Payload, ProgressReport
from chorus_protocol.refusals import Cause, Refused


class Fate(StrEnum):
    """What became of a message."""

    TAKEN = "taken"
    KNOWN = "known"
    """It was sent again: acknowledged and ignored."""
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    """It was taken, and the answer was lost on the way."""


@dataclass(frozen=True)
class ReceivedMessage:
    """One message as it came. `payload` is None when it could not be read; `refused` says why it was not taken."""

    fate: Fate
    kind: MessageType | None = None
    envelope: Envelope | None = None
    payload: Payload | None = None
    refused: Refused | None = None
    body: bytes = b""

    @property
    def accepted(self) -> bool:
        """Whether it counts."""
        return self.fate in {Fate.TAKEN, Fate.UNANSWERED}

    def __str__(self) -> str:
        sequence = f" with sequence {self.envelope.sequence}" if self.envelope is not None else ""
        return f"{self.kind or 'a message'}{sequence}"


@dataclass(frozen=True)
class OutFile:
    """A file of the artefact: its name below CHORUS_OUT_DIR, and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Publication:
    """What publishing would say of an artefact: the digest of its SHA256SUMS, or why it cannot be published."""

    digest: str | None = None
    fault: DataError | None = None


@dataclass(frozen=True)
class Observation:
    """One execution of the plugin: how it ended and what it left behind."""

    exit_code: int | None
    """None when it did not end in time and was killed; 128 and the signal's number when a signal ended it."""
    seconds: float
    output: str = ""
    """The end of what it printed, secrets masked."""
    received: tuple[ReceivedMessage, ...] = ()
    files: tuple[OutFile, ...] = ()
    has_sums: bool = False
    """Whether SHA256SUMS is the plugin's own."""
    publication: Publication = field(default_factory=Publication)
    strayed: tuple[str, ...] = ()
    """Files that it made, changed or removed where it should not."""
    leaks: tuple[str, ...] = ()
    """Places that show the token."""
    termination: bytes = b""
    not_started: str = ""
    """Why the command could not be executed at all; of a service, how it refused the message."""
    is_service: bool = False
    """Then the exit code is that of a container that would have said the same."""
    signalled: bool = False
    """Whether it was still running when SIGTERM was sent."""

    def of(self, *kinds: MessageType) -> list[ReceivedMessage]:
        """Messages of these types that count, in the order of arrival."""
        return [entry for entry in self.received if entry.kind in kinds and entry.accepted]

    @property
    def refusals(self) -> list[Refused]:
        """Why messages were not taken, but for those that the receiver itself was away for."""
        refused = [entry.refused for entry in self.received if entry.refused is not None]
        return [each for each in refused if each.cause is not Cause.UNAVAILABLE]

    @property
    def done(self) -> bool:
        """Whether it ended by itself and said that all is well."""
        return self.exit_code == ExitCode.DONE

    @property
    def error(self) -> ErrorReport | None:
        """The ERROR_REPORT, if it sent one."""
        found = [entry.payload for entry in self.of(MessageType.ERROR_REPORT)]
        return found[0] if found and isinstance(found[0], ErrorReport) else None

    @property
    def percents(self) -> list[int]:
        """Progress as it was told."""
        payloads = [entry.payload for entry in self.of(MessageType.PROGRESS)]
        return [payload.percent for payload in payloads if isinstance(payload, ProgressReport)]

    def _last_word(self) -> str:
        said = [entry for entry in self.received if entry.accepted]
        return f"{said[-1]} came" if said else "no message came"

    def ending(self) -> str:
        """How it ended, for people."""
        if self.not_started:
            return f"it could not be started: {self.not_started}"
        if self.is_service:
            return f"{self._last_word()}, and nothing more for {self.seconds:.0f} s"
        if self.exit_code is None:
            return f"it was still running after {self.seconds:.0f} s and was killed"
        by_signal = f" (signal {self.exit_code - 128})" if 128 < self.exit_code < 160 else ""
        last = self.output.strip().splitlines()[-8:]
        said = "; it printed last:\n" + "\n".join(last) if last else "; it printed nothing"
        return f"it ended with exit code {self.exit_code}{by_signal}{said}"


class Scenario(StrEnum):
    """The ways in which the plugin is run, in this order."""

    DESCRIBE = "describe"
    IMPOSTOR = "impostor"
    """describe, at a receiver whose certificate is of another authority."""
    TRAIN = "train"
    UNCONFINED = "unconfined"
    """train without the limits of a pod: only when train failed, to tell whether the limits are the cause."""
    NOT_APPLICABLE = "notApplicable"
    BAD_VALUE = "badValue"
    UNKNOWN_NAME = "unknownName"
    STOP = "stop"
    RESUME = "resume"
    OUTAGE = "outage"
    TWICE = "twice"
    """TRAINING_DATA is sent twice (services)."""
    FORGED = "forged"
    """An inquiry that another key signed (services)."""
    MISADDRESSED = "misaddressed"
    """An inquiry that is meant for another service (services)."""


@dataclass(frozen=True)
class Evidence:
    """All that is known of a plugin."""

    seen: Mapping[Scenario, Observation]
    missing: Mapping[Scenario, str] = field(default_factory=dict)
    """Scenarios that were not run, and why."""
    report: OnlineReport | None = None
    raw_report: Mapping[str, object] = field(default_factory=dict)
    """The data of ONLINE_REPORT as it was sent."""
    is_container: bool = False
    by_file: bool = False
    """Whether messages are lines of a file."""
    has_artefact: bool = True
    describes: bool = True
    bad: Mapping[Scenario, str] = field(default_factory=dict)
    """The parameter that was made wrong, by scenario, for people."""
    grace_seconds: float = 120.0
    contract_paths_appeared: tuple[str, ...] = ()
    """Paths of the contract that came to be on this machine while the plugin ran as a process."""
