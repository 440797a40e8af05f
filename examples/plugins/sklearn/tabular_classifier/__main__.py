"""The plugin's process: `train` learns from a frame, `describe` says what the plugin is and needs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import FrameType
from typing import Any

from tabular_classifier import checkpoint, faults, frame, parameters
from tabular_classifier.messages import Mail, Sender
from tabular_classifier.surroundings import Channel, Run

LOG = logging.getLogger("tabular_classifier")
LAST_WORDS_SECONDS = 60.0
FITTED_PERCENT = 90
"""How far the search is the training; the rest is the last fit, the figures and the artefact."""


class Stop:
    """Whether the pod was asked to stop. The work asks at points where it can be left and taken up again."""

    def __init__(self) -> None:
        self.asked = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Remember SIGTERM."""
        self.asked = True


def describe(sender: Sender, *, plugin_id: str) -> None:
    """Answer ONLINE_INQUIRY."""
    sender.send(
        "ONLINE_REPORT",
        {
            "id": plugin_id,
            "name": "Tabular classifier",
            "type": "CLASSIFICATION",
            "description": "Tells the outcome of a row from its numbers and categories, with scikit-learn.",
            "parameters": parameters.defaults(),
            "needed_columns": [],
            "needed_info": ["outcome"],
            "parameters_schema": parameters.SCHEMA,
            "min_rows": frame.MIN_ROWS,
        },
    )


class Training:
    """One run, from the first look at its frame to its model."""

    def __init__(self, run: Run, sender: Sender, stop: Stop) -> None:
        self._run = run
        self._sender = sender
        self._stop = stop

    def __call__(self) -> None:
        """Train. Raises Fault when that cannot be done."""
        chosen = parameters.checked(self._run.parameters)
        data = frame.read(self._run.data_dir, outcome=self._run.info.get("outcome"))
        self._say("DATA_REPORT", applicable=True)
        self._learn(data, chosen)

    def _learn(self, data: frame.Frame, chosen: parameters.Parameters) -> None:
        # scikit-learn takes seconds to load: who asks what the plugin is, or gives it nothing to do, need not wait.
        from tabular_classifier import artefact, judge, search

        self._say("TRAINING_START")
        self._run.run_dir.mkdir(parents=True, exist_ok=True)
        about = {"frame": self._run.frame_name, "parameters": asdict(chosen)}
        kept = checkpoint.Checkpoint(self._run.run_dir / checkpoint.NAME, about=about)
        LOG.info("%d fits were done before", len(kept.scores))
        try:
            found = search.search(
                data.features,
                data.train,
                parameters=chosen,
                scores=kept.scores,
                after_each=self._after_each(kept.scores),
            )
        finally:
            kept.save()
        model = search.fitted(data.features, data.train.features, data.train.outcomes, found.strength, chosen)
        figures = judge.metrics(model, train=data.train, evaluation=data.evaluation)
        digest = artefact.write(
            self._run.out_dir,
            model=model,
            frame=data,
            frame_name=self._run.frame_name,
            parameters=chosen,
            found=found,
            metrics=figures,
        )
        name = f"{data.outcome}-{chosen.model}"[:253]
        self._say("MODEL_NAME", model_name=name, digest=digest, metrics=figures | {"cv_accuracy": found.accuracy})

    def report(self, fault: faults.Fault) -> None:
        """Tell Chorus why the run ends."""
        if isinstance(fault, faults.NotApplicable):
            self._say("DATA_REPORT", applicable=False, reason=str(fault)[:253])
        elif not isinstance(fault, faults.Stopped):
            self._say("ERROR_REPORT", detail=str(fault)[:4096], reason=fault.reason)

    def _after_each(self, scores: Mapping[str, float]) -> Callable[[int, int], None]:
        def done(count: int, total: int) -> None:
            figures = {"fold_accuracy": list(scores.values())[-1]}
            percent = FITTED_PERCENT * count // total
            self._sender.progress(
                self._ids() | {"percent": percent, "step": count, "total_steps": total, "metrics": figures}
            )
            if self._stop.asked:
                raise faults.Stopped(f"stopped after {count} of {total} fits, which are kept")

        return done

    def _say(self, kind: str, **data: Any) -> None:
        self._sender.send(kind, self._ids() | data)

    def _ids(self) -> dict[str, Any]:
        return {"project_id": self._run.project_id, "plugin_id": self._run.plugin_id}


def train(sender: Sender, environment: Mapping[str, str], stop: Stop) -> int:
    """Train, and turn what goes wrong into a message and an exit code. A fault of the program itself is raised."""
    training = Training(Run.of(environment), sender, stop)
    try:
        training()
    except faults.Fault as fault:
        LOG.error("%s: %s", fault.reason, fault)
        training.report(fault)
        return fault.code
    except Exception as error:
        training.report(faults.Fault(f"{type(error).__name__}: {error}"))
        raise
    return faults.DONE


def main(environment: Mapping[str, str]) -> int:
    """Do what CHORUS_ROLE asks for; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.on_signal)
    sender: Sender | None = None
    try:
        channel = Channel.of(environment)
        sender = Sender(Mail(channel), subject_uid=channel.subject_uid, attempt=channel.attempt)
        if environment.get("CHORUS_ROLE") == "describe":
            describe(sender, plugin_id="tabular-classifier")
            code = faults.DONE
        else:
            code = train(sender, environment, stop)
    except faults.Fault as fault:
        LOG.error("%s: %s", fault.reason, fault)
        code = fault.code
    except Exception:  # the traceback is for the log; the code says that the program itself is at fault
        traceback.print_exc()
        code = faults.INTERNAL
    lost = sender.close(seconds=LAST_WORDS_SECONDS) if sender is not None else []
    if lost:
        LOG.error("not delivered: %s", ", ".join(lost))
    return faults.INTERNAL if lost and code == faults.DONE else code


if __name__ == "__main__":
    sys.exit(main(os.environ))
