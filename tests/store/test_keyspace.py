"""What every keyspace promises; run against the double and against a real TLS Redis."""

import pytest

from resonance.store.keyspace import Exists, Field, FieldIs, Guard, Hash, HashIs, Items, Keyspace, Text, Write

KEY = "resonance:{a}:h"
OTHER = "resonance:{a}:s"


def test_a_reading_is_typed_and_absent_things_are_empty(keyspace: Keyspace) -> None:
    keyspace.apply([], [("HSET", KEY, "f", "1"), ("SET", OTHER, b"x"), ("LPUSH", "resonance:{a}:l", "a", "b")])
    seen = keyspace.read(
        [Hash(KEY), Text(OTHER), Items("resonance:{a}:l"), Field(KEY, "f"), Hash("resonance:{a}:none")]
    )
    assert seen.hash(0) == {b"f": b"1"}
    assert seen.text(1) == b"x"
    assert seen.items(2) == [b"b", b"a"]
    assert seen.text(3) == b"1"
    assert seen.hash(4) == {}


GUARDS: list[tuple[str, Guard, bool]] = [
    ("a whole hash as seen", HashIs(KEY, {b"f": b"1", b"g": b"2"}), True),
    ("a hash with a field more", HashIs(KEY, {b"f": b"1"}), False),
    ("a hash with another value", HashIs(KEY, {b"f": b"1", b"g": b"3"}), False),
    ("a hash that should not exist", HashIs(KEY, {}), False),
    ("no hash where none is", HashIs("resonance:{a}:none", {}), True),
    ("one field as seen", FieldIs(KEY, "f", b"1"), True),
    ("one field with another value", FieldIs(KEY, "f", b"2"), False),
    ("an absent field expected", FieldIs(KEY, "h", b"1"), False),
    ("an absent field", FieldIs(KEY, "h", None), True),
    ("a key that is there", Exists(KEY), True),
    ("a key that is gone", Exists("resonance:{a}:none"), False),
    ("a field that should be absent", FieldIs(KEY, "f", None), False),
]


@pytest.mark.parametrize(("guard", "holds"), [each[1:] for each in GUARDS], ids=[each[0] for each in GUARDS])
def test_writes_happen_only_if_the_guard_holds(keyspace: Keyspace, guard: Guard, holds: object) -> None:
    keyspace.apply([], [("HSET", KEY, "f", "1", "g", "2")])
    done = keyspace.apply([HashIs(KEY, {b"f": b"1", b"g": b"2"}), guard], [("SET", OTHER, b"new")])
    assert (done is not None) is holds
    assert keyspace.read([Text(OTHER)]).text(0) == (b"new" if holds else None)


def test_every_write_of_a_commit_does_what_redis_does(keyspace: Keyspace) -> None:
    stage = "resonance:{a}:stage"
    keyspace.stage([("SETRANGE", stage, 0, b"abc"), ("SETRANGE", stage, 3, b"def"), ("EXPIRE", stage, 600)])
    writes: list[Write] = [
        ("SET", OTHER, b"old"),
        ("UNLINK", OTHER),
        ("RENAME", stage, OTHER),
        ("PERSIST", OTHER),
        ("HSET", KEY, "f", "1", "g", "2"),
        ("HDEL", KEY, "f"),
        ("LPUSH", "resonance:{a}:l", "1"),
        ("LPUSH", "resonance:{a}:l", "2"),
        ("LTRIM", "resonance:{a}:l", 0, 0),
        ("HSETNOW", KEY, "at"),
    ]
    at = keyspace.apply([], writes)
    seen = keyspace.read([Text(OTHER), Hash(KEY), Items("resonance:{a}:l"), Text(stage)])
    assert seen.text(0) == b"abcdef"
    assert seen.hash(1) == {b"g": b"2", b"at": str(at).encode()}
    assert seen.items(2) == [b"2"]
    assert seen.text(3) is None


def test_an_id_that_looks_like_a_command_is_only_an_id(keyspace: Keyspace) -> None:
    keyspace.apply([], [("HSET", KEY, "HSETNOW", "HSETNOW", "UNLINK", b"\x00\xff\r\n")])
    assert keyspace.read([Hash(KEY)]).hash(0) == {b"HSETNOW": b"HSETNOW", b"UNLINK": b"\x00\xff\r\n"}
