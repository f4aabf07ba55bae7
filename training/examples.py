"""Labelled candidates, and the padded batches that the model is trained on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training import student
from training.candidates import standardised
from training.data import Collection, build_pools
from training.teacher import embed

CANDIDATES = 10  # of each query in a step
QUERY_TOKENS, PASSAGE_TOKENS = 32, 112
# A label is the sum of these, each part standardised over the query's pool: the teacher's cosine, BM25's score, and
# whether the candidate is known to be relevant. On the development set the teacher alone is better than the
# two with equal weights.
TEACHER_WEIGHT, BM25_WEIGHT, KNOWN_RELEVANT = 1.8, 0.5, 1.0

Pair = tuple[list[int], list[int]]  # token ids of a query and a passage


class Labelled:
    """A collection with its candidates, their labels (queries, pool), the teacher's embeddings and the token ids."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.query_vectors = embed([query for query, _, _ in collection.queries], max_tokens=64)
        self.passage_vectors = embed(collection.texts)
        self.pools = build_pools(collection)
        teacher = np.einsum("qd,qpd->qp", self.query_vectors, self.passage_vectors[self.pools.passages])
        self.labels = (
            TEACHER_WEIGHT * standardised(teacher)
            + BM25_WEIGHT * standardised(self.pools.bm25)
            + KNOWN_RELEVANT * self.pools.relevant
        )
        self.query_ids: list[list[int]] = []
        self.passage_ids: list[list[int]] = []

    def tokenize(self, tokenizer: Tokenizer) -> None:
        """Fill `query_ids` and `passage_ids`, cut to the lengths used in training."""
        queries = [query for query, _, _ in self.collection.queries]
        self.query_ids = student.token_ids(tokenizer, queries, QUERY_TOKENS)
        self.passage_ids = student.token_ids(tokenizer, self.collection.texts, PASSAGE_TOKENS)

    def choose(self, query: int, rng: np.random.Generator) -> np.ndarray:
        """Indices in a query's pool, (CANDIDATES,): one relevant, half of the others from the 15 best labelled."""
        labels = self.labels[query]
        relevant = int(rng.choice(np.flatnonzero(self.pools.relevant[query])))
        others = np.argsort(-labels, kind="stable")
        others = others[others != relevant]
        hard = rng.permutation(others[:15])[: CANDIDATES // 2]
        rest = rng.permutation(np.setdiff1d(others, hard))[: CANDIDATES - 1 - len(hard)]
        return np.array([relevant, *hard, *rest])


@dataclass(frozen=True)
class Inputs:
    """Padded `<s> query </s></s> passage </s>`; every tensor is (pairs, longest).

    `segments` is 1 on the query's tokens, 2 on the passage's and 0 elsewhere.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor


def padded(pairs: list[Pair]) -> Inputs:
    """The model's inputs for pairs of token ids."""
    longest = max(len(query) + len(passage) for query, passage in pairs) + 4
    ids = torch.full((len(pairs), longest), student.PAD)
    segments = torch.zeros_like(ids)
    for row, (query, passage) in enumerate(pairs):
        tokens = [student.BOS, *query, student.EOS, student.EOS, *passage, student.EOS]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        segments[row, 1 : len(query) + 1] = 1
        segments[row, len(query) + 3 : len(tokens) - 1] = 2
    positions = torch.where(ids == student.PAD, student.PAD, torch.arange(longest) + student.PAD + 1)
    return Inputs(ids, positions, segments)


def by_length(pairs: list[Pair], size: int) -> Iterator[list[int]]:
    """Indices of the pairs in groups of `size` of similar length, so that little is padding."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


@dataclass(frozen=True)
class Batch:
    """One step: some queries, `CANDIDATES` passages for each.

    `labels` is (queries, CANDIDATES); `pairs` is flat, and `query_vectors` and `passage_vectors` hold the teacher's
    embeddings for each of the pairs, (pairs, teacher's width).
    """

    labels: Tensor
    pairs: list[Pair]
    query_vectors: Tensor
    passage_vectors: Tensor


def draws(
    labelled: Labelled, queries: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """Labels (queries, CANDIDATES), and for each pair the indices of its query and its passage, both flat.

    `queries` queries at a time, endlessly; every query comes once before any comes again.
    """
    while True:
        order = rng.permutation(len(labelled.collection.queries))
        for begin in range(0, len(order) - queries + 1, queries):
            chosen = order[begin : begin + queries]
            indices = np.stack([labelled.choose(query, rng) for query in chosen])
            rows = np.repeat(chosen, CANDIDATES)
            labels = torch.from_numpy(labelled.labels[chosen[:, None], indices]).float()
            yield labels, rows, labelled.pools.passages[rows, indices.ravel()]


def batches(labelled: Labelled, queries: int, rng: np.random.Generator) -> Iterator[Batch]:
    """The draws as batches for the encoder."""
    for labels, rows, passages in draws(labelled, queries, rng):
        yield Batch(
            labels=labels,
            pairs=[(labelled.query_ids[q], labelled.passage_ids[p]) for q, p in zip(rows, passages, strict=True)],
            query_vectors=torch.from_numpy(labelled.query_vectors[rows]),
            passage_vectors=torch.from_numpy(labelled.passage_vectors[passages]),
        )
