"""What the process is told by its environment; the only place that reads it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic_core import ErrorDetails

from chorus_api.base import QUANTITY_MESSAGE
from chorus_api.contract import MESSAGES_PATH, MESSAGES_PORT
from chorus_api.resources import Resources

PREFIX = "CHORUS_"
JOB_RESOURCES = '{"limits": {"cpu": "1"}}'
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
# A pattern such as team-* would match nothing: no namespaces are listed.
Namespace = Annotated[str, StringConstraints(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class TokenCheck(StrEnum):
    """How tokens are checked."""

    REVIEW = "Review"
    """The API server is asked about each (TokenReview). Takes a right that only a ClusterRole can give."""
    PUBLISHED_KEYS = "PublishedKeys"
    """Their signatures are checked against the keys that the API server publishes; every service account may."""


class SettingsError(Exception):
    """The environment is incomplete or wrong; the text names each variable."""


class Settings(BaseModel):
    """Each field is the environment variable CHORUS_<FIELD>, but for `kubeconfig`, which is KUBECONFIG."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Name = Field(description="Namespace of the operator: its Lease and its CA are here.")
    pod_name: Name = Field(description="Name of this pod; tells apart who holds the Lease. The host's name by default.")
    operator_image: Name = Field(description="Image of the prepare, fetch and publish Jobs.")
    trainer_image: Name = Field(description="Image of the training Jobs.")
    messages_url: Name = Field(description="https:// URL by which pods reach the message receiver.")
    watch_namespaces: tuple[Namespace, ...] = Field((), description="Namespaces to serve, comma-separated; empty: all.")
    token_check: TokenCheck = Field(
        TokenCheck.REVIEW, description="How pods' tokens are checked; PublishedKeys where there is no ClusterRole."
    )
    job_resources: Resources = Field(
        default_factory=Resources,
        description="Requests and limits of the CPU Jobs whose Project does not say, as JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    messages_port: Port = Field(MESSAGES_PORT, description="Port that the message receiver listens on.")
    health_port: Port = Field(8080, description="Port of /healthz, /readyz and /metrics.")
    kubeconfig: str | None = Field(None, description="File to reach the cluster by; the pod's own account when unset.")

    @field_validator("messages_url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path != MESSAGES_PATH:
            raise ValueError(f"must be https://<host>[:<port>]{MESSAGES_PATH}, not {url!r}")
        return url

    @field_validator("job_resources", mode="before")
    @classmethod
    def _is_json(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"must be JSON, such as {JOB_RESOURCES}, not {text[:200]!r}: {error}") from None

    @field_validator("job_resources")
    @classmethod
    def _requests_are_within_limits(cls, resources: Resources) -> Resources:
        if above := resources.above_limits():
            raise ValueError(f"requests of {', '.join(above)} must not be above limits: lower them or raise the limits")
        return resources

    @property
    def messages_host(self) -> str:
        """Host name that pods reach the receiver by."""
        return urlsplit(self.messages_url).hostname or ""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; SettingsError when a variable is missing or wrong. Unset and empty are the same."""
    values: dict[str, Any] = {"pod_name": platform.node()}
    for name in Settings.model_fields:
        variable = variable_of(name)
        if environment.get(variable):
            values[name] = environment[variable]
    if "watch_namespaces" in values:
        parts = [part.strip() for part in values["watch_namespaces"].split(",")]
        values["watch_namespaces"] = tuple(dict.fromkeys(part for part in parts if part))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_in_words(problem) for problem in error.errors())) from None


def _in_words(problem: ErrorDetails) -> str:
    """Name the variable, and the place in it where it holds more than one value."""
    field, *place = problem["loc"]
    parts = [str(part) for part in place if part != "[key]"]
    is_quantity = field == "job_resources" and problem["type"] in ("string_type", "string_pattern_mismatch")
    return ": ".join(
        [
            variable_of(str(field)),
            *([".".join(parts)] if parts else []),
            QUANTITY_MESSAGE if is_quantity else problem["msg"],
        ]
    )


def variable_of(field: str) -> str:
    """Name the environment variable of a field."""
    return "KUBECONFIG" if field == "kubeconfig" else PREFIX + field.upper()
