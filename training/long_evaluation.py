"""Write an evaluation set whose answers stand after the cut, as a folder that `bge-rerank evaluate` takes.

    python -m training.long_evaluation long-data --queries 100
    bge-rerank evaluate long-data --candidates long-data/bm25.run --out long-results \
        --config demo --config demo,long=windows,max_windows=4

Each passage of the package's evaluation set is put after other passages of its corpus, drawn at random, which fill the
512 tokens that a model reads. The candidates are BM25's best of the short passages, so that the fillers do not count
in the first stage.
"""

import argparse
import json
import random
from pathlib import Path

from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set
from training.candidates import retrieve

WORDS = 400
"""Of fillers before each passage: more than 512 tokens of this corpus."""


def filled(texts: list[str], index: int, dice: random.Random) -> str:
    """A passage after as many others as it takes."""
    fillers: list[str] = []
    while sum(len(filler.split()) for filler in fillers) < WORDS:
        drawn = dice.randrange(len(texts))
        if drawn != index:
            fillers.append(texts[drawn])
    return "\n".join([*fillers, texts[index]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=100, help="how many, drawn at random; default: 100")
    parser.add_argument("--depth", type=int, default=20, help="candidates of each; default: 20")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts, queries = load_evaluation_set()
    dice = random.Random(arguments.seed)
    queries = dice.sample(queries, min(arguments.queries, len(queries)))
    found, scores = retrieve(texts, [query.text for query in queries])
    folder: Path = arguments.folder
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for index in range(len(texts)):
            file.write(json.dumps({"_id": f"d{index}", "text": filled(texts, index, dice)}) + "\n")
    judged = ["query-id\tcorpus-id\tscore"]
    ranked = []
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as file:
        for number, query in enumerate(queries):
            file.write(json.dumps({"_id": f"q{number}", "text": query.text}) + "\n")
            judged += [f"q{number}\td{index}\t1" for index in query.relevant]
            best = list(zip(found[number].tolist(), scores[number].tolist(), strict=True))[: arguments.depth]
            ranked += [f"q{number} Q0 d{index} {rank} {score} bm25" for rank, (index, score) in enumerate(best, 1)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n", encoding="utf-8")
    (folder / "bm25.run").write_text("\n".join(ranked) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
