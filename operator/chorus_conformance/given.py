"""What one execution is given: the configuration files, and the environment of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from chorus_api import contract
from chorus_api.run_config import ContainerConfig, Messaging
from chorus_conformance.pod_files import PodFiles
from chorus_protocol.messages import FrameManifest, TrainingData

FrameFormat = Literal["parquet", "csv", "jsonl"]
MODEL_NAME = "chorus-check-model"
SOURCE = "/namespaces/chorus-check/pods/train"


@dataclass(frozen=True)
class Identity:
    """Who the plugin is in the messages of one check: ids of an imagined Project and Plugin, and uids."""

    project_id: int
    plugin_id: int
    plugin_uid: str
    run_uid: str


@dataclass(frozen=True)
class Channel:
    """How an execution speaks."""

    url: str
    progress_url: str
    subject_uid: str
    by_file: bool


@dataclass(frozen=True)
class Work:
    """What a training is to do."""

    frame: FrameManifest
    frame_format: FrameFormat
    has_artefact: bool
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)


def channel_env(channel: Channel, paths: Mapping[PurePosixPath, str]) -> dict[str, str]:
    """The environment that an execution speaks by, whatever its role."""
    ca, token = _within(paths, contract.IDENTITY_DIR, "ca.crt"), _within(paths, contract.IDENTITY_DIR, "token")
    env = {
        contract.MESSAGES_URL_ENV: channel.url,
        contract.TOKEN_FILE_ENV: token,
        contract.CA_FILE_ENV: ca,
        contract.SUBJECT_UID_ENV: channel.subject_uid,
        contract.PROGRESS_URL_ENV: channel.progress_url,
        contract.PROGRESS_CA_ENV: ca,
        contract.PROGRESS_TOKEN_ENV: token,
    }
    if channel.by_file:
        env[contract.MESSAGES_FILE_ENV] = _within(paths, contract.MESSAGES_DIR, contract.MESSAGES_FILE.name)
    return env


def describe_env(channel: Channel, paths: Mapping[PurePosixPath, str]) -> dict[str, str]:
    """The environment of an execution that is asked what it is."""
    return {contract.ROLE_ENV: "describe", contract.ATTEMPT_ENV: "0", **channel_env(channel, paths)}


def training_env(
    channel: Channel, paths: Mapping[PurePosixPath, str], *, identity: Identity, attempt: int
) -> dict[str, str]:
    """The environment of a training."""
    return {
        contract.ROLE_ENV: "train",
        contract.ATTEMPT_ENV: str(attempt),
        contract.TRAINING_DATA_ENV: paths[contract.TRAINING_DATA],
        contract.DATA_DIR_ENV: paths[contract.DATA_DIR],
        contract.RUN_DIR_ENV: paths[contract.RUN_DIR],
        contract.OUT_DIR_ENV: _within(paths, contract.RUN_DIR, contract.OUT_DIR.name),
        contract.PROJECT_ID_ENV: str(identity.project_id),
        contract.PLUGIN_ID_ENV: str(identity.plugin_id),
        **channel_env(channel, paths),
    }


def write_configuration(
    pod_files: PodFiles, work: Work, channel: Channel, paths: Mapping[PurePosixPath, str], *, identity: Identity
) -> None:
    """Write training_data.json and run.json."""
    data = TrainingData(
        project_id=identity.project_id,
        plugin_id=identity.plugin_id,
        training_df_name=work.frame.name,
        parameters=dict(work.parameters),
        info=dict(work.info),
        location=paths[contract.DATA_DIR],
    )
    config = ContainerConfig(
        run_name="chorus-check-1",
        run_uid=identity.run_uid,
        run_id="run_chorus_check",
        namespace="chorus-check",
        project="chorus-check",
        plugin="chorus-check",
        project_id=identity.project_id,
        plugin_id=identity.plugin_id,
        frame_name=work.frame.name,
        frame_digest=work.frame.digest,
        model_name=MODEL_NAME,
        info=dict(work.info),
        messaging=Messaging(
            url=channel.url,
            token_file=_within(paths, contract.IDENTITY_DIR, "token"),
            ca_file=_within(paths, contract.IDENTITY_DIR, "ca.crt"),
            subject_uid=channel.subject_uid,
            source=SOURCE,
        ),
        image="chorus-check",
        messages="File" if channel.by_file else "Http",
        artefact="Files" if work.has_artefact else "None",
        frame_format=work.frame_format,
        parameters=dict(work.parameters),
    )
    for path, text in (
        (contract.TRAINING_DATA, data.model_dump_json(indent=1)),
        (contract.RUN_CONFIG, config.model_dump_json(by_alias=True, exclude_none=True, indent=1)),
    ):
        file = pod_files.here()[path]
        file.write_text(text, encoding="utf-8")
        file.chmod(0o444)


def _within(paths: Mapping[PurePosixPath, str], folder: PurePosixPath, name: str) -> str:
    return f"{paths[folder]}/{name}"
