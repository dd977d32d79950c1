"""Renders every conversation with every template, by transformers: python render.py SDIST FOLDER

Takes the templates out of the source distribution to FOLDER/templates, and writes FOLDER/rendered.jsonl: one line a
case, with what the template was given and either what came out or that it was refused.
"""

import datetime
import json
import os
import sys
import tarfile
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

sdist, folder = map(Path, sys.argv[1:])
templates = {}
with tarfile.open(sdist) as files:
    for file in files:
        path = Path(file.name)
        if path.suffix == ".jinja" and path.parent.name == "templates":
            templates[path.name] = files.extractfile(file).read().decode()
(folder / "templates").mkdir(parents=True, exist_ok=True)
with (folder / "rendered.jsonl").open("w") as out:
    for file_name, template in sorted(templates.items()):
        (folder / "templates" / file_name).write_text(template)
        for name, given in CONVERSATIONS.items():
            given = {"add_generation_prompt": True, **given}
            case = {"template": file_name, "conversation": name, "now": NOW, "special_tokens": SPECIAL_TOKENS}
            case["given"] = given
            arguments = json.loads(json.dumps(given))
            messages = arguments.pop("messages")
            try:
                case["rendered"] = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, **arguments
                )
            except Exception as error:
                case["refused"] = f"{type(error).__name__}: {error}"
            out.write(json.dumps(case, ensure_ascii=False) + "\n")
print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations each")
