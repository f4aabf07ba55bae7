"""`bge-rerank demo`: passages are retrieved, reranked in both frameworks, and shown before and after."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bge_rerank_integrations.extras import require

require("demo")

from rich.console import Console
from rich.table import Table

from bge_rerank_integrations.corpus import Passage
from bge_rerank_integrations.demo.evaluation_set import load_passages
from bge_rerank_integrations.demo.figures import load_figures, rank_of
from bge_rerank_integrations.demo.reading import unread_words
from bge_rerank_integrations.model.hub import EMBEDDED
from bge_rerank_integrations.retrieval import BM25Index
from bge_rerank_integrations.scorer import Scorer
from bge_rerank_integrations.terminal import escape

CANDIDATES = 50
QUESTIONS = (
    "What does a function return if it has no return statement?",
    "Wrap a function with another one using the at sign",
    "Attach the original error as the cause of a new one",
)
"""Of the evaluation set: their answers are among BM25's candidates and move up."""
LARGER = "--model BAAI/bge-reranker-v2-m3"


@dataclass(frozen=True)
class Comparison:
    """One question's candidates before and after, and the seconds each framework took to rerank them."""

    before: list[int]
    """Their indices in the corpus, best first."""
    after: list[tuple[int, float]]
    """The same in the new order, with their scores."""
    langchain_seconds: float
    llama_index_seconds: float


def run(scorer: Scorer, name: str, asked: Sequence[str] | None, top_n: int, console: Console) -> None:
    """Answer each question that is asked, or `QUESTIONS`, and print its table; then the figures over all questions."""
    started = time.perf_counter()
    passages, known = load_passages()
    index = BM25Index([passage.text for passage in passages])
    shown = "the first is shown" if top_n == 1 else f"the first {top_n} are shown"
    console.print(
        f"[bold]{len(passages):,}[/] passages of Python's documentation indexed with BM25 in "
        f"{time.perf_counter() - started:.1f} s. For each question the best {CANDIDATES} are reranked by "
        f"[bold]{escape(name)}[/]; {shown}."
    )
    if name in EMBEDDED:
        console.print(
            f"[yellow]{name}[/] is a small demonstration model that comes with this package and reads English. For "
            f"real work: {LARGER}"
        )
    if asked is None:
        console.print(
            f"The questions were chosen because their [bold green]answer[/] is among BM25's {CANDIDATES} and moves up "
            "with the model [bold]demo[/]. It does not always: the figures at the end are over all questions."
        )
    answers = {query.text: query.relevant for query in known}
    for question in asked or QUESTIONS:
        found = [i for i, _ in index.search(question, CANDIDATES)]
        console.print()
        if name in EMBEDDED and (unread := unread_words(name, question)):
            console.print(
                f"[bold]{escape(question)}[/]: {name} cannot read {escape(', '.join(unread))}, in a script that it has "
                f"not seen. Ask in English, which the passages are in too. Many languages: {LARGER}"
            )
        elif not found:
            console.print(f"[bold]{escape(question)}[/]: no passage shares a word with it. The passages are English.")
        else:
            compared = compare(scorer, name, question, found, [passages[i].text for i in found])
            console.print(_table(question, compared, passages, answers.get(question, ()), top_n))
    console.print()
    console.print(_figures(name, len(known)))


def compare(scorer: Scorer, name: str, question: str, indices: list[int], texts: list[str]) -> Comparison:
    """Rerank passages with the LangChain compressor and with the LlamaIndex postprocessor."""
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from bge_rerank_integrations.langchain import BGERerank as LangChainRerank
    from bge_rerank_integrations.llama_index import BGERerank as LlamaIndexRerank

    documents = [Document(page_content=text, metadata={"index": i}) for i, text in zip(indices, texts, strict=True)]
    compressor = LangChainRerank(model=name, scorer=scorer, top_n=None)
    started = time.perf_counter()
    compressed = compressor.compress_documents(documents, question)
    langchain_seconds = time.perf_counter() - started

    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(i))) for i, text in zip(indices, texts, strict=True)]
    postprocessor = LlamaIndexRerank(model=name, scorer=scorer, top_n=None)
    started = time.perf_counter()
    chosen = postprocessor.postprocess_nodes(nodes, query_str=question)
    llama_index_seconds = time.perf_counter() - started

    after = [(document.metadata["index"], document.metadata["relevance_score"]) for document in compressed]
    if [int(node.node.node_id) for node in chosen] != [i for i, _ in after]:
        raise AssertionError("LangChain and LlamaIndex gave different rankings")
    return Comparison(indices, after, langchain_seconds, llama_index_seconds)


def _table(
    question: str, found: Comparison, passages: Sequence[Passage], answers: Collection[int], top_n: int
) -> Table:
    table = Table(
        title=f"[bold]{escape(question)}[/]",
        title_justify="left",
        caption=(
            f"{_moved(found, answers)}{len(found.before)} passages reranked in {found.langchain_seconds * 1000:,.0f} "
            f"ms through LangChain, {found.llama_index_seconds * 1000:,.0f} ms through LlamaIndex: the same ranking"
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
    for rank, (before, (after, score)) in enumerate(zip(found.before[:top_n], found.after, strict=False), 1):
        cells = (_excerpt(passages[i], is_answer=i in answers) for i in (before, after))
        table.add_row(str(rank), *cells, f"{score:.2f}", str(found.before.index(after) + 1))
    return table


def _moved(found: Comparison, answers: Collection[int]) -> str:
    """From where to where the answer moved, if it is known."""
    if not answers:
        return ""
    before, after = rank_of(answers, found.before), rank_of(answers, [i for i, _ in found.after])
    if not before:
        return f"The answer is not among BM25's {len(found.before)}, so that no reranker can find it. "
    return f"The answer was at {before} and is at {after}. "


def _excerpt(passage: Passage, length: int = 150, *, is_answer: bool) -> str:
    text = " ".join(passage.text.split())
    mark = "[bold green]Answer:[/] " if is_answer else ""
    return f"{mark}[cyan]{escape(passage.title)}[/] {escape(text if len(text) <= length else text[:length] + '…')}"


def _figures(name: str, count: int) -> str:
    figures = load_figures(name)
    if figures is None:
        return (
            f"Over all {count} questions nothing was measured with {escape(name)}. In a clone: python -m "
            f"training.evaluate --model {escape(name)}"
        )
    (first_before, first_after), (five_before, five_after) = figures.within(1), figures.within(5)
    stays = figures.found - figures.up - figures.down
    return (
        f"All {count} questions of the evaluation set, measured with {name}: the answer is among BM25's {CANDIDATES} "
        f"for {figures.found}. There it moves up for {figures.up}, stays for {stays} and "
        f"moves down for {figures.down}. It is first for {first_before} before and {first_after} after, among the "
        f"first five for {five_before} before and {five_after} after."
    )
