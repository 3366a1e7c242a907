"""`python -m tests.bench [GROUP…]`: measure, print one table, write build/bench.json.

A group is a module with `rows(say)`; adding one is one line in `GROUPS`. A goal that is not reached is a row that says
so, not a failure; the exit code is 1 only when something could not be measured, and 2 for a group that does not exist.
"""

import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.bench.row import Row, table

GROUPS = {
    "storage": "tests.bench.storage",
    "pods": "tests.bench.pods",
}
OUT = Path("build/bench.json")


def main(names: Sequence[str]) -> int:
    """Measure the named groups, all if none is named."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"bench: {unknown[0]!r} is not a group; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    broken = []
    for name in names or GROUPS:
        try:
            rows += importlib.import_module(GROUPS[name]).rows(say)
        except Exception:  # noqa: BLE001 - what broke one group says nothing about the others
            traceback.print_exc()
            broken.append(name)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([row.to_dict() for row in rows], indent=1) + "\n")
    print(table(rows))
    for name in broken:
        print(f"bench: the group {name} could not be measured; see above", file=sys.stderr)
    return 1 if broken else 0


def say(what: str) -> None:
    """Tell what is measured now."""
    print(f"bench: {what} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
