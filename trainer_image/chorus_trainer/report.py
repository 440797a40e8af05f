"""What a training tells while it runs: progress messages, metrics.jsonl, log lines, and when to save."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from chorus_api.run_config import RunConfig
from chorus_protocol.messages import ProgressReport, TrainingStart
from chorus_trainer.engine import StepTotals
from chorus_trainer.ports import Messages, Stop

logger = logging.getLogger(__name__)
REPORT_SECONDS = 2.0
MOST_POINTS = 1000
"""Points of the curve that a run aims at: up to so many steps, every one is logged."""
METRICS_FILE = "metrics.jsonl"


class Curve:
    """metrics.jsonl: one line for each logged step. A resumed training goes on after its checkpoint's step."""

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        self._path = path
        kept = [line for line in self._lines() if line["step"] <= resumed_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **point: float | int | str) -> None:
        """Append one point."""
        with self._path.open("a") as file:
            file.write(json.dumps(point) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for text in self._path.read_text(errors="replace").splitlines() if self._path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of an attempt that was killed while writing
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines


class Reporter(TrainerCallback):
    """Follows a training step by step. `clock` gives seconds that only rise."""

    def __init__(
        self,
        *,
        config: RunConfig,
        messages: Messages,
        curve: Curve,
        progress: StepTotals,
        stop: Stop,
        clock: Callable[[], float],
        resumed_step: int,
    ) -> None:
        self.preempted = False
        """The training was stopped before its last step, and saved."""
        self._config = config
        self._messages = messages
        self._curve = curve
        self._progress = progress
        self._stop = stop
        self._clock = clock
        self._first_step = resumed_step
        self._checkpoint_step = resumed_step or None
        self._begun = self._stepped = self._saved = self._logged = clock()
        self._seconds_before = progress.seconds
        self._tokens_before = progress.tokens
        self._logged_step = resumed_step
        self._step_loss: Callable[[], float] = lambda: math.nan

    def watch(self, step_loss: Callable[[], float]) -> None:
        """Where to read the loss of the step that has just ended."""
        self._step_loss = step_loss

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """TRAINING_START, right before the first step."""
        self._begun = self._stepped = self._saved = self._logged = self._clock()
        if state.global_step >= state.max_steps:
            return
        self._messages.send(TrainingStart(**self._addressed()))
        self._messages.progress(self._report(state, {}))
        logger.info("training begins at step %d of %d", state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide whether this step is logged, saved, or the last one for now."""
        now = self._clock()
        last = state.global_step >= state.max_steps
        self._progress.seconds = self._seconds_before + now - self._begun
        self._progress.add(epoch=math.ceil(state.epoch or 0.0) - 1, loss=self._step_loss())
        every = max(1, state.max_steps // MOST_POINTS)
        control.should_log = (
            last or state.global_step - self._logged_step >= every or now - self._logged >= REPORT_SECONDS
        )
        self.preempted = self._stop.requested and not last
        due = now - self._saved >= self._config.checkpoint_every_seconds
        control.should_save = last or due or self.preempted
        control.should_training_stop = control.should_training_stop or self.preempted

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write a point of the curve and say how far the training is."""
        state.log_history.clear()  # metrics.jsonl holds the curve; in every checkpoint it would only grow
        if not logs or "loss" not in logs:
            return
        now = self._clock()
        point = {
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "tokens_per_second": (self._progress.tokens - self._tokens_before) / max(now - self._begun, 1e-9),
        }
        self._curve.add(step=state.global_step, epoch=state.epoch or 0.0, **point)
        if now - self._logged >= REPORT_SECONDS or state.global_step in (self._first_step + 1, state.max_steps):
            logger.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, logs["loss"])
            self._logged = now
        self._logged_step = state.global_step
        self._messages.progress(self._report(state, point))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint is on the volume."""
        self._saved = self._clock()
        self._checkpoint_step = state.global_step
        logger.info("checkpoint of step %d saved", state.global_step)
        self._messages.progress(self._report(state, {}))

    def _report(self, state: TrainerState, point: dict[str, float]) -> ProgressReport:
        done = state.global_step - self._first_step
        left = state.max_steps - state.global_step
        pace = (self._clock() - self._begun) / done if done else None
        loss = point.get("loss", self._progress.loss)
        return ProgressReport(
            **self._addressed(),
            percent=100 * state.global_step // max(state.max_steps, 1),
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=round(state.epoch or 0.0, 4),
            eta_seconds=None if pace is None else math.ceil(pace * left),
            loss=loss if math.isfinite(loss) else None,
            metrics={name: value for name, value in point.items() if name != "loss" and math.isfinite(value)},
            checkpoint_step=self._checkpoint_step,
        )

    def _addressed(self) -> dict[str, int]:
        return {"project_id": self._config.project_id, "plugin_id": self._config.plugin_id}
