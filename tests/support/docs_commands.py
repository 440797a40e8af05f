"""The commands that the documentation tells readers to give, and how each is tested."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from docs_text import REPOSITORY, codes, fences, name_of, rows

TROUBLESHOOTING = REPOSITORY / "docs" / "troubleshooting.md"


@dataclass(frozen=True)
class Command:
    """A line of a page."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@functools.cache
def commands() -> tuple[Command, ...]:
    """Every line of every shell block, and the commands in the table of evidence, without comments."""
    found = []
    for fence in fences("sh"):
        for line in fence.text.replace("\\\n", " ").splitlines():
            if text := re.sub(r"(^|\s+)#.*$", "", line).strip():
                found.append(Command(str(fence), text))
    return found + [
        Command(name_of(TROUBLESHOOTING), codes(row[1])[0])
        for row in rows(TROUBLESHOOTING, heading="to see", columns=3)
    ]


NEEDS_MORE: Mapping[str, tuple[str, str]] = {
    r"make (demo|demo KEEP=1|test|test-unit|help)": ("Makefile", "test"),
    r"make up|kind/cluster (up|down|env|images|check).*|eval .*kind/cluster.*": ("tests/run.py", "kind/cluster"),
    r"make load": ("benchmarks/load_latency.py", '"scripts" / "load"'),
    r"kubectl get nodes": ("tests/support/harness/cluster.py", "nodes"),
    r"kubectl -n chorus-system rollout status deployment/chorus-operator": ("scripts/install", "rollout status"),
    r"kubectl -n chorus-system logs deployment/chorus-operator.*": (
        "tests/support/harness/cluster.py",
        '"logs", "deployment/chorus-operator"',
    ),
    r"chorus plugin check examples/.*": ("tests/component/docs/test_write_a_plugin.py", "assert_kit_passes"),
    r"docker (build|push) .*": ("kind/README.md", "images"),
    r"pip install .*cli.*|chorus plugin check .*": ("tests/api/test_plugin_check_command.py", '"plugin", "check"'),
    r"helm .*": ("tests/chart/render", "helm"),
    r"kubectl .*(argocd|flux).*": ("tests/chart/render", "gitops"),
    r"kubectl (apply|delete) .*-k my-chorus/": ("tests/api/test_install_manifests.py", "overlay"),
}
"""Commands that need nodes, an engine or images: which test or script does the same, and words of it."""

DRY = r"kubectl (apply|delete) .*-k (deploy|crds)/|kubectl (create|label) namespace .*|kubectl delete (crd|pvc) .*"
"""Commands about the whole install: the API server checks them and does nothing."""


def needs_more(command: Command) -> tuple[str, str] | None:
    """Name what tests a command that takes more than an API server; None for the others, which a test runs."""
    return next((place for form, place in NEEDS_MORE.items() if re.fullmatch(form, command.text)), None)


def runnable(command: Command, *, project: str, run: str, plugin: str, frame: str) -> str:
    """Put names for NAME, and `--dry-run` where the command is about the whole install."""
    text = command.text
    for before, name in (
        (r"(cproj |chorus\.dev/project=)NAME\b", project),
        (r"(crun |chorus\.dev/run=)NAME\b", run),
        (r"(cplug |chorus\.dev/describes=)NAME\b", plugin),
        (r"(configmap )NAME\b", frame),
    ):
        text = re.sub(before, rf"\g<1>{name}", text)
    assert "NAME" not in text, f"{command}: what is NAME?"
    if text.startswith("kubectl create namespace"):
        return f"{text} --dry-run=client"  # it is there already
    return f"{text} --dry-run=server" if re.fullmatch(DRY, text) else text
