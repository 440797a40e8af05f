"""Links, make targets, scripts, paths and kubectl's kinds that the documentation names are there."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from docs_text import (
    HANDBOOK,
    PAGES,
    REPOSITORY,
    Fence,
    anchors,
    codes,
    fences,
    links,
    make_targets,
    name_of,
    prose,
    repository_files,
)

PAGE_NAMES = [name_of(page) for page in PAGES]
TOP = (
    "scripts/", "kind/", "deploy/", "charts/", "crds/", "hack/", "docs/", "examples/", "tests/", "benchmarks/",
    "requirements/", ".ci/",
)  # fmt: skip
SOURCES = ("operator/", "trainer_image/")
KIND_VERBS = {"get", "describe", "delete", "annotate", "patch", "label", "wait", "explain", "edit"}
WORKLOAD_VERBS = {"logs", "rollout"}
OTHER_VERBS = {"apply", "create"}
BUILT_IN = {
    "configmap", "cm", "crd", "deployment", "deploy", "event", "events", "job", "jobs", "leases", "lease", "namespace",
    "ns", "node", "nodes", "pod", "pods", "pvc", "secret", "service", "svc",
}  # fmt: skip


@functools.cache
def our_kinds() -> frozenset[str]:
    names = [yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["names"] for file in crd_files()]
    return frozenset(word for name in names for word in (name["plural"], name["singular"], *name["shortNames"]))


def crd_files() -> list[Path]:
    return [file for file in (REPOSITORY / "crds").glob("*.yaml") if file.name != "kustomization.yaml"]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}: there is no {path}"
        assert target == REPOSITORY or REPOSITORY in target.parents, f"{name_of(page)}: {link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}: {name_of(target)} has no such heading"


@pytest.mark.parametrize("page", HANDBOOK, ids=[name_of(page) for page in HANDBOOK])
def test_every_page_of_the_handbook_can_be_reached_from_the_readme(page: Path) -> None:
    readme = REPOSITORY / "README.md"
    reached = {(readme.parent / link.partition("#")[0]).resolve() for link in links(readme)}
    assert page in reached | {readme, REPOSITORY / "CHANGELOG.md"}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    commands = [line for fence in fences("sh") if fence.page == page for line in fence.text.splitlines()]
    named = {
        found[1]
        for text in [*codes(prose(page)), *commands]
        if (found := re.match(r"make ([a-z][a-z-]*)\b(?!=)", text))
    }
    assert named <= make_targets(), f"{name_of(page)} names make targets that do not exist"


@pytest.mark.parametrize("page", HANDBOOK, ids=[name_of(page) for page in HANDBOOK])
def test_every_path_of_the_repository_that_is_named_exists(page: Path) -> None:
    there = repository_files()
    words = [word for fence in fences("sh") if fence.page == page for word in re.findall(r"[\w./-]+", fence.text)]
    for code in [*codes(prose(page)), *words]:
        word = code.split()[0].rstrip("/")
        if code.startswith((*TOP, *SOURCES)) and re.fullmatch(r"[\w./-]+", word):
            assert word in there, f"{name_of(page)} names {code}: there is no such file"


@pytest.mark.parametrize("fence", fences("sh"), ids=str)
def test_kubectl_is_asked_for_real_kinds_only(fence: Fence) -> None:
    for line in fence.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["kubectl"]:
            check_kubectl(words[1:], str(fence))


def check_kubectl(words: list[str], where: str) -> None:
    words = without_flags(words)
    assert words, f"{where}: kubectl without a verb"
    verb, rest = words[0], words[1:]
    if verb == "config":
        return
    assert verb in KIND_VERBS | WORKLOAD_VERBS | OTHER_VERBS, f"{where}: no test knows kubectl {verb}"
    if verb in OTHER_VERBS and rest[:1] not in (["configmap"], ["namespace"]):
        assert not rest, f"{where}: kubectl {verb} {rest}"
        return
    if verb in WORKLOAD_VERBS:
        rest = [word for word in rest if "/" in word]
    for kind in rest[0].split(",") if rest else []:
        bare = re.split(r"[/.]", kind)[0]
        assert bare in our_kinds() | BUILT_IN, f"{where}: kubectl {verb} {kind}: there is no kind {bare}"


def without_flags(words: list[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in {"-n", "-l", "-o", "-f", "-k", "-p", "--type", "--field-selector", "-c"}:
            skip = True
        elif not word.startswith("-"):
            kept.append(word)
    return kept


def test_the_reader_of_kubectl_lines_finds_a_kind_that_is_not_there() -> None:
    with pytest.raises(AssertionError, match="no kind cprojs"):
        check_kubectl(["-n", "lab", "get", "cproj,cprojs", "-o", "wide"], "here")


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_no_page_names_a_path_of_somebodys_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~}])/(?:work|root|home)/\w", text), name_of(page)
