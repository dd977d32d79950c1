"""The shared test table: what Rust answers is what Python answers."""

from __future__ import annotations

import pytest
from conftest import TESTDATA
from table import Case, WrongTable, read_steps

SAMPLE = """
# A comment.
case a sample
router {"domains":{"m":{"block_size":4}},"pods":[{"name":"a","domain":"m"}]}
stored a hashes=1,2 tokens=0..8 block_size=4 => applied events=1 stored=2 removed=0
lookup m tokens=0..8+8 => a=2,0,0,0,0,0
trust ? => error unknown-pod no pod has the id 18446744073709551615
"""


def wrong_answers(table: str) -> list[str]:
    case, wrong = Case(), []
    for step in read_steps(table):
        answer = case.answer(step.text)
        if answer != step.expected:
            wrong.append(
                f"line {step.number}: {step.text}\n  wants {step.expected!r}\n  got   {answer!r}"
            )
    return wrong


def test_every_case_of_the_shared_table_is_answered_as_it_says() -> None:
    table = (TESTDATA / "bindings" / "cases.txt").read_text(encoding="utf-8")
    wrong = wrong_answers(table)
    assert not wrong, "\n".join(wrong)
    assert sum(1 for _ in read_steps(table)) > 200


def test_the_runner_finds_wrong_answers() -> None:
    assert wrong_answers(SAMPLE) == []
    assert len(wrong_answers(SAMPLE.replace("a=2,", "a=3,"))) == 1
    assert len(wrong_answers(SAMPLE.replace("unknown-pod", "limit"))) == 1
    # A step that answers something must say what.
    assert len(wrong_answers(SAMPLE.replace(" => a=2,0,0,0,0,0", ""))) == 1


def test_the_runner_leaves_nothing_out() -> None:
    with pytest.raises(WrongTable, match="no step is called 'guess'"):
        wrong_answers(SAMPLE + "guess a\n")
    with pytest.raises(WrongTable, match="colour"):
        wrong_answers(SAMPLE + "decide tokens=1 colour=red\n")
    with pytest.raises(AssertionError, match="not in"):
        wrong_answers(SAMPLE + "decide tokens=0..9 nonce=1\nsays nonsense\n")
