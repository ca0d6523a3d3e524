"""Signals as events of the loop, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

COMMON = """
    import os, signal
    from gadgetd.eventloop import Loop
    from gadgetd.eventloop import watch_signals
    loop, said = Loop(), []
    def say(word):
        said.append(word)
        print(word, flush=True)
"""


def run(body: str) -> list[str]:
    code = textwrap.dedent(COMMON) + textwrap.dedent(body)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_a_signal_is_handled_by_the_loop_and_not_where_it_strikes() -> None:
    assert run("""
        watch_signals(loop, {signal.SIGHUP: lambda: say("reload"), signal.SIGTERM: loop.stop})
        os.kill(os.getpid(), signal.SIGHUP)
        say("not-yet")
        loop.call_later(0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.run()
        say("ended")
    """) == ["not-yet", "reload", "ended"]


def test_signals_that_come_together_are_handled_in_the_given_order() -> None:
    assert run("""
        watch_signals(loop, {
            signal.SIGTERM: lambda: (say("end"), loop.stop()),
            signal.SIGHUP: lambda: say("reload"),
        })
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        loop.run()
    """) == ["end", "reload"]


def test_a_storm_of_signals_is_no_harm() -> None:
    assert set(
        run("""
        watch_signals(loop, {signal.SIGHUP: lambda: say("reload"), signal.SIGTERM: loop.stop})
        for _ in range(100000):
            os.kill(os.getpid(), signal.SIGHUP)
        # What came when the pipe was full is lost, but the storm itself is noticed.
        loop.call_later(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.run()
    """)
    ) == {"reload"}
