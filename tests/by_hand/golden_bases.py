"""Make tests/parity/bases.json: FlagEmbedding's scores of tiny language models.

Run from the repository's root, where FlagEmbedding 1.4.2 and transformers 4.46 are installed:
    PYTHONPATH=. python tests/by_hand/golden_bases.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from FlagEmbedding import FlagLLMReranker
from transformers import AutoConfig, AutoModelForCausalLM

from tests.llm_bases import ROWS, write_base

PARITY = Path("tests/parity")
SIZES: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
"""transformers 4.46 reads max_position_embeddings in its stead: here both are the same, as in published models."""
BASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-biases-linear": {
        "model_type": "llama", "attention_bias": True, "mlp_bias": True,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "llama-tied-scaled": {
        "model_type": "llama", "tie_word_embeddings": True, "head_dim": 24, "rope_theta": 500000.0,
        "max_position_embeddings": 4096, "rope_scaling": LLAMA3,
    },
    "mistral-window": {"model_type": "mistral", "sliding_window": 24},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1000000.0},
    "qwen2-tied-yarn": {
        "model_type": "qwen2", "tie_word_embeddings": True, "max_position_embeddings": 512, "rope_scaling": YARN,
    },
    "gemma": {"model_type": "gemma", "head_dim": 32},
    "gemma2": {
        "model_type": "gemma2", "head_dim": 32, "sliding_window": 24, "query_pre_attn_scalar": 20,
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0,
    },
}  # fmt: skip


def main() -> None:
    pairs = json.loads((PARITY / "golden.json").read_text(encoding="utf-8"))["pairs"]["mixed"]
    cases = {}
    for name, changes in BASES.items():
        config = AutoConfig.for_model(**{**SIZES, **changes})
        model = AutoModelForCausalLM.from_config(config)
        config.architectures = [type(model).__name__]
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        if config.tie_word_embeddings:
            del shapes["lm_head.weight"]
        with tempfile.TemporaryDirectory() as folder:
            write_base(Path(folder), config.to_diff_dict(), shapes)
            reranker = FlagLLMReranker(folder, devices="cpu", use_fp16=False)
            scores = reranker.compute_score(pairs)
            short = reranker.compute_score(pairs, max_length=24)
        cases[name] = {"config": config.to_diff_dict(), "shapes": shapes, "scores": scores, "short": short}
    about = "FlagEmbedding 1.4.2's FlagLLMReranker on transformers 4.46, in float32; by tests/by_hand/golden_bases.py."
    text = json.dumps({"about": about, "pairs": "mixed", "cases": cases}, indent=1)
    (PARITY / "bases.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
