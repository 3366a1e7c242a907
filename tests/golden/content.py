"""The two states that the golden files of every format hold."""

from resonance.model.state import State

BEFORE = State(
    {
        "nodes": {
            "a": b'{"phase":0.1,"frequency":1e-300}',
            "\u00e9\u6f22 \U0001f30a": b'{"phase": 0.30000000000000004 }',
            "gone": b'{"big":123456789012345678901234567890}',
        },
        "fields": {"carrier": b'{"strength":-0.0,"of":["a",null,true]}'},
        "patterns": {},
    },
    b'{"tick":41}',
)
AFTER = State(
    {
        "nodes": {
            "a": b'{"phase":0.2,"frequency":1e-300}',
            "\u00e9\u6f22 \U0001f30a": b'{"phase": 0.30000000000000004 }',
            "new": b"{}",
        },
        "fields": {"carrier": b'{"strength":-0.0,"of":["a",null,true]}'},
        "echoes": {"": b'{"empty":"id"}'},
    },
    b'{"tick":42}',
)
