"""The module files of kind/programs agree with one another, with our programs and with the pages that name versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = REPOSITORY / "kind" / "programs"
OTHERS = sorted(PROGRAMS.glob("kubernetes-*.mod"))
FILES = [PROGRAMS / "go.mod", *OTHERS]
KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"


@dataclass(frozen=True)
class Module:
    """What a go.mod says."""

    text: str

    @property
    def required(self) -> dict[str, str]:
        """Version by module."""
        return dict(re.findall(r"^(?:require |\t)(\S+) v(\S+)(?: // indirect)?$", self.text, re.MULTILINE))

    @property
    def replaced(self) -> dict[str, tuple[str, str]]:
        """Module and version that stand for a module."""
        found = re.findall(r"^(?:replace |\t)(\S+) => (\S+) v(\S+)$", self.text, re.MULTILINE)
        return {module: (by, version) for module, by, version in found}

    @property
    def minor(self) -> str:
        """The minor version of Kubernetes."""
        return ".".join(self.required[KUBERNETES].split(".")[:2])


def read(file: Path) -> Module:
    return Module(file.read_text(encoding="utf-8"))


def imports(program: str) -> list[str]:
    return re.findall(
        r'^\t(?:\w+ )?"([^"]+)"', (PROGRAMS / program / "main.go").read_text(encoding="utf-8"), re.MULTILINE
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_part_of_kubernetes_has_the_version_of_the_whole(file: Path) -> None:
    module = read(file)
    part = "0." + module.required[KUBERNETES].removeprefix("1.")
    assert module.replaced == {name: (name, part) for name in module.replaced}
    needed = {path for path in imports("kubernetes") if path.startswith("k8s.io/")}
    parts = {"/".join(path.split("/")[:2]) for path in needed} - {KUBERNETES}
    assert parts <= module.replaced.keys()


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.name)
def test_another_version_of_kubernetes_is_pinned_by_a_file_of_its_name(file: Path) -> None:
    assert file.name == f"kubernetes-{read(file).minor}.mod"
    assert file.with_suffix(".sum").exists()


def test_there_are_the_versions_that_the_makefile_and_the_pages_promise() -> None:
    assert [read(file).minor for file in FILES] == ["1.36", "1.34"]


def test_all_versions_of_kubernetes_have_the_same_etcd_and_need_the_same_go() -> None:
    first, *others = [read(file) for file in FILES]
    for other in others:
        assert other.required[ETCD] == first.required[ETCD]
        assert re.findall(r"^go .*$", other.text, re.MULTILINE) == re.findall(r"^go .*$", first.text, re.MULTILINE)


def test_pages_name_the_versions_of_the_module_files() -> None:
    policy = (REPOSITORY / "docs" / "support-policy.md").read_text(encoding="utf-8")
    for file in FILES:
        assert f"| {read(file).minor} |" in policy
    for page in (REPOSITORY / "kind" / "README.md", REPOSITORY / "docs" / "development.md"):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"KUBERNETES=(\d\.\d+)", text)) <= {read(file).minor for file in FILES}
        assert "KUBERNETES=" in text


def test_coredns_has_the_plugins_that_are_asked_for() -> None:
    source = (PROGRAMS / "coredns" / "main.go").read_text(encoding="utf-8")
    directives = re.findall(r'"(\w+)"', source.split("dnsserver.Directives = ")[1].split("}")[0])
    linked = {path.rsplit("/", 1)[1] for path in re.findall(r'_ "([^"]+/plugin/\w+)"', source)}
    assert {"prometheus" if name == "metrics" else name for name in linked} == set(directives)
    engine = (REPOSITORY / "kind" / "lib" / "engine.sh").read_text(encoding="utf-8")
    resolver = engine.split('cat >"$RUN/Corefile" <<END\n')[1].split("\nEND\n")[0]
    kubeadm = {
        "errors",
        "health",
        "ready",
        "kubernetes",
        "prometheus",
        "forward",
        "cache",
        "loop",
        "reload",
        "loadbalance",
    }
    assert set(directives) == kubeadm | set(re.findall(r"^  (\w+)", resolver, re.MULTILINE))
