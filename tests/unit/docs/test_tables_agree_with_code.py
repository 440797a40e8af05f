"""Tables of the documentation that repeat what code says: nothing is missing, nothing is left over."""

from __future__ import annotations

import re
import tomllib
from types import ModuleType

import pytest
import yaml

from chorus_api.crd import KINDS
from chorus_api.phases import FINAL
from chorus_api.plugin import Deadlines, Retry
from chorus_api.reasons import ExitCode, FailureClass, Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.settings import Settings, variable_of
from chorus_protocol.messages import PAYLOADS, MessageType, TrainingData
from chorus_protocol.refusals import Cause, Refused
from chorus_protocol.sender_limits import Cost
from docs_text import REPOSITORY, codes, fences, make_targets, rows

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"


def first_codes(table: list[list[str]]) -> list[str]:
    return [code for row in table for code in codes(row[0])]


def test_every_reason_is_explained_once() -> None:
    table = rows(DOCS / "troubleshooting.md", heading="reason", columns=3)
    named = first_codes(table)
    assert sorted(named) == sorted(reason.value for reason in Reason)
    for row in table:
        assert all(row), f"{row[0]} says too little"


def test_reasons_that_other_pages_name_exist() -> None:
    told = first_codes(rows(DOCS / "runs.md", heading="wait", columns=3))
    named = [code for row in rows(DOCS / "runs.md", heading="wait", columns=3) for code in codes(row[2])]
    assert set(named) <= {reason.value for reason in Reason}
    assert {name for name in told if name.endswith("Seconds")} == {
        field.alias for field in Deadlines.model_fields.values()
    }


def test_default_deadlines_and_retries_are_those_of_the_models() -> None:
    table = {codes(row[0])[0]: row[1] for row in rows(DOCS / "runs.md", heading="wait", columns=3) if codes(row[0])}
    for field in Deadlines.model_fields.values():
        assert field.alias is not None
        assert table[field.alias] == ("none" if field.default is None else str(field.default))
    retries = {codes(row[0])[0]: row[2] for row in rows(DOCS / "runs.md", heading="class", columns=3)}
    assert retries.keys() == {each.value for each in FailureClass}
    for name, field in Retry.model_fields.items():
        assert retries[name] == (f"{field.default} times" if field.default else "never")


def test_every_condition_of_a_run_is_explained() -> None:
    described = TrainingRunStatus.model_fields["conditions"].description or ""
    assert sorted(first_codes(rows(DOCS / "runs.md", heading="condition", columns=2))) == sorted(
        described.rstrip(".").split(", ")
    )


@pytest.mark.parametrize(("page", "heading"), [("docs/runs.md", "phase"), ("README.md", "a TrainingRun is")])
def test_every_phase_of_a_run_is_explained(page: str, heading: str) -> None:
    named = first_codes(rows(REPOSITORY / page, heading=heading, columns=2))
    assert set(named) == FINAL | {"queued", "suspended", "PREPROCESSING", "TRAINING"}


@pytest.mark.parametrize(("page", "heading"), [("docs/projects.md", "phase"), ("README.md", "a Project is")])
def test_every_phase_of_a_project_is_explained(page: str, heading: str) -> None:
    named = first_codes(rows(REPOSITORY / page, heading=heading, columns=2))
    assert set(named) == {"suspended", "failed", "PREPROCESSING", "queued", "TRAINING", "TRAINED"}


def test_the_limits_of_messages_are_those_of_the_receiver() -> None:
    told = [
        [tuple(float(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", cell)) for cell in row[1:]]
        for row in rows(DOCS / "messages.md", heading="what", columns=3)
    ]
    assert told == [[tuple(limit) for limit in cost.value] for cost in Cost]


def test_every_exit_code_is_explained() -> None:
    numbers = {row[0] for row in rows(DOCS / "lora.md", heading="code", columns=3)}
    known = {str(value) for name, value in vars(ExitCode).items() if name.isupper()}
    assert numbers == known | {"any other"}


def test_every_cause_of_a_refusal_is_explained_with_its_status() -> None:
    told = {codes(row[0])[0]: row[1] for row in rows(DOCS / "messages.md", heading="cause", columns=3)}
    assert told == {cause.value: str(Refused(cause, "").status) for cause in Cause}


def test_every_message_is_listed_with_its_fields() -> None:
    table = {codes(row[0])[0]: set(codes(row[2])) for row in rows(DOCS / "messages.md", heading="message", columns=4)}
    models = PAYLOADS | {MessageType.TRAINING_DATA: TrainingData}
    assert table == {kind.value: set(model.model_fields) for kind, model in models.items()}


def test_every_variable_of_the_operator_is_listed() -> None:
    table = {codes(row[0])[0]: row[2] for row in rows(DOCS / "install.md", heading="variable", columns=3)}
    assert table.keys() == {variable_of(name) for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, str | int):
            assert table[variable_of(name)] == f"`{field.default}`"


def test_every_right_of_the_operator_is_listed() -> None:
    table = rows(DOCS / "security.md", heading="objects", columns=3)
    listed = {resource: row[1] for row in table for resource in codes(row[0])}
    granted: dict[str, set[str]] = {}
    for role in yaml.safe_load_all((REPOSITORY / "deploy" / "rbac.yaml").read_text(encoding="utf-8")):
        for rule in role.get("rules", ()):
            for resource in rule["resources"]:
                granted.setdefault(resource, set()).update(rule["verbs"])
    assert listed.keys() == granted.keys()
    verbs = "get list watch create update patch delete".split()
    for resource, allowed in granted.items():
        rows_of = [row[1] for row in table if resource in codes(row[0])]
        assert {word for text in rows_of for word in re.findall(r"[a-z]+", text) if word in verbs} == allowed, resource


def test_the_output_of_kubectl_in_the_readme_has_the_columns_of_the_kinds() -> None:
    [shown] = [fence.text for fence in fences("text") if fence.text.startswith("$ kubectl get cproj,cplug,crun")]
    heads = [line.split() for line in shown.splitlines() if line.startswith("NAME ")]
    assert heads == [["NAME", *(column.name.upper() for column in kind.columns if not column.wide)] for kind in KINDS]


def test_every_direct_dependency_has_a_reason() -> None:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    wanted = {
        re.split(r"[\[><=~! ]", requirement)[0]
        for group in (
            project["dependencies"],
            *project["optional-dependencies"].values(),
            document["build-system"]["requires"],
        )
        for requirement in group
    } - {project["name"]}
    table = rows(README, heading="package", columns=3)
    assert sorted(name for row in table for name in row[0].split(", ")) == sorted(wanted)
    assert all(row[2] for row in table)


def test_every_go_module_that_is_built_has_a_reason() -> None:
    table = first_codes(rows(README, heading="module", columns=2))
    programs = REPOSITORY / "kind" / "programs"
    text = (programs / "go.mod").read_text(encoding="utf-8")
    [block] = re.findall(r"^tool \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL)
    packages = {line.strip() for line in block.splitlines()}
    for file in programs.glob("*/main.go"):
        packages |= set(re.findall(r'^\t(?:\w+ )?"([^"]+\.[^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE))
    libraries = ("github.com/spf13/cobra", "github.com/spf13/pflag", "k8s.io/component-base")
    used: set[str] = set()
    for package in packages:
        if not package.startswith(libraries):
            [module] = [name for name in table if package == name or package.startswith(f"{name}/")]
            used.add(module)
    assert used == set(table)


def test_every_tier_of_tests_is_listed() -> None:
    listed = {
        code.removeprefix("make ") for code in first_codes(rows(DOCS / "development.md", heading="command", columns=3))
    }
    assert listed == {name for name in make_targets() if name.startswith("test") or name == "lint"}


def test_the_reference_is_what_the_definitions_say(reference: ModuleType) -> None:
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == reference.reference(), "run hack/reference.py"


def test_the_table_of_defaults_is_what_the_code_says(reference: ModuleType) -> None:
    page = (DOCS / "lora.md").read_text(encoding="utf-8")
    assert page == reference.with_defaults(page), "run hack/reference.py"


def test_the_table_of_failures_is_the_operators_own(outcomes: ModuleType) -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert page == outcomes.with_table(page), "run make generate"


def test_a_page_without_the_marks_of_the_table_of_failures_is_refused(outcomes: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"docs/troubleshooting\.md: the marks"):
        outcomes.with_table("# Troubleshooting\n")


def test_a_page_without_the_marks_of_the_table_is_refused(reference: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"docs/lora\.md: the marks"):
        reference.with_defaults("# LoRA\n")
