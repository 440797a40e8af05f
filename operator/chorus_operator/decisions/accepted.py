"""What an accepted run uses: frozen in one ConfigMap when it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chorus_api.operator_config import OperatorConfig
from chorus_api.run_config import FrozenRun
from chorus_api.training_run import Resolved


@dataclass(frozen=True)
class AcceptedRun:
    """Everything that an accepted run uses, as it was frozen. The Plugin and the Project's spec no longer matter."""

    config_map: str
    digest: str
    """Of the whole content of the ConfigMap."""
    training_hash: str
    config: FrozenRun
    """run.json: what pods read."""
    operator: OperatorConfig

    def resolved(self) -> Resolved:
        """Give `status.resolved` of the run."""
        return Resolved(
            config_map=self.config_map, digest=self.digest, hash=self.training_hash, frame=self.config.frame_name
        )


@dataclass(frozen=True)
class StoredConfig:
    """A ConfigMap that the run owns and that may hold its frozen configuration. It is not trusted yet."""

    name: str
    uid: str
    content: Mapping[str, str]
    digest: str
