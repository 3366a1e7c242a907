"""One line of JSON for each event on standard error: what happened and its fields, never a state and never a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_KOPF = ("k8s_skip", "k8s_ref", "settings")


class JsonLines(logging.Formatter):
    """A record as one JSON object: ts, level, event, logger, and whatever was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        extra = {key: value for key, value in vars(record).items() if key not in _OWN and key not in _KOPF}
        line |= extra
        if record.exc_info and record.exc_info[0] is not None:
            line["trace"] = self.formatException(record.exc_info)[-2000:]
        return json.dumps(line, default=str)


class Patience(logging.Filter):
    """Leaves out that a request will be tried again: a server that is away for a minute would fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repeated try."""
        return "will retry" not in record.getMessage()


def start(level: int = logging.INFO) -> None:
    """Send every logger of the process through :class:`JsonLines`; kopf tells only what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Patience())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
