"""The command line of `chorus plugin check`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chorus_conformance.check import Plan, check, select
from chorus_conformance.errors import CannotCheck
from chorus_conformance.frames import read_source
from chorus_conformance.launch import ContainerLauncher, Launcher, ProcessLauncher, find_engine
from chorus_conformance.observed import Scenario
from chorus_conformance.report import as_json, as_text, counts
from chorus_conformance.rule import Rule
from chorus_conformance.rulebook import RULES
from chorus_conformance.service_check import ServicePlan
from chorus_conformance.service_rulebook import SERVICE_RULES
from chorus_conformance.timeouts import Timeouts
from chorus_conformance.webhooks import read_key
from chorus_protocol.webhook_signature import public_key

ABOUT = (
    "Run a plugin by its contract and say, rule by rule, whether it keeps it. Exit code 0: it does; 1: it "
    "breaks a rule; 2: it cannot be checked."
)
PLUGIN_FILE = "plugin.json"
EXECUTABLE = "plugin"
GOOD, BROKEN, CANNOT = 0, 1, 2


class PluginFile(BaseModel):
    """plugin.json of a directory: how the plugin is started there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[list[str], Field(min_length=1)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what follows `--` comes in `arguments`."""
    parser.usage = "chorus plugin check [OPTION ...] IMAGE|URL|DIR [-- ARGUMENT ...]"
    parser.set_defaults(arguments=[])
    parser.add_argument("target", metavar="IMAGE|URL|DIR", help="a directory with plugin.json, an image, or a service")
    parser.add_argument("--messages", choices=["http", "file"], default="http", help="as spec.container.messages")
    parser.add_argument("--frame-format", choices=["parquet", "csv", "jsonl"], default="parquet")
    parser.add_argument("--artefact", choices=["files", "none"], default="files", help="as spec.container.artefact")
    parser.add_argument("--no-describe", action="store_true", help="the manifest says what the plugin is and needs")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--info", action="append", default=[], metavar="KEY=VALUE", help="as dataset.info of a Project")
    parser.add_argument("--frame", type=Path, metavar="FILE.csv", help="data of your own instead of made-up data")
    parser.add_argument("--rule", action="append", default=[], metavar="ID", help="check this rule; may be repeated")
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        choices=[each.value for each in Scenario],
        help="run only this one and describe; may be repeated",
    )
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--keep", action="store_true", help="leave the directories of all executions")
    parser.add_argument("--engine", metavar="COMMAND", help="container engine (docker, podman or nerdctl)")
    parser.add_argument("--entrypoint", metavar="COMMAND", help="entry point of an image's container")
    parser.add_argument(
        "--network",
        choices=["host", "bridge"],
        default="host" if sys.platform == "linux" else "bridge",
        help="how a container reaches the receiver (default here: %(default)s)",
    )
    parser.add_argument(
        "--signing-key",
        type=Path,
        metavar="FILE",
        help="key that messages to a service are signed with; made when there is none (default: another each time)",
    )
    parser.add_argument(
        "--service-ca", type=Path, metavar="FILE", help="certificates (PEM) that the service is known by"
    )
    parser.add_argument(
        "--receiver-host",
        default="127.0.0.1",
        metavar="NAME",
        help="how the service reaches this machine (default: %(default)s)",
    )
    for name, value in vars(Timeouts()).items():
        parser.add_argument(f"--{name}-seconds", type=_seconds, default=value, metavar="N", help=f"default {value:g}")


def run(options: argparse.Namespace) -> int:
    """Check a plugin; 0 when it keeps the contract, 1 when it breaks a rule, 2 when it cannot be checked."""
    try:
        plan = plan_of(options)
        results = asyncio.run(check(plan, say=lambda text: print(text, file=sys.stderr, flush=True)))
    except CannotCheck as error:
        print(f"cannot check {options.target}: {error}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return CANNOT
    write = as_json if options.output == "json" else as_text
    sys.stdout.write(write(results, target=options.target))
    return BROKEN if counts(results)["failed"] else GOOD


def plan_of(options: argparse.Namespace) -> Plan | ServicePlan:
    """Read the options; CannotCheck names the one that is wrong."""
    if options.target.startswith(("http://", "https://")):
        return _service_plan(options)
    return Plan(
        launcher=_launcher(options),
        by_file=options.messages == "file",
        frame_format=options.frame_format,
        describes=not options.no_describe,
        **_common(options, RULES),
    )


def _common(options: argparse.Namespace, rules: Sequence[Rule]) -> dict[str, Any]:
    info = dict(_pair(text, "--info") for text in options.info)
    try:
        selected = select(options.rule, rules)
    except ValueError as error:
        raise CannotCheck(f"--rule: {error}") from error
    return {
        "has_artefact": options.artefact == "files",
        "parameters": {name: _value(text) for name, text in (_pair(each, "--parameter") for each in options.parameter)},
        "info": info,
        "own": read_source(options.frame, info) if options.frame is not None else None,
        "rules": selected,
        "scenarios": [Scenario(name) for name in options.scenario],
        "timeouts": Timeouts(**{name: getattr(options, f"{name}_seconds") for name in vars(Timeouts())}),
        "keep": options.keep,
    }


def _service_plan(options: argparse.Namespace) -> ServicePlan:
    if options.messages == "file" or options.frame_format != "parquet" or options.no_describe or options.arguments:
        raise CannotCheck(
            "--messages, --frame-format, --no-describe and arguments are for containers",
            hint="leave them out for a URL",
        )
    ca = None
    if options.service_ca is not None:
        try:
            ca = options.service_ca.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotCheck(f"--service-ca {options.service_ca} cannot be read: {error}") from error
    key = read_key(options.signing_key)
    print(f"the service must know the public key {public_key(key)}", file=sys.stderr)
    own_machine = options.receiver_host in {"127.0.0.1", "localhost"}
    return ServicePlan(
        options.target,
        key,
        host=options.receiver_host,
        listen="127.0.0.1" if own_machine else "0.0.0.0",
        ca=ca,
        **_common(options, SERVICE_RULES),
    )


def _launcher(options: argparse.Namespace) -> Launcher:
    folder = Path(options.target)
    if folder.is_dir():
        if options.arguments:
            raise CannotCheck("arguments after -- are for images", hint=f"put them into command of {PLUGIN_FILE}")
        return ProcessLauncher(folder.resolve(), read_command(folder.resolve()))
    if options.target.startswith((".", "/")):
        raise CannotCheck(
            f"there is no directory {options.target}", hint="name a directory with plugin.json, or an image"
        )
    return ContainerLauncher(
        find_engine(options.engine),
        options.target,
        tuple(options.arguments),
        entrypoint=options.entrypoint,
        host_network=options.network == "host",
    )


def read_command(folder: Path) -> Sequence[str]:
    """Find out how the plugin of a directory is started; CannotCheck when nothing says so."""
    file, executable = folder / PLUGIN_FILE, folder / EXECUTABLE
    hint = f'write {PLUGIN_FILE}: {{"command": ["python3", "main.py"]}}'
    if not file.is_file():
        if os.access(executable, os.X_OK) and executable.is_file():
            return (str(executable),)
        raise CannotCheck(f"{folder} holds neither {PLUGIN_FILE} nor an executable file {EXECUTABLE}", hint=hint)
    try:
        return tuple(PluginFile.model_validate(json.loads(file.read_bytes())).command)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CannotCheck(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint=hint) from error
    except (OSError, ValueError) as error:
        raise CannotCheck(f"{file} cannot be read: {error}", hint=hint) from error


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CannotCheck(f"{option} {text!r} is not NAME=VALUE")
    return name, value


def _value(text: str) -> int | str:
    """Read a parameter as an integer where it looks like one; "…" in quotes is always a text."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    try:
        return int(text)
    except ValueError:
        return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return seconds
