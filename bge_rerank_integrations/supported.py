"""Which checkpoints load, and by which way: what `bge-rerank models --all` and the page on checkpoints show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Supported:
    """One line: checkpoints of one kind."""

    base: str
    """The model that a reranker is made from."""
    model_type: str
    """What its config.json says."""
    head: str
    """What makes the score."""
    family: str

    @property
    def way(self) -> str:
        """Which forward pass runs it."""
        return "transformers" if self.family == "classifier" else "native"


LABELS = "sequence classification, one or two labels"
YES = '"Yes" after the publisher\'s prompt, or the tokens of a LogitScore'
SUPPORTED = (
    *(
        Supported(base, model_type, LABELS, "encoder")
        for base, model_type in (
            ("XLM-RoBERTa", "xlm-roberta"),
            ("RoBERTa", "roberta"),
            ("CamemBERT", "camembert"),
            ("BERT", "bert"),
        )
    ),
    *(
        Supported(base, model_type, YES, "llm")
        for base, model_type in (
            ("Gemma", "gemma"),
            ("Gemma 2", "gemma2"),
            ("Gemma 3 (text)", "gemma3_text"),
            ("Llama", "llama"),
            ("MiniCPM", "minicpm"),
            ("Mistral", "mistral"),
            ("Qwen 2, 2.5", "qwen2"),
            ("Qwen 3", "qwen3"),
        )
    ),
    Supported("Qwen3-Reranker", "qwen3", 'its own prompt, "yes" against "no"', "llm"),
    Supported("mxbai-rerank-v2", "qwen2", 'its own prompt, "1" against "0"', "llm"),
    Supported("MiniCPM", "minicpm", "a head after each layer", "layerwise"),
    Supported("Gemma 2", "cost_wise_gemma, gemma2", "heads after several layers", "lightweight"),
    *(
        Supported(base, model_type, LABELS, "classifier")
        for base, model_type in (
            ("ALBERT", "albert"),
            ("DeBERTa v2, v3", "deberta-v2"),
            ("DistilBERT", "distilbert"),
            ("ELECTRA", "electra"),
            ("ModernBERT", "modernbert"),
            ("MPNet", "mpnet"),
            ("Gemma", "gemma"),
            ("Gemma 2", "gemma2"),
            ("Gemma 3 (text)", "gemma3_text"),
            ("Llama", "llama"),
            ("Qwen 2, 2.5", "qwen2"),
            ("Qwen 3", "qwen3"),
        )
    ),
)
"""Each is tested. transformers has more bases with a sequence-classification class: these load, too, by the family
classifier."""
FILES = (
    ("transformers, FlagEmbedding", "config.json, tokenizer.json and safetensors, in one file or several"),
    ("peft", "a LoRA adapter: adapter_config.json and adapter_model.safetensors, merged into its base while it loads"),
    (
        "sentence-transformers",
        "modules.json with a Transformer, and a LogitScore after it if it is a language model; prompts, activation "
        "(Sigmoid or Identity), chat_template.jinja with a query and a document",
    ),
)
"""Whose folders load, and what of them is read."""
