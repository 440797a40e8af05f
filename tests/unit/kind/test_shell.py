"""The parts of kind/cluster that decide: which Kubernetes, whose cluster, and whether something is built anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def sh(script: str, cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script after the functions of kind/cluster, with a cache of its own."""
    libraries = "".join(
        f'. "$HERE/lib/{name}.sh"\n'
        for name in ("common", "checks", "programs", "engine", "space", "nodeimage", "images", "clusters")
    )
    return subprocess.run(
        ["bash", "-euc", f"HERE={REPOSITORY}/kind MODE=own\n{libraries}{script}"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(cache), "XDG_CACHE_HOME": str(cache), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("asked", "file", "minor"),
    [(None, "go.mod", "1.36"), ("1.36", "go.mod", "1.36"), ("1.34", "kubernetes-1.34.mod", "1.34")],
)
def test_a_version_of_kubernetes_is_chosen(asked: str | None, file: str, minor: str, tmp_path: Path) -> None:
    given = {} if asked is None else {"KUBERNETES": asked}
    done = sh('find_kubernetes; echo "${MODFILE##*/} $KUBERNETES"', tmp_path, **given)
    assert done.stdout.split() == [file, minor], done.stderr


@pytest.mark.parametrize("asked", ["1.33", "1", "1.36.3", "v1.36", "latest"])
def test_an_unknown_version_is_refused_with_those_that_there_are(asked: str, tmp_path: Path) -> None:
    done = sh("find_kubernetes; echo taken", tmp_path, KUBERNETES=asked)
    assert done.returncode != 0
    assert done.stdout == ""
    assert f"no Kubernetes {asked}" in done.stderr
    assert "1.36 1.34" in done.stderr


@pytest.mark.parametrize(("asked", "taken"), [("1.34", True), ("1.36", False), (None, False)])
def test_a_cluster_of_another_version_is_not_taken(asked: str | None, taken: bool, tmp_path: Path) -> None:
    cluster = tmp_path / "chorus" / "clusters" / "mine"
    cluster.mkdir(parents=True)
    (cluster / "kubernetes").write_text("1.34\n")
    done = sh(
        "NAME=mine; find_kubernetes; check_made; echo taken",
        tmp_path,
        **({} if asked is None else {"KUBERNETES": asked}),
    )
    assert (done.stdout == "taken\n") is taken
    assert taken or "cluster mine has Kubernetes 1.34, not 1.36" in done.stderr


@pytest.mark.parametrize(("asked", "taken"), [("1.34", True), ("1.36", False), (None, True)])
def test_a_given_cluster_must_have_the_version_that_is_asked_for(
    asked: str | None, taken: bool, tmp_path: Path
) -> None:
    served = (
        """served() { [ "$*" = "get --raw /version" ]; printf '{\\n  "major": "1",\\n  "minor": "34+",\\n}\\n'; }"""
    )
    given = {} if asked is None else {"KUBERNETES": asked}
    done = sh(f"{served}\nfind_kubernetes; check_served served; echo taken", tmp_path, **given)
    assert (done.stdout == "taken\n") is taken
    assert taken or "the cluster has Kubernetes 1.34, not 1.36" in done.stderr


def test_a_comment_is_no_reason_to_build_anew(tmp_path: Path) -> None:
    script = tmp_path / "part.sh"
    keys = []
    for text in ("echo 1\n", "# why\necho 1\n", "  # why\n#\necho 1\n", "echo 2\n", "echo '\n#!/bin/sh'\n"):
        script.write_text(text)
        keys.append(sh(f'digest "{script}"', tmp_path).stdout)
    assert keys[0] == keys[1] == keys[2]
    assert len({keys[0], keys[3], keys[4], ""}) == 4


def test_what_a_program_is_made_from_is_in_its_key(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    (programs / "kubernetes").mkdir(parents=True)
    sources = ["go.mod", "go.sum", "kubernetes/main.go", "kubernetes-1.34.mod", "kubernetes-1.34.sum"]
    for name in sources:
        (programs / name).write_text((REPOSITORY / "kind" / "programs" / name).read_text())
    made = f'need_go() {{ :; }}; artefact() {{ shift 2; digest "$@"; }}; PROGRAMS={programs}; '

    def key(kubernetes: str = "1.36", change: str = "") -> str:
        return sh(f"{made}{change}; kubernetes_programs", tmp_path, KUBERNETES=kubernetes).stdout

    before, other = key(change=":"), key("1.34", change=":")
    assert len({before, other, ""}) == 3
    assert key(change="GO_LINK=-w") != before
    assert key(change="build_kubernetes() { :; }") != before
    for name in sources:
        file = programs / name
        text = file.read_text()
        file.write_text(f"{text}\n// changed\n")
        assert (key(change=":") == before) is ("1.34" in name)
        assert (key("1.34", change=":") == other) is (name in ("go.mod", "go.sum"))
        file.write_text(text)
