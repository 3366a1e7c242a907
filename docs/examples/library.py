"""A resonance network that keeps itself, without Kubernetes: restore, save every ten seconds, save on exit.

URL, PASSWORD and CA (a file) come from the environment; USERNAME is the Redis user.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonance.adapter import ResonanceStorageAdapter

network: dict[str, Any] = {"nodes": {}, "fields": {}, "patterns": {}, "metrics": {"tick": 0}}
store = ResonanceStorageAdapter(
    os.environ["URL"],
    username=os.environ["USERNAME"],
    password=os.environ["PASSWORD"],
    ca=Path(os.environ["CA"]).read_text(),
)
store.restore_snapshot(into=network)
store.save_every(timedelta(seconds=10), lambda: network)
store.save_on_exit(lambda: network)

network["metrics"]["tick"] += 1  # the app's own work
print(f"tick {network['metrics']['tick']}, store safe: {store.health_check().safe}")
