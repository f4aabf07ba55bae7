"""Training examples: a collection of passages, queries with their relevant passages, and labels for candidates.

Queries come from the structure of the text: a heading asks for its section, a FAQ question for its answer, a word for
its definition, and a sentence taken out of a passage (with words dropped and swapped for synonyms) for the rest of
that passage. Candidates are the best 50 by BM25 with stemming; each is labelled by how the teacher's embeddings and
BM25 score it, and by whether it is known to be relevant.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bge_rerank_integrations.corpus import join_paragraphs, language_reference
from training import sources
from training.candidates import retrieve
from training.sources import Section

# Text that the language reference or the FAQ repeats: the evaluation is about these.
EVALUATED_PAGES = re.compile(r"python/(reference|faq)/|python/library/(stdtypes|string|pdb)\.html")
# Whole pages for choosing among checkpoints, never trained on.
DEVELOPMENT_PAGES = re.compile(
    r"perl/perlfaq[458]$|python/tutorial/(classes|controlflow|errors)|python/howto/(logging|unicode|sockets)|git/git-(rebase|log)"
    r"|python/library/(subprocess|csv|collections|itertools|datetime|argparse|threading|sqlite3|re|asyncio-task|dataclasses)\.html"
    r"|postgresql/(indexes|mvcc|explicit-locking|using-explain|ddl-constraints|queries)"
)
# Passages a source may contribute; the rest is left out, whole pages at a time.
MOST_PASSAGES = {"python": 10000, "postgresql": 4000, "perl": 4000, "git": 3500, "foldoc": 3500, "docstrings": 3000}
GENERIC_TITLES = re.compile(
    r"(description|examples?|notes?|see also|options?|parameters|synopsis|author|name|overview|introduction"
    r"|compatibility|outputs?|diagnostics|bugs|git|summary|usage|deprecated|removed|api changes|arguments"
    r"|return value|.*manual page)\W*",
    re.I,
)
STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the of to in on for and or is are was were be been being it its this that these those as at by with from
        which can will not if has have had do does did but also may such than then so other any all one when where into
        only i e g etc via using""",
    )
)
QUESTIONS = (
    "{}",
    "{}",
    "what is {}",
    "how do i {}",
    "how to {}",
    "how does {} work",
    "why {}",
    "when does {}",
    "what happens {}",
    "can i {}",
    "what does {} mean",
    "is there a way to {}",
    "explain {}",
    "difference {}",
    "how can i use {}",
    "where is {}?",
)


@dataclass(frozen=True)
class Entry:
    """A passage of the collection."""

    source: str
    group: str
    page: str
    title: str
    text: str


@dataclass
class Collection:
    """Passages, and queries as (text, indices of the relevant passages, kind)."""

    entries: list[Entry] = field(default_factory=list)
    queries: list[tuple[str, list[int], str]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [entry.text for entry in self.entries]

    def part(self, share: float, seed: int) -> "Collection":
        """About this share of it: whole pages, with the queries that ask for their passages."""
        pages = sorted({(entry.source, entry.page) for entry in self.entries})
        kept_pages = set(random.Random(seed).sample(pages, round(share * len(pages))))
        kept = [i for i, entry in enumerate(self.entries) if (entry.source, entry.page) in kept_pages]
        indices = {old: new for new, old in enumerate(kept)}
        queries = [
            (query, [indices[i] for i in relevant], kind)
            for query, relevant, kind in self.queries
            if all(i in indices for i in relevant)
        ]
        return Collection([self.entries[i] for i in kept], queries)


def sentences(text: str) -> list[str]:
    """The sentences of a passage that are prose of 6 to 40 words."""
    found = (s.strip() for line in text.split("\n") for s in re.split(r"(?<=[.!?])\s+(?=[A-Z\"“*`(])", line))
    return [s for s in found if 6 <= len(s.split()) <= 40 and re.match(r"[A-Z\"“*`(]", s) and s[-1] in ".!?:)"]


def garble(sentence: str, table: dict[str, list[str]], rng: random.Random, dropped: float, swapped: float) -> str:
    """Drop a share of the words, function words first, and swap a share of the others for WordNet synonyms."""
    kept = []
    for word in sentence.split():
        bare = re.sub(r"\W+", "", word).lower()
        if rng.random() < (min(1.0, 1.6 * dropped) if bare in STOPWORDS else 0.8 * dropped):
            continue
        others = table.get(bare) or table.get(bare.removesuffix("s"))
        kept.append(rng.choice(others) if others and bare not in STOPWORDS and rng.random() < swapped else word)
    return " ".join(kept) or sentence


def shingles(text: str, size: int = 10) -> Iterator[int]:
    """Hashes of every run of `size` words, to find text that occurs twice."""
    words = re.findall(r"\w+", text.lower())
    for start in range(len(words) - size + 1):
        yield hash(tuple(words[start : start + size]))


def training_sections() -> Iterator[Section]:
    """Every section that may be trained on or developed with: nothing of the language reference or the FAQ."""
    readers = [sources.html_tree(name) for name in sources.HTML_TREES]
    for reader in [*readers, sources.perl_pods(), sources.docstrings(), sources.foldoc()]:
        yield from (section for section in reader if not EVALUATED_PAGES.match(section.group))


def build_collection(sections: Iterable[Section], rng: random.Random, table: dict[str, list[str]]) -> Collection:
    """Cut sections into passages and make the queries; in about every second passage, one sentence becomes a query."""
    collection = Collection()
    for section in sections:
        title_query = _title_query(section, rng)
        indices = []
        for text in join_paragraphs(list(section.paragraphs)):
            if len(text.split()) < 8:
                continue
            index = len(collection.entries)
            text = _ask_sentence(text, index, collection, rng, table)
            collection.entries.append(Entry(section.source, section.group, section.page, section.title, text))
            indices.append(index)
            _ask_keywords(text, index, collection, rng, table)
        if indices and title_query:
            kind = "question" if section.title.endswith("?") else "heading"
            collection.queries.append((title_query, indices[:6], kind))
    return collection


def _title_query(section: Section, rng: random.Random) -> str:
    title = re.sub(r"\(.*", "", section.title) if section.source in ("docstrings", "python") else section.title
    if "." in title and " " not in title:
        title = re.sub(r"[._]+|(?<=[a-z])(?=[A-Z])", " ", title)
    if GENERIC_TITLES.fullmatch(title) or (len(title.split()) < 2 and section.page != section.title):
        title = f"{section.page} {title}" if not GENERIC_TITLES.fullmatch(section.page) else ""
    if section.title.endswith("?") or rng.random() < 0.6 or not title:
        return title
    return rng.choice(QUESTIONS).format(title)


def _ask_sentence(
    text: str, index: int, collection: Collection, rng: random.Random, table: dict[str, list[str]]
) -> str:
    """Sometimes take one sentence out of the passage and make it a query. Returns the rest of the passage."""
    prose = sentences(text)
    if len(prose) < 2 or len(text.split()) < 30 or rng.random() < 0.4:
        return text
    taken = rng.choice(prose)
    collection.queries.append(
        (garble(taken, table, rng, rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.5)), [index], "sentence")
    )
    return (
        " ".join(text.replace(taken, "", 1).split(" ")).strip() if len(text.split()) - len(taken.split()) > 15 else text
    )


def _ask_keywords(
    text: str, index: int, collection: Collection, rng: random.Random, table: dict[str, list[str]]
) -> None:
    """A simple question made of a few content words of one sentence of the passage."""
    prose = sentences(text)
    if not prose or rng.random() < 0.5:
        return
    words = [w for w in re.findall(r"[\w.]*\w", rng.choice(prose)) if w.lower() not in STOPWORDS]
    count = rng.randint(2, 6)
    start = rng.randrange(max(1, len(words) - count))
    chosen = words[start : start + count + 2]
    chosen = [w for w in chosen if rng.random() < 0.75] or chosen
    swapped = garble(" ".join(chosen), table, rng, 0.0, 0.35)
    collection.queries.append((rng.choice(QUESTIONS).format(swapped), [index], "keywords"))


def add_definitions(collection: Collection, rng: random.Random, count: int) -> None:
    """WordNet: "what is the capital of France?" asks for "Paris: the capital and largest city of France"."""
    synsets = [synset for synset in sources.wordnet() if len(synset[1].split()) > 4]
    for words, gloss, examples in rng.sample(synsets, count):
        index = len(collection.entries)
        name = words[0]
        asked = re.split(r"[;,(]", gloss)[0].strip() or gloss
        form = rng.randrange(4)
        text = f"{name} is {gloss}." if form == 0 else f"{', '.join(words[:3])}: {gloss}"
        if examples and form == 1:
            query = examples[0]
        elif form == 2 and len(words) > 1:
            query, text = f"what is {words[-1]}?", f"{name}: {gloss} {' '.join(examples[:1])}"
        else:
            query = rng.choice(["what is {}", "{}", "What is {}?", "who is {}", "which {}"]).format(asked)
        collection.entries.append(Entry("wordnet", "wordnet", name, name, text))
        collection.queries.append((query, [index], "definition"))


def evaluated_text() -> set[int]:
    """Shingles of all texts that the evaluation uses."""
    texts = [passage.text for passage in language_reference()]
    texts += [paragraph for section in sources.python_faq() for paragraph in section.paragraphs]
    return {shingle for text in texts for shingle in shingles(text)}


def read_all(seed: int = 0) -> tuple[Collection, Collection]:
    """The training and the development collection; sections that repeat ten words of the evaluation are left out."""
    rng = random.Random(seed)
    table = sources.synonyms()
    known = evaluated_text()
    training: list[Section] = []
    development: list[Section] = []
    for section in training_sections():
        if known.isdisjoint(s for paragraph in section.paragraphs for s in shingles(paragraph)):
            (development if DEVELOPMENT_PAGES.match(section.group) else training).append(section)
    groups = sorted({section.group for section in training})
    rng.shuffle(groups)
    order = {group: rank for rank, group in enumerate(groups)}
    training.sort(key=lambda section: order[section.group])
    budget = {source: int(most * 50) for source, most in MOST_PASSAGES.items()}  # in words, some 50 a passage
    chosen = []
    for section in training:
        budget[section.source] = budget.get(section.source, 10**9) - sum(len(p.split()) for p in section.paragraphs)
        if budget[section.source] > 0:
            chosen.append(section)
    collection = build_collection(chosen, rng, table)
    add_definitions(collection, rng, 9000)
    return collection, build_collection(development, rng, table)


@dataclass
class Pools:
    """For every query its candidates: passage indices, BM25 scores, whether relevant. Shapes: (queries, candidates)."""

    passages: np.ndarray
    bm25: np.ndarray
    relevant: np.ndarray


def build_pools(collection: Collection) -> Pools:
    """BM25's candidates, with the first relevant passage as the last candidate of pools that miss all of them."""
    found, scores = retrieve(collection.texts, [query for query, _, _ in collection.queries])
    found = found.astype(np.int32)
    relevant = np.zeros(found.shape, dtype=bool)
    for row, (_, indices, _) in enumerate(collection.queries):
        relevant[row] = np.isin(found[row], indices)
        if not relevant[row].any():
            found[row, -1] = indices[0]
            relevant[row, -1] = True
    return Pools(found, scores.astype(np.float32), relevant)
