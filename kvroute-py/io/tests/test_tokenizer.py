"""Tokenizers: the engine's token ids, text where they are not known, and never for long."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Literal

import numpy as np
import pytest
from conftest import TESTDATA

import kvroute
from kvroute import InvalidInputError, LimitError, RequestError, TokenizerError
from kvroute.io import Prompt, Tokenizer

FOLDER = TESTDATA / "tokenize"

ENDPOINTS: dict[str, Literal["completions", "chat.completions", "responses"]] = {
    "completions": "completions",
    "chat": "chat.completions",
    "responses": "responses",
}


def test_token_ids_are_those_of_the_engine() -> None:
    tokenizers = {
        name: Tokenizer(FOLDER, chat_template=(FOLDER / name).read_text("utf-8"), wait=60)
        for name in ("chat_template.jinja", "chat_template_parts.jinja")
    }
    compared = 0
    for line in (FOLDER / "requests.jsonl").read_bytes().splitlines():
        request = json.loads(line)
        if "truncate_prompt_tokens" in request["body"]:
            continue
        tokenizer = tokenizers[request["template"] or "chat_template.jinja"]
        endpoint, body = ENDPOINTS[request["endpoint"]], json.dumps(request["body"])
        if request["status"] == 200 and "token_ids" in request:
            prompts = tokenizer.prompts(endpoint, body)
            assert [ids_of(prompt) for prompt in prompts] == request["token_ids"]
            assert all(prompt.text is None and prompt.reason is None for prompt in prompts)
            compared += 1
        elif "unknown role" in request.get("error", ""):
            with pytest.raises(RequestError, match="unknown role: alien"):
                tokenizer.prompts(endpoint, body.encode())
            compared += 1
    assert compared > 100
    counters = tokenizers["chat_template.jinja"].counters()
    assert counters["hit_bytes"] > 0 and counters["segments"] > 0
    assert counters["too_late"] == counters["queue_full"] == counters["panicked"] == 0
    assert tokenizers["chat_template.jinja"].segmentation == "pieces"


def ids_of(prompt: Prompt) -> list[int]:
    assert prompt.token_ids is not None and prompt.token_ids.dtype == np.uint32
    return [int(token) for token in prompt.token_ids]


def test_texts_are_encoded() -> None:
    tokenizer = Tokenizer(str(FOLDER))
    assert tokenizer.encode("a", add_special_tokens=True).tolist() == [0, 70]
    assert tokenizer.encode("a", add_special_tokens=False).tolist() == [70]
    assert tokenizer.encode("", add_special_tokens=False).tolist() == []
    assert repr(tokenizer) == "Tokenizer(pieces, 0 requests answered)"


def test_prompts_go_into_a_router() -> None:
    router = kvroute.Router({"domains": {"m": {"block_size": 4}}})
    router.add_pod("a", domain="m")
    tokenizer = Tokenizer(FOLDER, wait=60)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is a KV cache, in short?"}]
    (prompt,) = tokenizer.prompts("chat.completions", json.dumps({"messages": messages}))
    assert repr(prompt) == f"Prompt({len(ids_of(prompt))} token ids)"
    router.dispatch(prompt.token_ids, text=prompt.text)
    assert router.decide(prompt.token_ids, text=prompt.text).uncached_tokens <= len(ids_of(prompt))

    image = [{"type": "image_url", "image_url": {"url": "data:x"}}]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": image}]})
    (prompt,) = tokenizer.prompts("chat.completions", body)
    assert (prompt.token_ids, prompt.reason) == (None, "media")
    assert prompt.text == body[body.index('"messages"') :].encode()
    assert repr(prompt) == "Prompt(text, reason='media')"
    assert router.decide(prompt.token_ids, text=prompt.text).pod == "a"


def test_what_is_not_tokenized_in_time_is_answered_with_text_while_others_run() -> None:
    tokenizer = Tokenizer(FOLDER, threads=1, queue=1, wait=0.05)
    body = json.dumps({"prompt": " ".join(f"zebra{word * 7919}" for word in range(60_000))})
    answers: list[list[Prompt]] = []
    begun = time.monotonic()
    thread = threading.Thread(target=lambda: answers.append(tokenizer.prompts("completions", body)))
    thread.start()
    turns = 0
    while thread.is_alive() and time.monotonic() - begun < 20:
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 5, "the GIL is not held meanwhile"
    assert [prompt.reason for prompt in answers[0]] == ["overloaded"]
    assert tokenizer.counters()["too_late"] == 1


def test_bad_input_is_refused(tmp_path: Any) -> None:
    tokenizer = Tokenizer(FOLDER, max_text_bytes=30)
    with pytest.raises(RequestError):
        tokenizer.prompts("completions", "{}")
    with pytest.raises(RequestError):
        tokenizer.prompts("chat.completions", b"\xff")
    with pytest.raises(LimitError):
        tokenizer.prompts("completions", json.dumps({"prompt": "x" * 30}))
    with pytest.raises(LimitError):
        tokenizer.encode("x" * 31, add_special_tokens=False)
    with pytest.raises(InvalidInputError, match="endpoint"):
        tokenizer.prompts("embeddings", "{}")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="body"):
        tokenizer.prompts("completions", 7)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        Tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text("[")
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        Tokenizer(tmp_path)
    with pytest.raises(TokenizerError):
        Tokenizer(FOLDER, chat_template="{% for")
    with pytest.raises(TokenizerError, match="threads"):
        Tokenizer(FOLDER, threads=0)
    with pytest.raises(InvalidInputError, match="wait"):
        Tokenizer(FOLDER, wait=-1)
    with pytest.raises(InvalidInputError, match="chat_template_kwargs"):
        Tokenizer(FOLDER, chat_template_kwargs={"x": float("nan")})
