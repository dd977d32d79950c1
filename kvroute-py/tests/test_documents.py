"""What readers are shown runs: the README's start, the example, the docstrings' examples."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY

from kvroute import config


def run(program: str | Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_starts_a_router(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    code, *_ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    program = tmp_path / "start.py"
    program.write_text(code, "utf-8")
    assert "10.0.0." in run(program)
    assert len(code.strip().splitlines()) <= 25


def test_the_example_finds_the_pod_with_the_shared_prompt() -> None:
    output = run(REPOSITORY / "examples" / "python" / "route.py")
    assert re.search(r"^> pod-b .* blocks gpu", output, re.MULTILINE), output


def test_the_examples_in_docstrings_are_true() -> None:
    failed, tried = doctest.testmod(config)
    assert (failed, tried) == (0, 4)
