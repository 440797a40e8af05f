"""Forward what a container writes into its messages file: `python -m chorus_client.forward`, a native sidecar.

A line counts when it ends in a line break. Each becomes one message; how far the file is sent is written down beside
it, so that a sidecar that is started again goes on from there: as the same instance, and with the same number for each
line, so that a line that is sent a second time is known. Whether a message is right the receiver says, which
refuses, counts and logs what is not: people see it where they look for refusals. So with a line that is no message.

How far it is sent is written down from the start, and the sidecar's startup probe waits for it: a container's first
process that has no handler for SIGTERM does not notice it, and the container beside it may end at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chorus_api.contract import ATTEMPT_ENV, MAX_BODY_BYTES, MESSAGES_FILE, MESSAGES_SENT
from chorus_api.records import TerminationRecord
from chorus_api.run_config import ForwardConfig
from chorus_client.sender import Sender
from chorus_client.stop import StopFlag
from chorus_client.termination import MESSAGE_CHARACTERS, leave_termination, tidy
from chorus_protocol.messages import PAYLOADS, Addressed, ErrorReport, MessageType, ModelName

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
FLUSH_SECONDS = 5.0
CLOSE_SECONDS = 25.0
MAX_LINE_BYTES = MAX_BODY_BYTES
SENT_SUFFIX = MESSAGES_SENT.name.removeprefix(MESSAGES_FILE.name)
_MARK = re.compile(r"([0-9]{1,15}) ([0-9a-f]{32}) ([0-9]{1,15})", re.ASCII)
_ENDING = (MessageType.MODEL_NAME, MessageType.ERROR_REPORT)
_LOSSES = ("final_loss", "eval_loss")
UNREADABLE = "unreadable"
"""What a line that is no message is sent as: no such message is known."""


def message_of(line: bytes, *, project_id: int, plugin_id: int) -> tuple[str, dict[str, Any]]:
    """Read a line, {"type": …, "data": {…}}, as a message's name and data. Ids that it does not give are filled in."""
    try:
        event = json.loads(line)
        kind, data = str(event["type"]), event.get("data", {})
        if not isinstance(data, dict):
            raise TypeError("data is no object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        LOG.error("a line is no message (%s): %r", error, line[:200])
        return UNREADABLE, {"line": line[:200].decode("utf-8", "replace")}
    ids = {"project_id": project_id, "plugin_id": plugin_id} if _is_addressed(kind) else {}
    return kind, ids | data


def _is_addressed(kind: str) -> bool:
    payload = {str(known): payload for known, payload in PAYLOADS.items()}.get(kind)
    return payload is not None and issubclass(payload, Addressed)


class Tail:
    """The complete lines of a file that grows, from where it was read last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_name(path.name + SENT_SUFFIX)
        self._marked = -1
        self.position, self.instance, self.number = self._read_mark()

    @property
    def is_marked(self) -> bool:
        """Whether it is written down how far the file was read."""
        return self._marked == self.position

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are complete and not yet read. A line that is too long is cut, so that it is refused."""
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
                file.seek(self.position)
                while line := file.readline():
                    if not line.endswith(b"\n"):
                        return
                    self.position += len(line)
                    if line.strip():
                        self.number += 1
                        yield line.strip()[: MAX_LINE_BYTES + 1]
        except FileNotFoundError:
            return
        except OSError as error:
            LOG.warning("%s cannot be read: %s", self._path, error)

    def mark(self) -> None:
        """Write down that everything up to here was delivered."""
        self._mark.write_text(f"{self.position} {self.instance} {self.number}", encoding="ascii")
        self._marked = self.position

    def _read_mark(self) -> tuple[int, str, int]:
        """Read the position in bytes, the instance, and the number of the last line; those of a new file without it."""
        try:
            mark = _MARK.fullmatch(self._mark.read_text(encoding="ascii"))
        except (OSError, ValueError):
            mark = None
        return (int(mark[1]), mark[2], int(mark[3])) if mark is not None else (0, uuid.uuid4().hex, 0)


def forward(
    tail: Tail,
    config: ForwardConfig,
    sender: Sender,
    *,
    stop: StopFlag,
    leave: Callable[[TerminationRecord | None], object],
    pause: float = LOOK_SECONDS,
) -> None:
    """Send until `stop` is requested, then what is left, for at most CLOSE_SECONDS; `sender` is of `tail.instance`.

    `leave` takes the plugin's last word, to be read from the pod's status, as soon as it is read and before it is
    delivered: a pod whose grace is shorter than that is killed meanwhile. At the end it takes what could not be
    delivered, or None.
    """
    newest: dict[str, dict[str, Any]] = {}
    tail.mark()
    while not stop.requested:
        is_new = _send(tail, config, sender, newest)
        if is_new:
            leave(last_word(newest.keys(), newest))
        if not tail.is_marked and sender.flush(FLUSH_SECONDS if is_new else 0.0):
            tail.mark()
        time.sleep(pause)
    _send(tail, config, sender, newest)
    leave(last_word(newest.keys(), newest))
    lost = sender.close(CLOSE_SECONDS)
    for message in lost:
        LOG.error("%s was not delivered: %s", message.type, message.error)
    if all(message.refused for message in lost):
        tail.mark()
    leave(last_word({message.type for message in lost if not message.refused}, newest))


def last_word(undelivered: Collection[str], newest: Mapping[str, Mapping[str, Any]]) -> TerminationRecord | None:
    """Put what an attempt ends with, and the receiver does not have, into a record: the model's name, or the error.

    `newest`: the data of the newest message of each type.
    """
    try:
        if MessageType.MODEL_NAME in undelivered:
            named = ModelName.model_validate(newest[MessageType.MODEL_NAME])
            losses = {name: named.metrics[name] for name in _LOSSES if name in named.metrics}
            return TerminationRecord(outcome="succeeded", model_name=named.model_name, digest=named.digest, **losses)
        if MessageType.ERROR_REPORT in undelivered:
            error = ErrorReport.model_validate(newest[MessageType.ERROR_REPORT])
            reason, message = tidy(error.reason or "", 64), tidy(error.detail, MESSAGE_CHARACTERS)
            return TerminationRecord(outcome="failed", reason=reason, message=message, retryable=error.retryable)
    except ValidationError as error:
        LOG.error("the last message is none: %s", error)
    return None


def _send(tail: Tail, config: ForwardConfig, sender: Sender, newest: dict[str, dict[str, Any]]) -> bool:
    """Queue the lines that are new, and note in `newest` those that end an attempt; tell whether there were any."""
    before = tail.position
    for line in tail.lines():
        kind, data = message_of(line, project_id=config.project_id, plugin_id=config.plugin_id)
        sender.forward(kind, data, sequence=tail.number)
        if kind in _ENDING:
            newest[kind] = data
    return tail.position != before


def main(arguments: Sequence[str] | None = None) -> int:
    """Forward until SIGTERM: the kubelet sends it once the main container has ended."""
    parser = argparse.ArgumentParser(prog="chorus_client.forward", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = StopFlag().install()
    config = ForwardConfig.model_validate_json(options.config.read_bytes())
    tail = Tail(Path(config.messages_file))
    attempt = int(os.environ.get(ATTEMPT_ENV, "0"))
    sender = Sender(config.messaging, attempt=attempt, instance=tail.instance)
    forward(tail, config, sender, stop=stop, leave=leave_termination)
    return 0


if __name__ == "__main__":
    sys.exit(main())
