"""What `kubectl get` shows of a run: a printer column cannot shorten, so status has short forms for it."""

from __future__ import annotations

from chorus_api.phases import Phase
from chorus_api.training_run import MAX_SHOWN_MESSAGE, Progress, Shown, TrainingRunStatus


def shown(status: TrainingRunStatus) -> Shown:
    """Shorten progress, loss and message: a TRAINED run shows 100 percent and the model's final loss."""
    percent, loss = of_progress(status.progress)
    if status.phase == Phase.TRAINED:
        percent = 100
        loss = four_digits(status.model.final_loss) if status.model is not None and status.model.final_loss else loss
    message = " ".join((status.message or "").split())
    if len(message) > MAX_SHOWN_MESSAGE:
        message = f"{message[: MAX_SHOWN_MESSAGE - 1]}…"
    return Shown(percent=percent, loss=loss, message=message or None)


def of_progress(progress: Progress | None) -> tuple[int | None, str | None]:
    """Give percent and loss as they are shown while a run trains."""
    if progress is None:
        return None, None
    return progress.percent, four_digits(progress.loss) if progress.loss is not None else None


def four_digits(number: str) -> str:
    """Round a decimal string to four significant digits; another text stays as it is."""
    try:
        return f"{float(number):.4g}"
    except ValueError:
        return number
