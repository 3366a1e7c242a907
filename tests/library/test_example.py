"""The library's example is a program that runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_server import TlsRedis

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "library.py"


@pytest.mark.redis
def test_the_example_goes_on_where_it_ended() -> None:
    with TlsRedis() as server:
        secret = server.secret
        environment = {
            **os.environ,
            "URL": secret["url"],
            "USERNAME": secret["username"],
            "PASSWORD": secret["password"],
        }
        environment["CA"] = str(server.folder / "ca.crt")
        said = [
            subprocess.run(
                [sys.executable, EXAMPLE], env=environment, capture_output=True, text=True, check=True
            ).stdout
            for _ in range(3)
        ]
    assert said == [f"tick {tick}, store safe: True\n" for tick in (1, 2, 3)]
