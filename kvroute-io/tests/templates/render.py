"""Renders every conversation with every template, by transformers: python render.py TEMPLATES OUTPUT

One JSON line a case: what the template was given, and either what came out or that it was refused.
"""

import datetime
import json
import os
import sys
from pathlib import Path

os.environ["TZ"] = "UTC"

from conversations import CONVERSATIONS
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
NOW = 1_783_900_800


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


chat_template_utils.datetime = Frozen
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), **SPECIAL_TOKENS)

templates, output = map(Path, sys.argv[1:])
with output.open("w") as out:
    for path in sorted(templates.glob("*.jinja")):
        for name, given in CONVERSATIONS.items():
            given = {"add_generation_prompt": True, **given}
            case = {"template": path.name, "conversation": name, "now": NOW, "special_tokens": SPECIAL_TOKENS, "given": given}
            arguments = json.loads(json.dumps(given))
            messages = arguments.pop("messages")
            try:
                case["rendered"] = tokenizer.apply_chat_template(
                    messages, chat_template=path.read_text(), tokenize=False, **arguments
                )
            except Exception as error:
                case["refused"] = f"{type(error).__name__}: {error}"
            out.write(json.dumps(case, ensure_ascii=False) + "\n")
