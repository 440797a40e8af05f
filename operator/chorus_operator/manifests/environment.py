"""The environment of a pod that keeps the plugin contract: where its files are, and how it speaks."""

from __future__ import annotations

from typing import Literal

from chorus_api import contract
from chorus_api.run_config import FrozenRun, Messaging


def training_environment(config: FrozenRun, *, attempt: int, messages: Literal["Http", "File"]) -> dict[str, str]:
    """What a training container is told by its environment."""
    return {
        contract.ROLE_ENV: "train",
        contract.ATTEMPT_ENV: str(attempt),
        contract.TRAINING_DATA_ENV: str(contract.TRAINING_DATA),
        contract.DATA_DIR_ENV: str(contract.DATA_DIR),
        contract.RUN_DIR_ENV: str(contract.RUN_DIR),
        contract.OUT_DIR_ENV: str(contract.OUT_DIR),
        contract.PROJECT_ID_ENV: str(config.project_id),
        contract.PLUGIN_ID_ENV: str(config.plugin_id),
        **speech(config.messaging, messages),
    }


def speech(messaging: Messaging, messages: Literal["Http", "File"]) -> dict[str, str]:
    """What a container needs to know to speak, in its environment."""
    progress_url = messaging.url.removesuffix(contract.MESSAGES_PATH) + contract.PROGRESS_PATH
    variables = {
        "HOME": "/tmp",
        contract.MESSAGES_URL_ENV: messaging.url,
        contract.TOKEN_FILE_ENV: messaging.token_file,
        contract.CA_FILE_ENV: messaging.ca_file,
        contract.SUBJECT_UID_ENV: messaging.subject_uid,
        contract.PROGRESS_URL_ENV: progress_url,
        contract.PROGRESS_CA_ENV: messaging.ca_file,
        contract.PROGRESS_TOKEN_ENV: messaging.token_file,
    }
    return variables | ({contract.MESSAGES_FILE_ENV: str(contract.MESSAGES_FILE)} if messages == "File" else {})
