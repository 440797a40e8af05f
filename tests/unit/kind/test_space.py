"""What our own engine keeps does not grow with each build and each crash.

The engine is simulated: a script that records what it is asked.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
LIBRARIES = ("common", "checks", "engine", "space", "images", "clusters")
NODES = ["b2 mine", "a1 gone"]
VOLUMES = ["0" * 64, "chorus-registry"]
TAGS = [f"localhost:5001/chorus-trainer:{number}" for number in "4321"]
NODE_IMAGES = [f"chorus-node:{number}" for number in "321"]
OTHER_IMAGES = ["somebody/else:1", "somebody/else:2", "somebody/else:3"]
DOCKER = """#!/bin/bash
echo "$*" >>"$0.log"
case "$*" in
  "ps "*) printf '%s\\n' {nodes} ;;
  "volume ls"*) printf '%s\\n' {volumes} ;;
  "image ls"*{tags_of}) printf '%s\\n' {tags} ;;
  "image ls"*chorus-node) printf '%s\\n' {node_images} ;;
  "image ls"*) printf '%s\\n' {repositories} ;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    program = tmp_path / "docker"
    program.write_text(
        DOCKER.format(
            nodes=" ".join(f"'{node}'" for node in NODES),
            volumes=" ".join(VOLUMES),
            tags_of="localhost:5001/chorus-trainer",
            tags=" ".join(TAGS),
            node_images=" ".join(NODE_IMAGES),
            repositories=" ".join(name.rpartition(":")[0] for name in (*TAGS, *NODE_IMAGES, *OTHER_IMAGES)),
        )
    )
    program.chmod(0o755)
    mine = tmp_path / "chorus" / "clusters" / "mine"
    mine.mkdir(parents=True)
    (mine / "kubeconfig").touch()
    return program


def asked(engine: Path, script: str) -> list[str]:
    """Run a script after the functions of kind/cluster, and return what it asked of the engine."""
    libraries = "".join(f'. "$HERE/lib/{name}.sh"\n' for name in LIBRARIES)
    done = subprocess.run(
        ["bash", "-euc", f"set -o pipefail; HERE={REPOSITORY}/kind MODE=own ENGINE={engine}\n{libraries}{script}"],
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(engine.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log = engine.with_name("docker.log")
    return log.read_text().splitlines() if log.exists() else []


def removed(engine: Path, begins: str) -> list[str]:
    return [word for line in asked(engine, "tidy_engine") if line.startswith(begins) for word in line.split()[2:]]


def test_nodes_of_a_cluster_that_a_crash_left_are_removed_and_those_of_one_that_is_there_stay(engine: Path) -> None:
    assert removed(engine, "rm ") == ["a1"]


def test_volumes_that_nothing_uses_are_removed_but_for_those_with_a_name(engine: Path) -> None:
    assert removed(engine, "volume rm") == ["0" * 64]


def test_older_images_of_ours_are_removed_and_those_of_others_stay(engine: Path) -> None:
    assert sorted(removed(engine, "image rm")) == sorted([*TAGS[1:], NODE_IMAGES[2]])


def test_the_build_cache_is_bounded(engine: Path) -> None:
    assert "builder prune -f --keep-storage 12gb" in asked(engine, "tidy_engine")


@pytest.mark.parametrize(("pushed", "left"), [(["3", "2", "1"], {"3", "2"}), (["2", "1"], {"2", "1"})])
def test_the_registry_keeps_the_two_newest_of_each_image(engine: Path, pushed: list[str], left: set[str]) -> None:
    data = engine.parent / "chorus" / "engine-data" / "volumes" / "chorus-registry" / "_data"
    tags = data / "docker" / "registry" / "v2" / "repositories" / "chorus-trainer" / "_manifests" / "tags"
    for age, name in enumerate(pushed):
        (tags / name / "current").mkdir(parents=True)
        subprocess.run(["touch", "-d", f"{age} days ago", tags / name], check=True, timeout=10)
    calls = asked(engine, "trim_registry registry:1")
    assert {tag.name for tag in tags.iterdir()} == left
    assert any("garbage-collect --delete-untagged" in call for call in calls) is (len(pushed) > 2)
