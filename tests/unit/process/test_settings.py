"""The environment is read once and its mistakes are named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chorus_api.resources import Resources
from chorus_operator.settings import Settings, SettingsError, TokenCheck, read_settings, variable_of

GOOD = {
    "CHORUS_NAMESPACE": "chorus-system",
    "CHORUS_POD_NAME": "chorus-0",
    "CHORUS_OPERATOR_IMAGE": "operator:1",
    "CHORUS_TRAINER_IMAGE": "trainer:1",
    "CHORUS_MESSAGES_URL": "https://chorus-messages.chorus-system.svc:8443/v1/messages",
}


def test_a_full_environment_is_read_and_the_rest_has_defaults() -> None:
    settings = read_settings({**GOOD, "PATH": "/bin", "CHORUS_LOG_FORMAT": "console", "KUBECONFIG": "/tmp/config"})
    assert settings.namespace == "chorus-system"
    assert settings.messages_host == "chorus-messages.chorus-system.svc"
    assert (settings.messages_port, settings.health_port) == (8443, 8080)
    assert (settings.log_level, settings.log_format, settings.kubeconfig) == ("info", "console", "/tmp/config")
    assert settings.watch_namespaces == ()
    assert settings.token_check is TokenCheck.REVIEW


def test_the_check_of_tokens_can_be_chosen() -> None:
    settings = read_settings({**GOOD, "CHORUS_TOKEN_CHECK": "PublishedKeys"})
    assert settings.token_check is TokenCheck.PUBLISHED_KEYS


@pytest.mark.parametrize("text", ["a,b", " a , b ,", ",a,,b", "a,b,a"])
def test_namespaces_are_separated_by_commas(text: str) -> None:
    assert read_settings({**GOOD, "CHORUS_WATCH_NAMESPACES": text}).watch_namespaces == ("a", "b")


def test_an_empty_variable_is_an_unset_one() -> None:
    empty = {"CHORUS_WATCH_NAMESPACES": "", "CHORUS_LOG_LEVEL": "", "KUBECONFIG": "", "CHORUS_HEALTH_PORT": ""}
    assert read_settings({**GOOD, **empty}) == read_settings(GOOD)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "CHORUS_POD_NAME"])
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHORUS_MESSAGES_URL", "http://x/v1/messages"),
        ("CHORUS_MESSAGES_URL", "https://x/other"),
        ("CHORUS_MESSAGES_URL", "chorus"),
        ("CHORUS_WATCH_NAMESPACES", "team-*"),
        ("CHORUS_WATCH_NAMESPACES", "a,!b"),
        ("CHORUS_WATCH_NAMESPACES", "Team"),
        ("CHORUS_WATCH_NAMESPACES", "a b"),
        ("CHORUS_TOKEN_CHECK", "None"),
        ("CHORUS_TOKEN_CHECK", "review"),
        ("CHORUS_LOG_LEVEL", "loud"),
        ("CHORUS_LOG_FORMAT", "xml"),
        ("CHORUS_MESSAGES_PORT", "0"),
        ("CHORUS_HEALTH_PORT", "many"),
        ("CHORUS_JOB_RESOURCES", "cpu=1"),
        ("CHORUS_JOB_RESOURCES", "null"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({**GOOD, name: value})


def test_resources_of_jobs_are_read_from_json() -> None:
    text = '{"requests": {"cpu": "50m"}, "limits": {"cpu": "1", "ephemeral-storage": "4Gi"}}'
    resources = read_settings({**GOOD, "CHORUS_JOB_RESOURCES": text}).job_resources
    assert resources == Resources(requests={"cpu": "50m"}, limits={"cpu": "1", "ephemeral-storage": "4Gi"})
    assert read_settings(GOOD).job_resources == Resources()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"limits": {"cpu": "much"}}', 'limits.cpu: must be a quantity, such as "500m"'),
        ('{"limits": {"cpu": 1}}', 'limits.cpu: must be a quantity, such as "500m"'),
        ('{"limits": {"nvidia.com/gpu": "1"}}', "limits.nvidia.com/gpu: Input should be 'cpu', 'memory' or"),
        ('{"limit": {"cpu": "1"}}', "limit: Extra inputs are not permitted"),
        ('{"limits": {"cpu": "1"}', 'must be JSON, such as {"limits": {"cpu": "1"}}'),
        (
            '{"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}',
            "requests of cpu must not be above limits: lower them or raise the limits",
        ),
    ],
)
def test_wrong_resources_of_jobs_are_refused_with_the_place_and_the_fix(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({**GOOD, "CHORUS_JOB_RESOURCES": text})
    assert "CHORUS_JOB_RESOURCES: " in str(refused.value)
    assert said in str(refused.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings(GOOD).namespace = "other"  # type: ignore[misc]


def test_every_setting_has_its_variable() -> None:
    names = {variable_of(name) for name in Settings.model_fields}
    assert {*GOOD, "CHORUS_WATCH_NAMESPACES", "CHORUS_LOG_LEVEL", "CHORUS_LOG_FORMAT", "KUBECONFIG"} <= names
