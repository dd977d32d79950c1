"""The surface of kvroute.io: names, docstrings, stubs; and that kvroute uses its extension module."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

import kvroute
import kvroute.io
from kvroute import _kvroute

PACKAGE = Path(__file__).parents[2]


def test_kvroute_uses_the_extension_module_of_kvroute_io() -> None:
    assert _kvroute.__name__.startswith("kvroute_io.") or "kvroute_io" in str(_kvroute.__file__)
    assert kvroute.__version__ == importlib.metadata.version("kvroute-io")


def test_the_two_packages_ask_for_each_other_in_this_version() -> None:
    version = kvroute.__version__
    kvroute_toml = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))
    io_toml = tomllib.loads((PACKAGE / "io" / "pyproject.toml").read_text("utf-8"))
    assert kvroute_toml["project"]["optional-dependencies"] == {"io": [f"kvroute-io=={version}"]}
    assert io_toml["project"]["dependencies"] == [f"kvroute=={version}"]


def test_everything_public_is_documented() -> None:
    for name in kvroute.io.__all__:
        thing = getattr(kvroute.io, name)
        assert inspect.getdoc(thing), name
        assert thing.__module__ == "kvroute.io"
        for member, value in vars(thing).items():
            assert member.startswith("_") or inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize(
    "command", [["mypy.stubtest", "kvroute.io"], ["mypy", "--strict", "-p", "kvroute"]]
)
def test_type_checkers_agree(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
