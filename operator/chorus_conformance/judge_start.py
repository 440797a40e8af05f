"""Rules about the surroundings: starting, paths, the file system, the token, and knowing the receiver."""

from __future__ import annotations

import re

from chorus_api import contract
from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict, missing, told_by

_FIXED_PATH = re.compile(rf"(?<![\w./-])(?:{contract.ROOT}|{contract.IDENTITY_DIR})/[\w./-]+")
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def starts(evidence: Evidence) -> Verdict:
    """The command is found and can be executed."""
    if not evidence.seen:
        return Skipped("nothing was run")
    for scenario, seen in evidence.seen.items():
        if seen.not_started:
            return Failed(f"{scenario}: {seen.not_started}")
        if seen.exit_code in {NOT_EXECUTABLE, NOT_FOUND}:
            return Failed(f"{scenario}: {seen.ending()}")
    return PASSED


def paths_from_the_environment(evidence: Evidence) -> Verdict:
    """A process is given other paths than a container: who ends badly over /chorus/... did not look."""
    if evidence.is_container:
        return Skipped("a container has the paths of a pod; check the directory to see this")
    if evidence.contract_paths_appeared:
        return Failed(f"it made {', '.join(evidence.contract_paths_appeared)} on this machine")
    for scenario, seen in evidence.seen.items():
        if seen.done:
            continue
        if found := _FIXED_PATH.search(seen.output):
            return Failed(f"{scenario}: it looked for {found.group()}, and {seen.ending()}")
    return PASSED


def works_confined(evidence: Evidence) -> Verdict:
    """A training that ends well only without a pod's limits cannot live in one."""
    if not evidence.is_container:
        return Skipped("a process has no limits of its own; check the image to see this")
    confined, free = evidence.seen.get(Scenario.TRAIN), evidence.seen.get(Scenario.UNCONFINED)
    if confined is None:
        return Skipped(missing(evidence.missing, Scenario.TRAIN))
    if confined.done or free is None:
        return PASSED
    if not free.done:
        return Skipped("it does not end well without the limits either")
    return Failed(f"without these limits it ends well, with them {confined.ending()}")


def stays_in_its_place(evidence: Evidence) -> Verdict:
    """Nothing but the run directory, the messages and the temporary directory changes."""
    if evidence.is_container:
        return Skipped("its root file system was read-only")
    for scenario, seen in evidence.seen.items():
        if seen.strayed:
            return Failed(f"{scenario}: it made, changed or removed {', '.join(seen.strayed[:10])}")
    return PASSED


def keeps_the_token(evidence: Evidence) -> Verdict:
    """The token is in no log, message or file."""
    for scenario, seen in evidence.seen.items():
        if seen.leaks:
            return Failed(f"{scenario}: the token stands in {', '.join(seen.leaks[:10])}")
    return PASSED


@told_by(Scenario.IMPOSTOR)
def knows_the_receiver(evidence: Evidence, seen: Observation) -> Verdict:
    """Nothing is said to a receiver that another authority has signed."""
    if seen.received:
        return Failed(f"it sent {seen.received[0]} to a receiver that the CA it was given has not signed")
    return PASSED
