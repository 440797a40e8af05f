"""Rules about a training that should go well: what it says, and the artefact that it leaves."""

from __future__ import annotations

from itertools import pairwise

from pydantic import ValidationError

from chorus_api.contract import MAX_TERMINATION_BYTES
from chorus_api.reasons import Reason
from chorus_api.run_config import TerminationRecord
from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict, told_by, unless_refused
from chorus_dataset.jobs.artefact import SUMS_FILE
from chorus_protocol.messages import DataReport, MessageType, ModelName

_NO_ARTEFACT = "the plugin leaves no artefact (--artefact none)"


@told_by(Scenario.TRAIN)
def ends_well(evidence: Evidence, seen: Observation) -> Verdict:
    """Exit code 0 in time."""
    if seen.done:
        return PASSED
    reported = f"ERROR_REPORT said: {seen.error.detail[:300]}; " if seen.error is not None else ""
    return unless_refused(seen, f"{reported}{seen.ending()}")


@told_by(Scenario.TRAIN)
def says_that_it_suits(evidence: Evidence, seen: Observation) -> Verdict:
    """DATA_REPORT with applicable true, and TRAINING_START."""
    reports = [entry.payload for entry in seen.of(MessageType.DATA_REPORT)]
    if not reports:
        return unless_refused(seen, "no DATA_REPORT came")
    if isinstance(reports[0], DataReport) and not reports[0].applicable:
        return Failed(f"DATA_REPORT says that the frame does not suit: {reports[0].reason or 'no reason'}")
    if not seen.of(MessageType.TRAINING_START):
        return unless_refused(seen, "no TRAINING_START came")
    return PASSED


@told_by(Scenario.TRAIN)
def tells_its_progress(evidence: Evidence, seen: Observation) -> Verdict:
    """At least one progress message, and percent never falls."""
    percents = seen.percents
    if not percents:
        return unless_refused(seen, "no progress came")
    for earlier, later in pairwise(percents):
        if later < earlier:
            return Failed(f"percent fell from {earlier} to {later}")
    return PASSED


@told_by(Scenario.TRAIN)
def names_the_model(evidence: Evidence, seen: Observation) -> Verdict:
    """One MODEL_NAME and no ERROR_REPORT goes with exit code 0."""
    if seen.error is not None:
        return Failed(f"ERROR_REPORT came ({seen.error.detail[:300]}), but it ended with exit code 0")
    if not seen.of(MessageType.MODEL_NAME):
        return unless_refused(seen, "it ended with exit code 0, but no MODEL_NAME came")
    return PASSED


@told_by(Scenario.TRAIN)
def leaves_an_artefact(evidence: Evidence, seen: Observation) -> Verdict:
    """At least one file, plain files alone, of kinds that hold no code: what publishing takes."""
    if not evidence.has_artefact:
        return Skipped(_NO_ARTEFACT)
    if not [file for file in seen.files if file.name != SUMS_FILE]:
        return Failed("there is no file of a model")
    fault = seen.publication.fault
    if fault is not None and fault.reason != Reason.DIGEST_MISMATCH:
        return Failed(fault.detail)
    return PASSED


@told_by(Scenario.TRAIN)
def sums_are_right(evidence: Evidence, seen: Observation) -> Verdict:
    """SHA256SUMS and MODEL_NAME's digest are what the files say."""
    if not evidence.has_artefact:
        return Skipped(_NO_ARTEFACT)
    if seen.publication.fault is not None:
        return Failed(seen.publication.fault.message)
    models = [entry.payload for entry in seen.of(MessageType.MODEL_NAME)]
    digest = next((model.digest for model in models if isinstance(model, ModelName)), None)
    if digest is None and not seen.has_sums:
        return Skipped(f"the plugin writes no {SUMS_FILE}: it is made when the model is published")
    if digest not in {None, seen.publication.digest}:
        return Failed(f"MODEL_NAME says {digest}, but the digest of {SUMS_FILE} is {seen.publication.digest}")
    return PASSED


@told_by(Scenario.TRAIN)
def last_word_is_readable(evidence: Evidence, seen: Observation) -> Verdict:
    """The termination message, if there is one, is a TerminationRecord of at most 2 KiB that agrees with the exit."""
    if not seen.termination:
        return Skipped("the plugin writes no termination message")
    if len(seen.termination) > MAX_TERMINATION_BYTES:
        return Failed(f"it has {len(seen.termination)} bytes")
    try:
        record = TerminationRecord.model_validate_json(seen.termination)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Failed(f"{'.'.join(map(str, first['loc'])) or 'the JSON'}: {first['msg']}")
    if record.outcome != "succeeded":
        return Failed(f"its outcome is {record.outcome}, but it ended with exit code 0")
    return PASSED
