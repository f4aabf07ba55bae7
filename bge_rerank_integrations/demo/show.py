"""`bge-rerank demo`: real passages retrieved, reranked through both frameworks, and shown before and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bge_rerank_integrations.extras import require

require("demo")

from rich.console import Console
from rich.table import Table

from bge_rerank_integrations.corpus import Passage, language_reference
from bge_rerank_integrations.model.hub import EMBEDDED
from bge_rerank_integrations.retrieval import BM25Index
from bge_rerank_integrations.scorer import Scorer
from bge_rerank_integrations.terminal import escape

CANDIDATES = 50
QUESTIONS = (
    "How can I make an object behave like a function?",
    "What happens to local names when a function assigns to them?",
    "How does Python decide which method to call with several parent classes?",
)


@dataclass(frozen=True)
class Comparison:
    """One question's passages before and after, best first, and the seconds each framework took to rerank them."""

    before: list[Passage]
    after: list[tuple[Passage, float]]
    langchain_seconds: float
    llama_index_seconds: float


def run(scorer: Scorer, name: str, questions: Sequence[str], top_n: int, console: Console) -> None:
    """Answer each question and print its table."""
    started = time.perf_counter()
    passages = language_reference()
    index = BM25Index([f"{p.title}\n{p.text}" for p in passages])
    console.print(
        f"[bold]{len(passages):,}[/] passages of the Python language reference indexed with BM25 in "
        f"{time.perf_counter() - started:.1f} s. For each question the best {CANDIDATES} are reranked by "
        f"[bold]{escape(name)}[/] and cut to {top_n}."
    )
    if name in EMBEDDED:
        console.print(
            f"[yellow]{name}[/] is a small demonstration model that comes with this package. For real work: "
            "--model BAAI/bge-reranker-v2-m3"
        )
    for question in questions:
        retrieved = [passages[i] for i, _ in index.search(question, CANDIDATES)]
        console.print()
        if not retrieved:
            console.print(f"[bold]{escape(question)}[/]: no passage shares a word with it.")
            continue
        console.print(_table(question, compare(scorer, name, question, retrieved, top_n), top_n))


def compare(scorer: Scorer, name: str, question: str, passages: list[Passage], top_n: int) -> Comparison:
    """Rerank passages through the LangChain compressor and through the LlamaIndex postprocessor."""
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from bge_rerank_integrations.langchain import BGERerank as LangChainRerank
    from bge_rerank_integrations.llama_index import BGERerank as LlamaIndexRerank

    documents = [Document(page_content=p.text, metadata={"index": i}) for i, p in enumerate(passages)]
    compressor = LangChainRerank(model=name, scorer=scorer, top_n=top_n)
    started = time.perf_counter()
    compressed = compressor.compress_documents(documents, question)
    langchain_seconds = time.perf_counter() - started

    nodes = [NodeWithScore(node=TextNode(text=p.text, id_=str(i))) for i, p in enumerate(passages)]
    postprocessor = LlamaIndexRerank(model=name, scorer=scorer, top_n=top_n)
    started = time.perf_counter()
    chosen = postprocessor.postprocess_nodes(nodes, query_str=question)
    llama_index_seconds = time.perf_counter() - started

    after = [(passages[d.metadata["index"]], d.metadata["relevance_score"]) for d in compressed]
    if [passages[int(node.node.node_id)] for node in chosen] != [passage for passage, _ in after]:
        raise AssertionError("LangChain and LlamaIndex gave different rankings")
    return Comparison(passages, after, langchain_seconds, llama_index_seconds)


def _table(question: str, found: Comparison, top_n: int) -> Table:
    table = Table(
        title=f"[bold]{escape(question)}[/]",
        title_justify="left",
        caption=(
            f"{len(found.before)} passages reranked in {found.langchain_seconds * 1000:,.0f} ms through LangChain, "
            f"{found.llama_index_seconds * 1000:,.0f} ms through LlamaIndex: the same ranking"
        ),
        caption_justify="left",
        show_lines=True,
        expand=True,
    )
    table.add_column("", justify="right", style="dim", width=2)
    table.add_column("before: BM25", ratio=1)
    table.add_column("after: reranked", ratio=1)
    table.add_column("score", justify="right", width=7)
    table.add_column("was", justify="right", width=4)
    for rank in range(min(top_n, len(found.before))):
        after = found.after[rank] if rank < len(found.after) else None
        table.add_row(
            str(rank + 1),
            _excerpt(found.before[rank]),
            _excerpt(after[0]) if after else "",
            f"{after[1]:.2f}" if after else "",
            str(found.before.index(after[0]) + 1) if after else "",
        )
    return table


def _excerpt(passage: Passage, length: int = 150) -> str:
    text = " ".join(passage.text.split())
    return f"[cyan]{escape(passage.title)}[/] {escape(text if len(text) <= length else text[:length] + '…')}"
