"""`bge-rerank evaluate`: which reranker, with which options, to use on your own data.

    data = read_beir("my-data")
    result = evaluate(data, ["BAAI/bge-reranker-base", "BAAI/bge-reranker-v2-m3,max_length=256"], out="results")

files (`beir`, `json_lines`, `trec`) -> `data.Dataset`; strings -> `configurations`; both -> `scoring` (with `store`, to
continue after a stop) -> `metrics` -> `rows` -> `result` (with `figure`). `run.evaluate` does all of it.
"""

from bge_rerank_integrations.extras import require

require("evaluate")

from bge_rerank_integrations.evaluation.beir import read_beir
from bge_rerank_integrations.evaluation.configurations import Configuration, read_configurations
from bge_rerank_integrations.evaluation.data import Dataset
from bge_rerank_integrations.evaluation.json_lines import read_jsonl
from bge_rerank_integrations.evaluation.result import Result
from bge_rerank_integrations.evaluation.rows import Row
from bge_rerank_integrations.evaluation.run import evaluate

__all__ = [
    "Configuration",
    "Dataset",
    "Result",
    "Row",
    "evaluate",
    "read_beir",
    "read_configurations",
    "read_jsonl",
]
