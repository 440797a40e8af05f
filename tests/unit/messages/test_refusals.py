"""Every refusal is counted; the log is not flooded."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from chorus_operator.messages.refusal_log import RefusalLog
from chorus_protocol.refusals import Cause, Refused


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_status(cause: Cause) -> None:
    assert 400 <= Refused(cause, "").status < 600


def test_each_sender_is_logged_once_a_minute_for_each_cause() -> None:
    now = [0.0]
    refusals = RefusalLog(clock=lambda: now[0])
    with capture_logs() as logs:
        for second in range(120):
            now[0] = second
            for sender in ("team/pod-1", "team/pod-2"):
                refusals.add(Refused(Cause.BAD_TOKEN, "forged"), sender=sender)
            refusals.add(Refused(Cause.WRONG_IDS, "no"), sender="team/pod-1")
    assert refusals.counts == {Cause.BAD_TOKEN: 240, Cause.WRONG_IDS: 120}
    assert len(logs) == 6
    assert logs[0]["detail"] == "forged"


def test_many_senders_do_not_fill_the_memory() -> None:
    refusals = RefusalLog(clock=lambda: 0.0)
    with capture_logs():
        for number in range(5000):
            refusals.add(Refused(Cause.BAD_TOKEN, ""), sender=str(number))
    assert len(refusals._logged) == 1024
