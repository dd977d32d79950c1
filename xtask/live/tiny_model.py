#!/usr/bin/env python3
"""Writes a Llama of random weights that any CPU can run: 2 layers, 128 wide, under 2 MB.

    python tiny_model.py FOLDER_WITH_TOKENIZER OUT

The tokenizer's files are copied. What the model says is noise; how its server schedules, caches and publishes
is not.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD = 2, 128, 256, 4, 2, 32


def config(vocabulary: int, ids: dict[str, int]) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": ids["<|bos|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|pad|>"],
    }


def weights(vocabulary: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)

    # The layers outweigh the embedding, or else the model would say the last token again and again.
    def random(*shape: int, scale: float = 0.2) -> torch.Tensor:
        return (torch.randn(*shape) * scale).bfloat16()

    def ones() -> torch.Tensor:
        return torch.ones(HIDDEN).bfloat16()

    tensors = {"model.embed_tokens.weight": random(vocabulary, HIDDEN, scale=0.02), "model.norm.weight": ones()}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        tensors |= {
            at + "input_layernorm.weight": ones(),
            at + "post_attention_layernorm.weight": ones(),
            at + "self_attn.q_proj.weight": random(HEADS * HEAD, HIDDEN),
            at + "self_attn.k_proj.weight": random(KV_HEADS * HEAD, HIDDEN),
            at + "self_attn.v_proj.weight": random(KV_HEADS * HEAD, HIDDEN),
            at + "self_attn.o_proj.weight": random(HIDDEN, HEADS * HEAD),
            at + "mlp.gate_proj.weight": random(INNER, HIDDEN),
            at + "mlp.up_proj.weight": random(INNER, HIDDEN),
            at + "mlp.down_proj.weight": random(HIDDEN, INNER),
        }
    return tensors


def main() -> None:
    tokenizer, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(tokenizer / name, out / name)
    described = json.loads((out / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in described["added_tokens"]}
    vocabulary = len(described["model"]["vocab"])
    (out / "config.json").write_text(json.dumps(config(vocabulary, ids), indent=1))
    save_file(weights(vocabulary), out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
