"""`resonance-agent restore | serve`: parse, compose, run.

Exit codes: 0 done, 1 failed (``restore.onUnknown: Fail``), 2 wrong usage or environment, 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

from resonance import __version__
from resonance.agent.log import Log
from resonance.agent.settings import Settings, read_settings

ENDED = 128 + signal.SIGTERM


class Ended(BaseException):
    """SIGTERM arrived. Not an Exception, so that nothing on the way takes it for a failure to handle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two commands and return the exit code."""
    parser = argparse.ArgumentParser(
        "resonance-agent", description="Restores and saves the state of the app beside it."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("restore", help="give the app its state before it starts, then end")
    serving = commands.add_parser("serve", help="save the app's state until the pod ends")
    serving.add_argument("--port", type=int, default=9477, help="where flush, health and metrics are served (9477)")
    options = parser.parse_args(arguments)
    log = Log(time.time)
    try:
        settings = read_settings(os.environ)
    except ExceptionGroup as problems:
        for problem in problems.exceptions:
            log.error("environment_refused", message=str(problem))
        return 2
    if options.command == "restore":
        return _restore(settings, log)
    from resonance.agent.serve import serve

    return serve(settings, log, port=options.port)


def _end(*_: object) -> None:
    raise Ended


def _restore(settings: Settings, log: Log) -> int:
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        from resonance.agent.restore import Hook

        return Hook(settings, log, lambda: time.monotonic_ns() // 1_000_000, time.sleep).run()
    except Ended:
        log.warning("restore_ended", message="SIGTERM while the pod waited for its state")
        return ENDED
    except OSError as error:
        log.error("restore_failed", why="FileNotWritten", message=f"{settings.directory}: {error.strerror}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
