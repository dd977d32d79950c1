"""Makes requests.jsonl from full captures: python extract.py CAPTURES > requests.jsonl"""

import json
import sys
from pathlib import Path

TEMPLATES = {"pod-0": "chat_template.jinja", "pod-1": "chat_template_parts.jinja"}
ENDPOINTS = {"/v1/completions": "completions", "/v1/chat/completions": "chat", "/v1/responses": "responses"}
seen = set()


def emit(endpoint, template, body, answer):
    line = {"endpoint": endpoint, "template": template if endpoint != "completions" else None, "body": body, **answer}
    text = json.dumps(line, ensure_ascii=False)
    if text not in seen:
        seen.add(text)
        print(text)


def prompts(answer, streamed, n):
    """Token ids of all prompts: completions have them with each of a prompt's n choices, chats at the top."""
    if streamed:
        answer = next(json.loads(chunk[6:]) for chunk in answer if chunk.startswith("data: {"))
    if "prompt_token_ids" in answer and answer["prompt_token_ids"] is not None:
        return [answer["prompt_token_ids"]]
    choices = answer.get("choices", [])[:: n]
    return [choice["prompt_token_ids"] for choice in choices if choice.get("prompt_token_ids")]


folder = Path(sys.argv[1]) / "connect-3pods"
for pod, template in TEMPLATES.items():
    for line in (folder / f"tokenize-{pod}.jsonl").open():
        exchange = json.loads(line)
        body = {k: v for k, v in exchange["request"].items() if k != "return_token_strs"}
        if body.get("prompt") == "":
            continue  # /tokenize takes it, the endpoints refuse it
        endpoint = "completions" if exchange["kind"] == "prompt" else "chat"
        emit(endpoint, template, body, {"status": 200, "token_ids": [exchange["response"]["tokens"]]})
    for line in (folder / f"http-{pod}.jsonl").open():
        exchange = json.loads(line)
        request, response = exchange["request"], exchange["response"]
        endpoint = ENDPOINTS.get(request["path"])
        if endpoint is None or not isinstance(request.get("body"), dict):
            continue
        if response["status"] != 200:
            emit(endpoint, template, request["body"], {"status": response["status"], "error": response["body"][:300]})
            continue
        if "body" in response:
            answer = json.loads(response["body"])
            found = prompts(answer, False, request["body"].get("n", 1))
            if not found:
                emit(endpoint, template, request["body"], {"status": 200, "tokens": answer["usage"]["input_tokens"]})
                continue
        else:
            found = prompts([chunk["data"] if isinstance(chunk, dict) else chunk[1] for chunk in response["chunks"]], True, 1)
        if len(json.dumps(request["body"])) < 6000:
            emit(endpoint, template, request["body"], {"status": 200, "token_ids": found})
