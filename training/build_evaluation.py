"""Build the package's frozen evaluation set from the language reference, Python's FAQ and the hand-written questions.

    python -m training.build_evaluation

No model was trained on any of this: all topics of the language reference and the whole FAQ are held out, and training
text that shares ten words in a row with them is dropped. The shipped file was built with Python 3.11 and Debian's
python3-doc 3.11; other versions have other text.

The corpus is every passage of the language reference and of the FAQ's answers. Four kinds of query:

- faq: a question of the FAQ; relevant are the passages of its answer.
- heading: a heading of the language reference; relevant are the passages below it (at most 12, else it is left out).
- sentence: a sentence taken out of its passage, a share of its words dropped and others swapped for WordNet synonyms;
  relevant is the passage it came from, which no longer has it: with the sentence left in, finding equal words would
  be enough, and a reranker must find what belongs together in other words.
- question: written by hand from the point of view of someone who does not know the reference's words.

The first line of the file is the corpus, every other line a query with the indices of its relevant passages.
"""

import gzip
import json
import random
from collections.abc import Iterable

from bge_rerank_integrations.corpus import Passage, join_paragraphs, language_reference
from bge_rerank_integrations.demo.evaluation_set import EVALUATION, Kind, Query, load_questions
from training import sources
from training.data import GENERIC_TITLES, garble, sentences

SEED = 2026
SENTENCES = 110
MOST_BELOW_HEADING = 12


def faq_passages() -> list[Passage]:
    """The answers of Python's FAQ in passages; the title is the question."""
    passages: dict[str, Passage] = {}
    for section in sources.python_faq():
        for text in join_paragraphs(list(section.paragraphs)):
            passages.setdefault(text, Passage(section.group, section.title, text))
    return list(passages.values())


def by_title(passages: list[Passage]) -> dict[str, list[int]]:
    """Indices of the passages below each title."""
    indices: dict[str, list[int]] = {}
    for index, passage in enumerate(passages):
        indices.setdefault(passage.title, []).append(index)
    return indices


def build() -> tuple[list[Passage], list[Query]]:
    """The corpus, and the queries about it."""
    rng = random.Random(SEED)
    reference, faq = language_reference(), faq_passages()
    corpus = reference + faq
    queries: list[Query] = []

    def add(kind: Kind, text: str, relevant: Iterable[int]) -> None:
        queries.append(Query(text, kind, tuple(relevant)))

    for title, indices in by_title(faq).items():
        add("faq", title, [len(reference) + index for index in indices])
    for title, indices in by_title(reference).items():
        if len(indices) <= MOST_BELOW_HEADING and not GENERIC_TITLES.fullmatch(title) and title != "Footnotes":
            add("heading", title, indices)
    questions = load_questions(reference)
    asked = {index for question in questions for index in question.relevant}
    queries += questions

    table = sources.synonyms()
    for index in rng.sample(range(len(reference)), len(reference)):
        passage = reference[index]
        prose = [s for s in sentences(passage.text) if len(s.split()) >= 10 and " in version " not in s]
        if len([query for query in queries if query.kind == "sentence"]) == SENTENCES:
            break
        if index in asked or len(prose) < 2 or len(passage.text.split()) < 45:
            continue
        taken = rng.choice(prose)
        add("sentence", garble(taken, table, rng, dropped=0.3, swapped=0.3), [index])
        corpus[index] = Passage(passage.topic, passage.title, passage.text.replace(taken, "", 1).strip())
    return corpus, queries


def main() -> None:
    corpus, queries = build()
    lines: list[dict[str, object]] = [{"corpus": [[p.topic, p.title, p.text] for p in corpus]}]
    lines += [{"kind": query.kind, "query": query.text, "relevant": query.relevant} for query in queries]
    with EVALUATION.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    size = EVALUATION.stat().st_size
    print(f"{len(corpus)} passages, {len(queries)} queries, {size:,} bytes in {EVALUATION.name}")


if __name__ == "__main__":
    main()
