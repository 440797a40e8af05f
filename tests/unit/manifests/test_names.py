"""Names of children: valid, short enough, and the owner's alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_plugin, make_project, make_run
from chorus_api.base import DNS_LABEL
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names

UID = "c0ffee12-0000-4000-8000-000000000000"
KEY = names.base_model_id("hf://a/b", None)
LABEL = re.compile(DNS_LABEL)


def made(manifest: dict[str, Any], uid: str = UID) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


def run(name: str = "r" * 50, **how: Any) -> TrainingRun:
    return TrainingRun.model_validate(made(make_run(name, **how)))


def project(name: str = "p" * 20) -> Project:
    return Project.model_validate(made(make_project(name)))


def plugin(name: str = "g" * 20) -> Plugin:
    container = {"image": "registry.test/x:1"}
    return Plugin.model_validate(
        made(make_plugin(name, spec={"type": "container", "lora": None, "container": container}))
    )


def children() -> dict[str, str]:
    """The name of every child of a run, a Project and a Plugin with the longest names."""
    longest = run()
    return {
        "attempt": names.attempt_job(longest, 999),
        "attempt of four digits": names.attempt_job(longest, 9999),
        "exchange": names.exchange(longest, 999),
        "publication": names.publish_job(longest),
        "frozen": names.config_map(longest),
        "prepare": names.prepare_job(project(), KEY).name,
        "frame": names.frame_config_map(project(), KEY).name,
        "fetch": names.fetch_job(project(), KEY).name,
        "claim": names.new_claim(project()),
        "describe": names.describe_job(plugin(), "registry.test/x:1").name,
    }


@pytest.mark.parametrize("child", children())
def test_every_name_of_a_child_is_a_dns_label_and_carries_digits_of_its_owners_uid(child: str) -> None:
    name = children()[child]
    assert LABEL.fullmatch(name)
    assert len(name) <= 63
    assert "-c0ffe-" in name


def test_the_host_of_an_exchange_is_made_of_dns_labels() -> None:
    host = names.exchange_host(run(namespace="n" * 63), 999)
    assert all(LABEL.fullmatch(part) and len(part) <= 63 for part in host.split("."))


def test_names_of_two_lives_of_an_owner_have_nothing_in_common() -> None:
    for make, manifest, kind in (
        (names.config_map, make_run("x"), TrainingRun),
        (names.publish_job, make_run("x"), TrainingRun),
        (names.new_claim, make_project("x"), Project),
        (lambda owner: names.prepare_job(owner, KEY).name, make_project("x"), Project),
    ):
        first, second = (make(kind.model_validate(made(manifest, uid))) for uid in (UID, f"1{UID[1:]}"))
        assert first != second


def test_a_run_whose_frozen_configuration_has_the_former_name_keeps_all_former_names() -> None:
    resolved = {"configMap": "x-config", "hash": "abc"}
    old = run("x", status={"resolved": resolved})
    assert names.has_former_names(old)
    assert [names.attempt_job(old, 2), names.exchange(old, 2), names.publish_job(old), names.config_map(old)] == [
        "x-2",
        "ex-x-2",
        "x-publish",
        "x-frozen",
    ]


@given(st.integers(1, 10**names.SEQUENCE_DIGITS - 1))
def test_the_number_of_a_run_is_read_back_from_its_name(number: int) -> None:
    assert names.run_sequence("a", "b", names.run_name("a", "b", number)) == number


@pytest.mark.parametrize("tail", ["", "0", "01", "x", "-1", "12345678", "9" * 20, "٣", "1e3", " 1", "1_0"])
def test_what_is_no_number_of_at_most_seven_digits_is_none(tail: str) -> None:
    assert names.run_sequence("a", "b", f"a-b-{tail}") == 0
