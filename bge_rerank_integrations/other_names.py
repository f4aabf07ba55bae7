"""What other rerankers, and FlagEmbedding, call the options: for errors that say the name they have here."""

from __future__ import annotations

from collections.abc import Collection

OPTIONS = {
    **dict.fromkeys(("top_k", "topk", "k", "topn", "n", "num_results"), "top_n"),
    **dict.fromkeys(
        ("threshold", "min_score", "minimum_score", "relevance_threshold", "similarity_cutoff"), "score_threshold"
    ),
    **dict.fromkeys(("model_name", "model_name_or_path", "model_id", "model_path", "model_dir", "repo_id"), "model"),
    **dict.fromkeys(("device", "device_map", "device_type", "target_devices"), "devices"),
    **dict.fromkeys(("torch_dtype", "precision"), "dtype"),
    **dict.fromkeys(("cache_folder", "model_cache_dir"), "cache_dir"),
    "offline": "local_files_only",
    **dict.fromkeys(("max_seq_length", "max_len", "passage_max_length", "passage_max_len"), "max_length"),
    "query_max_len": "query_max_length",
    **dict.fromkeys(("use_auth_token", "hf_token"), "token"),
    **dict.fromkeys(("cohere_api_key", "jina_api_key", "voyage_api_key", "nvidia_api_key", "api_token"), "api_key"),
    **dict.fromkeys(("model_uid", "served_model_name"), "served_model"),
    **dict.fromkeys(("cutoff_layers", "cutoff"), "cutoff_layer"),
    "compress_layer": "compress_layers",
    **dict.fromkeys(("query_instruction_for_rerank", "query_prefix"), "query_instruction"),
    **dict.fromkeys(("passage_instruction_for_rerank", "document_prefix", "passage_prefix"), "passage_instruction"),
    **dict.fromkeys(("rank_fields", "meta_fields_to_embed", "metadata_keys"), "metadata_fields"),
    **dict.fromkeys(("client", "cross_encoder", "reranker"), "scorer"),
    **dict.fromkeys(("batch_size", "max_batch_size"), "token_budget"),
    **dict.fromkeys(("normalize", "normalise", "scale_score", "apply_softmax"), "scale"),
    **dict.fromkeys(("activation_fn", "activation_function", "default_activation_function"), "scale"),
    **dict.fromkeys(("use_fp16", "fp16", "use_bf16", "bf16"), "dtype"),
}
"""The option here, by a name that it has elsewhere."""

WRITTEN = {
    "devices": "devices, such as 'cuda:0'",
    "dtype": "dtype, such as 'float16' or 'bfloat16'",
    "scale": "scale='sigmoid'",
    "max_length": "max_length, for query and passage together",
    "token_budget": "token_budget, the tokens of a batch, which is chosen for the device unless you set it",
    "cutoff_layer": "cutoff_layer, a single one",
}
"""How to write some of them, where the name alone does not tell."""

REMEDIES = {
    **dict.fromkeys(
        ("base_url", "api_base", "api_url", "server_url", "endpoint"),
        "the server's address as model, such as 'http://localhost:8080', with dialect",
    ),
    **dict.fromkeys(
        (
            "model_kwargs",
            "cross_encoder_kwargs",
            "automodel_args",
            "tokenizer_kwargs",
            "config_kwargs",
            "encode_kwargs",
        ),
        "the options themselves, such as devices, dtype and max_length",
    ),
    **dict.fromkeys(
        ("trust_remote_code", "backend", "use_dataloader", "num_workers"),
        "nothing in its place, since there is nothing to choose",
    ),
}
"""What to use instead of names that no option corresponds to."""

HINTS = {**{name: WRITTEN.get(option, option) for name, option in OPTIONS.items()}, **REMEDIES}
"""What to use here, by the name elsewhere."""


def instead(name: str, known: Collection[str]) -> str | None:
    """What to use for another library's name where the `known` options can be given; None: nothing is known to do."""
    return HINTS[name] if name in REMEDIES or OPTIONS.get(name) in known else None
