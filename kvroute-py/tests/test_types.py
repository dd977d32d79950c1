"""The package's surface: names, docstrings, stubs, and the configuration's types beside its schema."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
import sys
import tempfile
import typing
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

import pytest
from conftest import REPOSITORY

import kvroute
from kvroute import _kvroute, config

SCHEMA = json.loads((REPOSITORY / "kvroute-core" / "config.schema.json").read_text("utf-8"))


def test_everything_public_is_exported_and_documented() -> None:
    classes = {name for name in dir(_kvroute) if not name.startswith("_")}
    assert classes < set(kvroute.__all__)
    for name in kvroute.__all__:
        thing = getattr(kvroute, name)
        assert inspect.getdoc(thing), name
        if name not in classes or not isinstance(thing, type):
            continue
        assert thing.__module__ == "kvroute"
        for member, value in vars(thing).items():
            assert member.startswith("_") or inspect.getdoc(value), f"{name}.{member}"


def test_every_class_has_a_repr_of_its_own() -> None:
    for name in dir(_kvroute):
        thing = getattr(_kvroute, name)
        if isinstance(thing, type):
            assert "__repr__" in vars(thing), name


@pytest.mark.parametrize(
    "command",
    [
        ["mypy.stubtest", "kvroute._kvroute"],
        ["mypy", "--strict", "-p", "kvroute"],
        ["mypy", "--strict", str(REPOSITORY / "examples" / "python")],
    ],
    ids=["stubtest", "package", "examples"],
)
def test_type_checkers_agree(command: list[str]) -> None:
    # Elsewhere, so that the installed package is checked and no cache is left in the repository.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def resolve(schema: Any) -> Any:
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.removeprefix("#/$defs/")] if reference else schema


def alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [inner for part in get_args(hint) for inner in alternatives(part)]
    if get_origin(hint) is Literal:
        return [Literal[value] for value in get_args(hint)]
    return [hint]


def compare(schema: Any, hint: Any, at: str, seen: set[str]) -> None:
    """Fails where a type says something else than the schema."""
    schema = resolve(schema)
    parts = alternatives(hint)
    if "oneOf" in schema or "enum" in schema:
        schemas = schema.get("oneOf") or [{"const": value} for value in schema["enum"]]
        named = {one["const"] for one in schemas if "const" in one}
        literals = {get_args(part)[0] for part in parts if get_origin(part) is Literal}
        assert literals == named, at
        dicts = [part for part in parts if is_typeddict(part)]
        shapes = [one for one in schemas if "const" not in one]
        assert len(dicts) == len(shapes), at
        by_keys = {frozenset(one["properties"]): one for one in shapes}
        for part in dicts:
            compare(by_keys[frozenset(part.__annotations__)], part, at, seen)
        return
    if schema.get("const") is not None:
        assert parts == [Literal[schema["const"]]], at
        return
    assert len(parts) == 1, at
    kind = schema["type"]
    if kind == "object" and "properties" in schema:
        assert is_typeddict(hint), at
        seen.add(hint.__name__)
        hints = typing.get_type_hints(hint)
        assert set(hints) == set(schema["properties"]), at
        assert hint.__required_keys__ == set(schema.get("required", ())), at
        for key, inner in schema["properties"].items():
            compare(inner, hints[key], f"{at}.{key}", seen)
    elif kind == "object":
        assert get_origin(hint) is dict and get_args(hint)[0] is str, at
        compare(schema["additionalProperties"], get_args(hint)[1], f"{at}{{}}", seen)
    elif kind == "array":
        assert get_origin(hint) is list, at
        compare(schema["items"], get_args(hint)[0], f"{at}[]", seen)
    else:
        assert hint is {"string": str, "integer": int, "number": float}[kind], at


def test_the_types_of_the_configuration_are_those_of_its_schema() -> None:
    seen: set[str] = set()
    compare(SCHEMA, config.Config, "config", seen)
    typed_dicts = {name for name in config.__all__ if is_typeddict(getattr(config, name))}
    assert seen == typed_dicts, "every type is a part of the configuration"
    for name in SCHEMA["$defs"]:
        assert name in config.__all__, f"{name} is in the schema and has no type"


def test_the_comparison_finds_differences() -> None:
    wrong = json.loads(json.dumps(SCHEMA))
    wrong["properties"]["index"] = {"type": "string"}
    with pytest.raises(AssertionError, match="config.index"):
        compare(wrong, config.Config, "config", set())
    with pytest.raises(AssertionError, match="config.role"):
        compare({"enum": ["prefill"]}, config.Role, "config.role", set())


def test_without_the_extra_its_module_says_what_is_missing() -> None:
    without = (
        "import sys; sys.modules['kvroute_io'] = None; import kvroute; print(kvroute.Router())"
    )
    for line, said in [("", ""), ("; import kvroute.io", "pip install 'kvroute[io]'")]:
        done = subprocess.run(
            [sys.executable, "-c", without + line], capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith("Router(0 pods") and said in done.stderr
        assert (done.returncode == 0) == (said == "")


def test_the_schema_and_the_version_are_answered() -> None:
    assert kvroute.config_schema() == SCHEMA
    assert kvroute.__version__ == importlib.metadata.version("kvroute")


def test_a_configuration_with_every_key_is_accepted() -> None:
    example = REPOSITORY / "kvroute-core" / "tests" / "config" / "example.yaml"
    assert kvroute.Router(example.read_text("utf-8")).pods()
