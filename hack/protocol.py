"""Write docs/protocol.md: the plugin protocol as the models of the code say it.

    PYTHONPATH=operator python hack/protocol.py

Messages, their fields and bounds come from chorus_protocol.messages, answers from chorus_protocol.refusals,
deadlines from chorus_api.plugin, names and paths from chorus_api.contract. What a model cannot say, such as who sends a
message, is in the tables here; a message, code or variable that they do not know stops the writing. A test compares
the page with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from chorus_api import contract
from chorus_api.plugin import Checkpointing, Deadlines, Retry
from chorus_api.reasons import ExitCode
from chorus_api.run_config import ContainerConfig, TerminationRecord
from chorus_protocol.messages import PAYLOADS, TYPE_PREFIX, Envelope, FrameManifest, MessageType, TrainingData
from chorus_protocol.refusals import Cause, Refused

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
EXTENSIONS = {"subject_uid": "subjectuid"}
"""Fields of the envelope that the standard's rules for names write in another way."""
AGAIN = (408, 429)
OUTGOING: Mapping[str, type[BaseModel] | None] = {"TRAINING_DATA": TrainingData, "ONLINE_INQUIRY": None}
"""Messages of Chorus: the model of their data, None for an empty object."""
SENDERS = {
    "TRAINING_DATA": "Chorus → plugin",
    "DATA_REPORT": "plugin → Chorus",
    "TRAINING_START": "plugin → Chorus",
    "MODEL_NAME": "plugin → Chorus",
    "ERROR_REPORT": "plugin → Chorus",
    "progress": "plugin → Chorus",
    "ONLINE_INQUIRY": "Chorus → plugin",
    "ONLINE_REPORT": "plugin → Chorus",
    "FRAME_READY": "prepare Job → Chorus (internal)",
    "FRAME_FAILED": "prepare Job → Chorus (internal)",
    "EXCHANGE_READY": "exchange pod → Chorus (internal)",
}
EXIT_CODES = {
    "DONE": "done. The run succeeds if MODEL_NAME came too, and the artefact unless the plugin declares none",
    "BAD_CONFIGURATION": "a parameter or another setting is wrong; the user's to mend",
    "BAD_DATA": "the data cannot be trained on; the user's to mend",
    "NOT_APPLICABLE": "the frame does not suit the plugin: the run is `notApplicable`, which is no failure",
    "INTERNAL": "an error of the plugin's surroundings; tried again as `infrastructure`",
    "PREEMPTED": "stopped by SIGTERM and saved; run again as `disruption`, with the same directory",
    "KILLED": "killed by SIGKILL; tried again as `infrastructure`, unless it was over the memory limit",
}
_TOKEN, _CA = contract.IDENTITY_DIR / "token", contract.IDENTITY_DIR / contract.CA_KEY
VARIABLES: Mapping[str, tuple[str, str]] = {
    contract.ROLE_ENV: ("`train` or `describe`", "what the container is to do"),
    contract.ATTEMPT_ENV: ("1, 2, …; 0 for `describe`", "number of the attempt; the attribute `attempt`"),
    contract.TRAINING_DATA_ENV: (f"`{contract.TRAINING_DATA}`", "the data of TRAINING_DATA"),
    contract.DATA_DIR_ENV: (f"`{contract.DATA_DIR}`", "the frame, read-only"),
    contract.RUN_DIR_ENV: (f"`{contract.RUN_DIR}`", "the run's own directory, kept over its attempts"),
    contract.OUT_DIR_ENV: (f"`{contract.OUT_DIR}`", "what lies here at the end is the artefact"),
    contract.MESSAGES_URL_ENV: (f"`https://…{contract.MESSAGES_PATH}`", "where messages are sent by POST"),
    contract.MESSAGES_FILE_ENV: (
        f"`{contract.MESSAGES_FILE}`",
        "only with `messages: File`: where messages are appended",
    ),
    contract.TOKEN_FILE_ENV: (f"`{_TOKEN}`", "bearer token; renewed, so read it for each message"),
    contract.CA_FILE_ENV: (f"`{_CA}`", "authorities that the receiver is known by; renewed too"),
    contract.SUBJECT_UID_ENV: ("uid of the run, or of the Plugin for `describe`", "the attribute `subjectuid`"),
    contract.PROJECT_ID_ENV: ("an integer", "`project_id` of messages"),
    contract.PLUGIN_ID_ENV: ("an integer", "`plugin_id` of messages"),
    contract.PROGRESS_URL_ENV: (
        f"`https://…{contract.PROGRESS_PATH}`",
        "progress in Kubeflow Trainer's form, which transformers' Trainer sends by itself",
    ),
    contract.PROGRESS_CA_ENV: (f"`{_CA}`", "as above"),
    contract.PROGRESS_TOKEN_ENV: (f"`{_TOKEN}`", "as above; the name of the file"),
}
FILES: Sequence[tuple[object, str]] = (
    (contract.TRAINING_DATA, "the data of [TRAINING_DATA](#training_data)"),
    (contract.RUN_CONFIG, "the frozen configuration of the run: [run.json](#runjson)"),
    (
        contract.DATA_DIR,
        "`train.parquet`, `eval.parquet` (or `.csv`, `.jsonl`: `frameFormat`) and [frame.json](#framejson); read-only",
    ),
    (contract.RUN_DIR, "the run's own directory; what a later attempt needs to go on is kept here"),
    (contract.OUT_DIR, "the artefact"),
    (contract.SCRIPT_DIR, "the script of `container.script`, after its digest was checked; read-only"),
    (contract.IDENTITY_DIR, "`token` and `ca.crt`, for messages"),
    (
        contract.TERMINATION_LOG,
        f"may hold the last word: [a record](#termination-message) of at most {contract.MAX_TERMINATION_BYTES:,} bytes",
    ),
    ("/tmp", "a writable directory of the pod, 1Gi unless `scratch.size` says otherwise; gone with it"),
)
HEAD = f"""# The plugin protocol: every message, field, file and code

Written by `hack/protocol.py` from the models of the code. Do not edit. How to use all this:
[write-a-plugin.md](write-a-plugin.md). What is accepted when, and how it is fenced: [messages.md](messages.md).

A plugin gets its work in files and environment variables (a container) or by a request (a service), and says what
becomes of it in messages: DATA_REPORT, then TRAINING_START, then any number of progress, then MODEL_NAME; ERROR_REPORT
whenever it cannot go on. A later one implies those before it.

## Envelope

A message is a [CloudEvent](https://cloudevents.io) 1.0 in JSON (`application/cloudevents+json`), at most
{contract.MAX_BODY_BYTES // 1024} KiB, sent by POST over HTTPS with `Authorization: Bearer` and the token: the pod's. A
service's is the one that it was told, or that of its [service account](messages.md#by-its-service-account). Attributes
beside those below are `specversion` (`"1.0"`), `datacontenttype` and `data`, an object. Extension attributes are
strings, as the standard has it: `"attempt": "1"`. With `messages: File` a line is
`{{"type": "DATA_REPORT", "data": {{"applicable": true}}}}`, and the forwarder fills in the rest.
"""

Schema = Mapping[str, Any]


def page() -> str:
    """The whole of protocol.md. Raises KeyError for a message, exit code or variable that no table here explains."""
    lines = [HEAD, *_model_table(Envelope, names=EXTENSIONS), "", "## Messages", ""]
    for kind in MessageType:
        lines += _message(kind)
    lines += [*_answers(), *_deadlines(), *_exit_codes(), *_variables(), *_files()]
    return "\n".join(lines)


def _message(kind: MessageType) -> list[str]:
    model = PAYLOADS[kind] if kind in PAYLOADS else OUTGOING[kind.value]
    lines = [f"### {kind.value}", "", f"{SENDERS[kind.value]}, type `{TYPE_PREFIX}{kind.value}`."]
    if model is None:
        return [*lines, "", "No fields: `data` is an empty object.", ""]
    return [*lines[:-1], f"{lines[-1]} {_about(model)}", "", *_model_table(model), ""]


def _about(model: type[BaseModel]) -> str:
    """What the class says of itself, without the name of the message before the colon."""
    first, _, rest = (model.__doc__ or "").strip().partition("\n\n")
    head, colon, text = " ".join(first.split()).partition(": ")
    said = text if colon else head
    return " ".join([said[:1].upper() + said[1:], *rest.split()])


def _answers() -> list[str]:
    rows = []
    for cause in Cause:
        status = Refused(cause, "").status
        rows.append([f"`{cause.value}`", str(status), "yes" if status in AGAIN or status >= 500 else "no"])
    return [
        "## Answers",
        "",
        "202: taken. 204: known already, or the run has ended. Anything else is a refusal, with a JSON body: `cause`,",
        f"`error`, `fields`. A sender tries again on {', '.join(map(str, AGAIN))}, 5xx and when nobody answers, with",
        "growing pauses, and not before the seconds of the header `Retry-After` are over; other refusals are final.",
        "[When each is given](messages.md#what-is-answered), and [how many messages are",
        "taken](messages.md#how-many-are-taken).",
        "",
        *_table(["cause", "status", "send it again"], rows),
        "",
    ]


def _deadlines() -> list[str]:
    rows = []
    for model, block in ((Deadlines, "deadlines"), (Checkpointing, "checkpoint"), (Retry, "retry")):
        for name, field, _ in _fields(model.model_json_schema(by_alias=True), {}):
            default = "none" if field.get("default") is None else str(field["default"])
            rows.append([f"`{block}.{name}`", default, _type(field), field["description"]])
    return [
        "## Times and tries",
        "",
        "Set in `spec` of the Plugin; times are in seconds. What happens when a wait is over:",
        "[runs.md](runs.md#deadlines).",
        "",
        *_table(["field", "default", "type", "what it is"], rows),
        "",
    ]


def _exit_codes() -> list[str]:
    codes = {name: value for name, value in vars(ExitCode).items() if name.isupper()}
    rows = [[str(value), EXIT_CODES[name]] for name, value in codes.items()]
    return [
        "## Exit codes",
        "",
        *_table(["code", "meaning"], [*rows, ["any other", "an error of the plugin's own; final"]]),
        "",
    ]


def _variables() -> list[str]:
    names = [value for name, value in vars(contract).items() if name.endswith("_ENV")]
    rows = [[f"`{name}`", *VARIABLES[name]] for name in names]
    return ["## Environment variables", "", *_table(["variable", "value", "what it is"], rows), ""]


def _files() -> list[str]:
    rows = [[f"`{path}`", text] for path, text in FILES]
    return [
        "## Files",
        "",
        "Take every path from its variable: outside Kubernetes, as under `chorus plugin check`, the paths are others.",
        "",
        *_table(["path", "what is there"], rows),
        "",
        "### frame.json",
        "",
        *_model_table(FrameManifest),
        "",
        "### run.json",
        "",
        *_model_table(ContainerConfig),
        "",
        "### Termination message",
        "",
        *_model_table(TerminationRecord),
        "",
    ]


def _model_table(model: type[BaseModel], *, names: Mapping[str, str] | None = None) -> list[str]:
    """A row a field, with those of nested models after it; but the frame's have a section of their own."""
    schema = model.model_json_schema(by_alias=True)
    rows = []
    for path, field, required in _fields(schema, schema.get("$defs", {})):
        if path.startswith("frame."):
            continue
        shown = (names or {}).get(path, path)
        rows.append([f"`{shown}`", _type(field), _default(field, required=required), field["description"]])
    return _table(["field", "type", "default", "what it is"], rows)


def _fields(schema: Schema, definitions: Schema, *, path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, given in schema.get("properties", {}).items():
        field = _resolved(given, definitions)
        field.setdefault("description", "")
        here = f"{path}{name}"
        yield here, field, name in schema.get("required", ())
        yield from _fields(field, definitions, path=f"{here}.")
        for below, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(field.get(below), dict):
                yield from _fields(_resolved(field[below], definitions), definitions, path=f"{here}{mark}.")


def _resolved(field: Schema, definitions: Schema) -> dict[str, Any]:
    """A field with the definition that it refers to; of a field that may be null, the other choice."""
    kept = dict(field)
    choices = [choice for choice in kept.pop("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        kept = {**_resolved(choices[0], definitions), **kept}
    elif choices:
        kept["anyOf"] = [_resolved(choice, definitions) for choice in choices]
    reference = kept.pop("$ref", None)
    if reference is not None:
        kept = {**_resolved(definitions[reference.rpartition("/")[2]], definitions), **kept}
    for below in ("items", "additionalProperties"):
        if isinstance(kept.get(below), dict):
            kept[below] = _resolved(kept[below], definitions)
    return kept


def _type(field: Schema) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if field.get("x-kubernetes-int-or-string"):
        return f"integer or string, at most {field['maxLength']:,} characters"
    kind = field.get("type")
    if kind in ("integer", "number"):
        return ("integer" if kind == "integer" else "finite number") + _range(field)
    if kind == "string":
        pattern = f", `{field['pattern']}`" if "pattern" in field else ""
        return "string" + _bounds(field.get("minLength"), field.get("maxLength"), " characters") + pattern
    if kind == "array":
        return f"list of {_type(field['items'])}" + _bounds(field.get("minItems"), field.get("maxItems"), " items")
    if kind == "object" and "patternProperties" in field:
        [(pattern, values)] = field["patternProperties"].items()
        return (
            f"map to {_type(values)}" + _bounds(None, field.get("maxProperties"), " entries") + f", named `{pattern}`"
        )
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        most = field.get("maxProperties")
        return f"map to {_type(field['additionalProperties'])}" + _bounds(None, most, " entries")
    return str(kind) if kind else "any value"


def _range(field: Schema) -> str:
    above = field.get("exclusiveMinimum")
    if above is not None:
        return f", above {above:,}"
    return _bounds(field.get("minimum"), field.get("maximum"), "")


def _bounds(least: int | None, most: int | None, unit: str) -> str:
    if least is not None and most is not None:
        return f", {least:,} to {most:,}{unit}"
    if most is not None:
        return f", at most {most:,}{unit}"
    return f", {least:,}{unit} or more" if least is not None else ""


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "**required**"
    default = field.get("default")
    return "" if default in (None, {}, [], "") else f"`{json.dumps(default)}`"


def _table(heads: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
