"""The content of a frozen configuration, its digest, and what may be believed of one that is stored.

The ConfigMap decides images, priorities and Secrets of pods. Whoever may write ConfigMaps, but no pods, must not get
pods in this way. So a content is used only if its digest is known: from the run's status, or from a Job that was made
from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from chorus_api import contract
from chorus_api.operator_config import OperatorConfig
from chorus_api.run_config import FrozenRun
from chorus_operator.decisions.accepted import AcceptedRun, StoredConfig
from chorus_protocol.messages import TrainingData

RUN_FILE, OPERATOR_FILE, DATA_FILE, HASH_FILE = "run.json", "operator.json", "training_data.json", "train-key"
FORMER_FILES = (RUN_FILE, DATA_FILE, HASH_FILE, "forward.json")
"""What former versions froze. Of anything else in their ConfigMaps nothing is known."""


def content_of(
    config: FrozenRun,
    operator: OperatorConfig,
    *,
    parameters: dict[str, Any],
    training_hash: str,
    files: Mapping[str, str],
) -> dict[str, str]:
    """Write down everything that a run uses, by the keys of the ConfigMap; `files`: more of the plugin type's own."""
    message = TrainingData(
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        training_df_name=config.frame_name,
        parameters=parameters,
        info=config.info,
        location=str(contract.DATA_DIR),
    )
    return {
        RUN_FILE: config.model_dump_json(by_alias=True, indent=1),
        DATA_FILE: message.model_dump_json(indent=1),
        HASH_FILE: training_hash,
        OPERATOR_FILE: operator.model_dump_json(by_alias=True, indent=1),
        **files,
    }


def digest_of(content: Mapping[str, str]) -> str:
    """Digest a ConfigMap's content: the sha256 of its data as JSON with sorted keys and without white space."""
    text = json.dumps(dict(content), sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def type_of(content: Mapping[str, str]) -> str:
    """Read which type of plugin a run is of; empty when the content does not say."""
    try:
        return str(json.loads(content[RUN_FILE]).get("type", ""))
    except (KeyError, ValueError, AttributeError, RecursionError):
        return ""


def read_accepted(name: str, content: Mapping[str, str], model: type[FrozenRun]) -> AcceptedRun:
    """Read a content whose digest is known; `model`: of its run.json. ValueError when it is not of this form."""
    try:
        return AcceptedRun(
            config_map=name,
            digest=digest_of(content),
            training_hash=content[HASH_FILE],
            config=model.model_validate_json(content[RUN_FILE]),
            operator=OperatorConfig.model_validate_json(content[OPERATOR_FILE]),
        )
    except (KeyError, ValidationError) as error:
        raise ValueError(f"ConfigMap {name} does not hold a run's configuration: {error}") from error


def completed(stored: StoredConfig, fresh: Mapping[str, str], model: type[FrozenRun]) -> dict[str, str]:
    """Fill in what a former version did not freeze, from what would be frozen now; ValueError when it cannot be.

    A field that the former version wrote keeps its value: pods of the run were made with it.
    """
    present = model.model_validate_json(fresh[RUN_FILE])
    if type_of(stored.content) != present.type:
        raise ValueError("its Plugin is of another type now")
    try:
        config = model.model_validate_json(stored.content[RUN_FILE])
    except (KeyError, ValidationError) as error:
        raise ValueError(f"ConfigMap {stored.name} does not hold a run's configuration: {error}") from error
    lacking = (model.model_fields.keys() - config.model_fields_set) | model.frozen_later
    whole = config.model_copy(update={name: getattr(present, name) for name in lacking})
    former = {name: text for name, text in stored.content.items() if name in FORMER_FILES}
    return {**fresh, **former, RUN_FILE: whole.model_dump_json(by_alias=True, indent=1)}


def says_the_same(stored: StoredConfig, fresh: Mapping[str, str]) -> bool:
    """Tell whether what a former version stored is what would be frozen now, as far as it goes."""
    try:
        return RUN_FILE in stored.content and all(
            name in FORMER_FILES and _agrees(name, text, fresh.get(name, "")) for name, text in stored.content.items()
        )
    except (ValueError, RecursionError):
        return False


def _agrees(name: str, stored: str, fresh: str) -> bool:
    if not name.endswith(".json"):
        return stored == fresh
    old, new = json.loads(stored), json.loads(fresh)
    return isinstance(old, dict) and isinstance(new, dict) and all(new.get(key) == value for key, value in old.items())
