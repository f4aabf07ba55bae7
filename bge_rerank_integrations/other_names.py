"""What other rerankers, and FlagEmbedding, call the options: for errors that say the name they have here."""

from __future__ import annotations

HINTS = {
    **dict.fromkeys(("top_k", "k", "topn", "n"), "top_n"),
    **dict.fromkeys(("threshold", "min_score", "similarity_cutoff"), "score_threshold"),
    **dict.fromkeys(("model_name", "model_name_or_path", "model_id"), "model"),
    **dict.fromkeys(("device", "device_map", "target_devices"), "devices"),
    **dict.fromkeys(("cache_folder", "model_cache_dir"), "cache_dir"),
    **dict.fromkeys(("use_auth_token", "hf_token", "api_key"), "token"),
    **dict.fromkeys(("cutoff_layers", "cutoff"), "cutoff_layer"),
    "compress_layer": "compress_layers",
    "use_fp16": "dtype='float16'",
    "use_bf16": "dtype='bfloat16'",
    "torch_dtype": "dtype",
    "normalize": "scale='sigmoid'",
    "activation_fn": "scale",
    "batch_size": "token_budget, the tokens of a batch: it is chosen for the device unless you set it",
    "passage_max_length": "max_length, for query and passage together",
    "query_instruction_for_rerank": "query_instruction",
    "passage_instruction_for_rerank": "passage_instruction",
    **dict.fromkeys(
        ("model_kwargs", "cross_encoder_kwargs", "automodel_args", "tokenizer_kwargs"),
        "the fields themselves, such as devices, dtype and max_length",
    ),
    "client": "scorer",
    "cross_encoder": "scorer",
    "trust_remote_code": "nothing in its place: no remote code is ever run, and none is needed",
}
"""The name here, or what to use instead, by the name elsewhere."""
