"""What Chorus gives to a container: environment variables, and the file with the run's data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabular_classifier.faults import BadConfiguration


@dataclass(frozen=True)
class Channel:
    """Where messages go, and the names that they carry."""

    url: str
    token_file: Path
    ca_file: Path
    subject_uid: str
    attempt: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Channel:
        """Read the variables that every role has."""
        return cls(
            url=variable(environment, "CHORUS_MESSAGES_URL"),
            token_file=Path(variable(environment, "CHORUS_TOKEN_FILE")),
            ca_file=Path(variable(environment, "CHORUS_CA_FILE")),
            subject_uid=variable(environment, "CHORUS_SUBJECT_UID"),
            attempt=int(environment.get("CHORUS_ATTEMPT", "0")),
        )


@dataclass(frozen=True)
class Run:
    """One training: its frame, its own directories, its parameters as they were given."""

    project_id: int
    plugin_id: int
    frame_name: str
    data_dir: Path
    run_dir: Path
    out_dir: Path
    parameters: Mapping[str, Any]
    info: Mapping[str, str]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Run:
        """Read TRAINING_DATA and the directories. Raises BadConfiguration."""
        path = Path(variable(environment, "CHORUS_TRAINING_DATA"))
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                project_id=told["project_id"],
                plugin_id=told["plugin_id"],
                frame_name=told["training_df_name"],
                data_dir=Path(variable(environment, "CHORUS_DATA_DIR")),
                run_dir=Path(variable(environment, "CHORUS_RUN_DIR")),
                out_dir=Path(variable(environment, "CHORUS_OUT_DIR")),
                parameters=told.get("parameters", {}),
                info=told.get("info", {}),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadConfiguration(f"{path}: {error!r}; it must hold the data of TRAINING_DATA") from error


def variable(environment: Mapping[str, str], name: str) -> str:
    """Return the variable's value. Raises BadConfiguration when it is not set."""
    value = environment.get(name, "")
    if not value:
        raise BadConfiguration(f"the environment variable {name} is not set; Chorus sets it in each of its pods")
    return value
