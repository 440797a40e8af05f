"""What can be told before torch is loaded, which takes seconds: is there data to learn from, and a base model?"""

from __future__ import annotations

from pathlib import Path

from chorus_api.reasons import Reason
from chorus_api.run_config import RunConfig
from chorus_protocol.messages import DataReport
from chorus_trainer import frame as frames
from chorus_trainer.errors import BadConfiguration, NotApplicable
from chorus_trainer.ports import Messages


def report_on_data(directory: Path, config: RunConfig, *, messages: Messages) -> None:
    """Send DATA_REPORT. Raises NotApplicable or BadData as `frame.check` does."""
    addressed = {"project_id": config.project_id, "plugin_id": config.plugin_id}
    try:
        frames.check(directory)
    except NotApplicable as error:
        messages.send(DataReport(**addressed, applicable=False, reason=str(error)[:253]))
        raise
    messages.send(DataReport(**addressed, applicable=True))


def find_base(directory: Path) -> None:
    """See whether there is a base model at all. Raises BadConfiguration (BaseModelNotFound)."""
    if not (directory / "config.json").is_file():
        raise BadConfiguration(
            f"there is no base model at {directory}: it has no config.json",
            reason=Reason.BASE_MODEL_NOT_FOUND,
            hint="Check lora.baseModel.uri: it must name a directory with config.json, weights and a tokenizer.",
        )
