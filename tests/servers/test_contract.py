"""What a keyspace and a member promise, promised over Sentinel and over a Cluster too: the very tests of
``tests/store``.
"""

import inspect

import pytest

from tests.store import test_catalogue, test_keyspace, test_member

pytestmark = pytest.mark.redis

for _module in (test_keyspace, test_member, test_catalogue):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and list(inspect.signature(_test).parameters)[:1] == ["keyspace"]:
            globals()[_name] = _test
