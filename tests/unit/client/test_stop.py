from __future__ import annotations

import os
import signal

import pytest

from chorus_client.stop import StopFlag, Stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_the_work_stops_where_it_asks(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        flag = StopFlag().install()
        assert not flag.requested
        flag.check()
        os.kill(os.getpid(), number)
        assert flag.requested
        assert flag.signal_name == number.name
        with pytest.raises(Stopped, match=number.name):
            flag.check()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
