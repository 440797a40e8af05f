"""The kit against a real service on loopback: the good one keeps every rule, and each spoilt one breaks its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_cli.__main__ import main
from chorus_conformance.check import check
from chorus_conformance.observed import Scenario
from chorus_conformance.report import as_text
from chorus_conformance.rule import Failed, Passed, Result
from chorus_conformance.service_check import ServicePlan
from chorus_conformance.service_rulebook import SERVICE_RULES
from chorus_conformance.timeouts import Timeouts
from chorus_conformance.webhooks import read_key
from chorus_protocol.webhook_signature import public_key
from plugin_builders import Spoilt
from service_plugin_builders import SPOILT_SERVICES, service

KEY = Ed25519PrivateKey.generate()
TIMEOUTS = Timeouts(describe=3, training=10, away=0.3, impostor=0.5)


def broken(results: list[Result]) -> dict[str, str]:
    return {each.rule.id: each.verdict.seen for each in results if isinstance(each.verdict, Failed)}


async def test_a_good_service_keeps_every_rule(tmp_path: Path) -> None:
    with service(tmp_path / "good", public_key(KEY)) as url:
        results = await check(ServicePlan(url, KEY, timeouts=TIMEOUTS))
    assert not broken(results), as_text(results, target="good service")
    assert {each.rule.id for each in results if not isinstance(each.verdict, Passed)} == {"C406"}


@pytest.mark.parametrize("case", SPOILT_SERVICES, ids=str)
async def test_a_spoilt_service_breaks_its_own_rule_alone(case: Spoilt, tmp_path: Path) -> None:
    with service(tmp_path / "spoilt", public_key(KEY), case=case) as url:
        plan = ServicePlan(url, KEY, timeouts=TIMEOUTS, scenarios=(Scenario.DESCRIBE, *case.ran))
        results = await check(plan)
    assert broken(results).keys() == {case.rule}, as_text(results, target=case.what)
    assert case.seen in broken(results)[case.rule]


async def test_a_service_that_is_not_there_breaks_the_first_rule_and_no_other() -> None:
    results = await check(ServicePlan("http://127.0.0.1:9/", KEY, timeouts=TIMEOUTS))
    assert broken(results).keys() == {"S101"}
    assert "Connect" in broken(results)["S101"]


def test_the_key_of_a_file_stays_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key.pem"
    words = ("plugin", "check", "http://127.0.0.1:9/", f"--signing-key={file}", "--rule=S101")
    assert [main(words) for _ in range(2)] == [1, 1]
    told = [line for line in capsys.readouterr().err.splitlines() if "whpk_" in line]
    assert told == [f"the service must know the public key {public_key(read_key(file))}"] * 2
    assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "key.pem.pub").read_text() == public_key(read_key(file)) + "\n"


@pytest.mark.parametrize("content", ["no key", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_refused_by_name(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key.pem"
    file.write_text(content)
    assert main(["plugin", "check", "http://127.0.0.1:9/", f"--signing-key={file}"]) == 2
    assert f"--signing-key {file} cannot be read" in capsys.readouterr().err


def test_options_of_containers_are_refused_for_services(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", "http://127.0.0.1:9/", "--messages=file"]) == 2
    assert "are for containers" in capsys.readouterr().err


def test_a_rule_of_services_comes_behind_those_that_it_depends_on() -> None:
    ids = [rule.id for rule in SERVICE_RULES]
    assert len(set(ids)) == len(ids)
    for rule in SERVICE_RULES:
        assert all(name in ids[: ids.index(rule.id)] for name in rule.after if name in ids), rule.id
