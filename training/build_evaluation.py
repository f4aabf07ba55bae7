"""Build the frozen `evaluation.jsonl.gz` from the language reference, Python's FAQ and `questions.jsonl`.

    python -m training.build_evaluation

Nothing here was ever trained on: all topics of the language reference and the whole FAQ are held out, and training
text that shares ten words in a row with them is dropped. The shipped file was built with Python 3.11 and Debian's
python3-doc 3.11; other versions have other text.

The corpus is every passage of the language reference and of the FAQ's answers. Four kinds of query:

- faq: a question of the FAQ; relevant are the passages of its answer.
- heading: a heading of the language reference; relevant are the passages below it (at most 12, else it is left out).
- sentence: a sentence taken out of its passage, a share of its words dropped and others swapped for WordNet synonyms;
  relevant is the passage it came from, which no longer has it: with the sentence left in, this would ask for copies of
  words only, while a reranker is there to find what belongs together in other words.
- question: written by hand from the point of view of someone who does not know the reference's words.

The first line of the file is the corpus, every other line a query with the places of its relevant passages.
"""

import gzip
import json
import random
from pathlib import Path

from bge_rerank_integrations.corpus import Passage, join_paragraphs, language_reference
from training import sources
from training.data import GENERIC_TITLES, garble, sentences

HERE = Path(__file__).parents[1] / "bge_rerank_integrations" / "demo"
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
    """Places of the passages below each title."""
    places: dict[str, list[int]] = {}
    for place, passage in enumerate(passages):
        places.setdefault(passage.title, []).append(place)
    return places


def handwritten(passages: list[Passage]) -> list[tuple[str, list[int]]]:
    """`questions.jsonl`; a passage is named there by words that only it (or its repetition) contains."""
    found = []
    for line in (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        relevant = {i for i, p in enumerate(passages) for words in question["passages"] if words in p.text}
        if relevant:
            found.append((question["query"], sorted(relevant)))
    return found


def build() -> tuple[list[Passage], list[dict[str, object]]]:
    """The corpus, and the queries as dictionaries with the keys query, kind, relevant."""
    rng = random.Random(SEED)
    reference, faq = language_reference(), faq_passages()
    corpus = reference + faq
    queries: list[dict[str, object]] = []

    def add(kind: str, query: str, relevant: list[int]) -> None:
        queries.append({"kind": kind, "query": query, "relevant": relevant})

    for title, places in by_title(faq).items():
        add("faq", title, [len(reference) + place for place in places])
    for title, places in by_title(reference).items():
        if len(places) <= MOST_BELOW_HEADING and not GENERIC_TITLES.fullmatch(title) and title != "Footnotes":
            add("heading", title, places)
    questions = handwritten(reference)
    asked = {place for _, relevant in questions for place in relevant}
    for query, relevant in questions:
        add("question", query, relevant)

    table = sources.synonyms()
    for place in rng.sample(range(len(reference)), len(reference)):
        passage = reference[place]
        prose = [s for s in sentences(passage.text) if len(s.split()) >= 10 and " in version " not in s]
        if len([q for q in queries if q["kind"] == "sentence"]) == SENTENCES:
            break
        if place in asked or len(prose) < 2 or len(passage.text.split()) < 45:
            continue
        taken = rng.choice(prose)
        add("sentence", garble(taken, table, rng, dropped=0.3, swapped=0.3), [place])
        corpus[place] = Passage(passage.topic, passage.title, passage.text.replace(taken, "", 1).strip())
    return corpus, queries


def main() -> None:
    corpus, queries = build()
    path = HERE / "evaluation.jsonl.gz"
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        lines = [{"corpus": [[p.topic, p.title, p.text] for p in corpus]}, *queries]
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    print(f"{len(corpus)} passages, {len(queries)} queries, {path.stat().st_size:,} bytes in {path.name}")


if __name__ == "__main__":
    main()
