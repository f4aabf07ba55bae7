"""Train the two embedded decoder rerankers, which are one network, with the package's own model classes.

    python -m training.train_decoders --out DIR --cache DIR [--steps 1000] [--start DIR]

Needs what `train` needs, and the embedded encoder, whose token vectors it starts from. Reading and labelling the text
takes minutes and is kept in the cache folder. Every 300 steps both models are written into DIR, with the state of the
run: started again with the same DIR, it continues from there.
"""

from __future__ import annotations

import argparse
import copy
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bge_rerank_integrations.engine.work import TokenSequence, in_order
from bge_rerank_integrations.model.families.lightweight import LightweightModel, LightweightRecipe
from bge_rerank_integrations.model.hub import find_checkpoint
from bge_rerank_integrations.model.inputs import Limits, PairEncoder
from bge_rerank_integrations.model.packing import pack
from bge_rerank_integrations.options import ModelSource, ScoringOptions
from bge_rerank_integrations.ranking import Pair
from training import data, decoders
from training.candidates import standardised
from training.examples import CANDIDATES, QUERY_TOKENS, Labelled, draws
from training.train import AVERAGING, Development, schedule

SHARE = 0.2  # of the encoder's training pages: what could be labelled and read once in the time available
QUERIES_A_STEP = 6
PASSAGE_TOKENS = 80
LAST_WEIGHT = 3.0  # of the last cutoff's loss, each of the others' being 1
EMBEDDING_RATE = 0.3  # of the learning rate: embeddings are multiplied by 12 when they are read
RATIOS, RATIO_SHARES = (1, 2, 4, 8), (0.55, 0.15, 0.15, 0.15)
COMPRESSED_BEFORE = (3, 4, 5, 6)
CHECK = 300  # steps between exports, each with a check on the development set
CPU = torch.device("cpu")


def labelled_text(cache: Path, seed: int) -> tuple[Labelled, Labelled]:
    """The training and the development text with labels, from the cache if it has them."""
    path = cache / f"labels-{seed}.pickle"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        training, development = data.read_all(seed)
        path.write_bytes(pickle.dumps((Labelled(training.part(SHARE, seed)), Labelled(development))))
    found: tuple[Labelled, Labelled] = pickle.loads(path.read_bytes())  # written by this function
    return found


def even(sequences: list[TokenSequence]) -> tuple[list[TokenSequence], Tensor]:
    """The sequences, longest first, and where each was; ends of passages cut so that many have the same length.

    Sequences of one length go through attention together. None loses more than an eighth, or four tokens.
    """
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i].ids))
    lengths = np.array([len(sequences[i].ids) for i in order])
    evened, begin = [], 0
    for stop in range(1, len(order) + 1):
        if stop < len(order) and lengths[stop] > lengths[begin] - max(4, lengths[begin] // 8):
            continue
        evened += [cut(sequences[i], int(lengths[stop - 1])) for i in order[begin:stop]]
        begin = stop
    return evened, torch.tensor(order)


def cut(sequence: TokenSequence, length: int) -> TokenSequence:
    """Drop tokens at the passage's end; at least one stays."""
    start, stop = sequence.passage
    kept = max(start + 1, stop - (len(sequence.ids) - length))
    return replace(sequence, ids=(*sequence.ids[:kept], *sequence.ids[stop:]), passage=(start, kept))


def score(model: LightweightModel, sequences: list[TokenSequence], recipe: LightweightRecipe) -> np.ndarray:
    """*Shape:* (sequences, cutoffs)"""
    scores = np.empty((len(sequences), len(recipe.cutoffs)), dtype=np.float32)
    order = in_order(sequences)
    with torch.inference_mode():
        for begin in range(0, len(order), 64):
            rows = order[begin : begin + 64]
            packed = pack([sequences[i] for i in rows], CPU)
            scores[rows] = model.score(packed, recipe)[: len(rows)].numpy()  # prefixes follow the sequences
    return scores


def report(
    model: LightweightModel, inputs: PairEncoder, development: Development, recipes: list[LightweightRecipe]
) -> Iterator[str]:
    """nDCG@10 on the development set: for each recipe and cutoff, and of the last cutoff with BM25 1:1."""
    queries = [development.labelled.collection.queries[i][0] for i in development.rows]
    texts = development.labelled.collection.texts
    pairs = [(q, texts[i]) for q, found in zip(queries, development.found, strict=True) for i in found]
    sequences = inputs.encode(pairs)
    for recipe in recipes:
        scores = score(model, sequences, recipe).reshape(*development.found.shape, -1)
        alone = " ".join(f"{c}: {development.mean(scores[..., i]):.4f}" for i, c in enumerate(recipe.cutoffs))
        both = development.mean(standardised(scores[..., -1]) + standardised(development.bm25))
        yield f"ratio {recipe.compress_ratio}: {alone}; with BM25 {both:.4f}"


def losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Divergence of the softmax over a query's scores from that over its labels, for each cutoff.

    *Shape:* scores (pairs, cutoffs), labels (queries, CANDIDATES) -> (cutoffs,)
    """
    predicted = scores.T.reshape(scores.shape[1], -1, CANDIDATES).log_softmax(-1)
    goal = labels.log_softmax(-1).expand_as(predicted)
    return F.kl_div(predicted, goal, log_target=True, reduction="none").sum(-1).mean(-1)


class Fit:
    """The state of a run: weights in float32, their running average, and a bfloat16 copy for both passes.

    bfloat16 is five times as fast as float32 on processors that have instructions for it.
    """

    def __init__(self, master: LightweightModel, rate: float) -> None:
        self.master, self.averaged = master, copy.deepcopy(master)
        self.working = copy.deepcopy(master).bfloat16()
        self.rate, self.step = rate, 0
        words = master.stack.words.weight
        matrices = [p for p in master.parameters() if p.ndim == 2 and p is not words]
        others = [p for p in master.parameters() if p.ndim != 2]
        groups = [
            {"params": matrices, "weight_decay": 0.01, "factor": 1.0},
            {"params": [words], "weight_decay": 0.0, "factor": EMBEDDING_RATE},
            {"params": others, "weight_decay": 0.0, "factor": 1.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def state(self) -> dict[str, object]:
        states = {name: getattr(self, name).state_dict() for name in ("master", "averaged", "optimizer")}
        return {"step": self.step, **states}

    def resume(self, path: Path) -> None:
        state = torch.load(path)
        self.step = state["step"]
        for name in ("master", "averaged", "optimizer"):
            getattr(self, name).load_state_dict(state[name])

    def update(self, loss: Tensor, share: float) -> None:
        """One step of the optimizer after `share` of all steps."""
        self.step += 1
        loss.backward()
        for fast, slow in zip(self.working.parameters(), self.master.parameters(), strict=True):
            slow.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None
        nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["factor"] * schedule(share)
        self.optimizer.step()
        keep = min(AVERAGING, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            # One head for all layers: in the lightweight family `head_index` then makes no difference.
            self.master.heads.copy_(self.master.heads.mean(0, keepdim=True).expand_as(self.master.heads))
            trios = (m.parameters() for m in (self.working, self.master, self.averaged))
            for fast, slow, average in zip(*trios, strict=True):
                average.lerp_(slow, 1 - keep)
                fast.copy_(slow)


def random_recipe(cutoffs: tuple[int, ...], rng: np.random.Generator) -> LightweightRecipe:
    """All cutoffs in one pass, at a random compression."""
    ratio, before = int(rng.choice(RATIOS, p=RATIO_SHARES)), int(rng.choice(COMPRESSED_BEFORE))
    return LightweightRecipe(cutoffs, ratio, (before,) if ratio > 1 else (), head_index="layer")


def fit(run: Fit, students: decoders.Students, training: Labelled, development: Development, steps: int) -> None:
    """Fit up to some number of steps."""
    cutoffs = students.lightweight.allowed_cutoffs
    weights = torch.ones(len(cutoffs))
    weights[-1] = LAST_WEIGHT
    weights /= weights.sum()
    # "A: " and "B: " are two tokens each
    inputs = students.lightweight.inputs(ScoringOptions(), Limits(query=QUERY_TOKENS + 2, passage=PASSAGE_TOKENS + 2))
    queries, texts = training.collection.queries, training.collection.texts
    rng = np.random.default_rng(run.step)
    recent = torch.zeros(len(weights))
    for labels, rows, passages in draws(training, QUERIES_A_STEP, rng):
        pairs: list[Pair] = [(queries[q][0], texts[p]) for q, p in zip(rows, passages, strict=True)]
        sequences, order = even(inputs.encode(pairs))
        scores = run.working.score(pack(sequences, CPU), random_recipe(cutoffs, rng))
        each = losses(scores[torch.argsort(order)], labels)
        run.update((each * weights).sum(), (run.step + 1) / steps)
        recent += each.detach()
        if run.step % 50 == 0:
            shown = " ".join(f"{loss:.3f}" for loss in (recent / 50).tolist())
            print(f"step {run.step}: loss by cutoff {shown}", flush=True)
            recent.zero_()
        if run.step % CHECK == 0 or run.step == steps:
            students.export(run.averaged)
            torch.save(run.state(), students.folder / "state.pt")
            recipes = [LightweightRecipe(cutoffs, ratio, (4,), "layer") for ratio in (1, 8)]
            for line in report(copy.deepcopy(run.averaged).bfloat16(), inputs, development, recipes):
                print(f"step {run.step}: development {line}", flush=True)
        if run.step >= steps:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models and the state")
    parser.add_argument("--cache", type=Path, required=True, help="folder for labelled text")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--development", type=int, default=30, help="queries of a kind to check with")
    options = parser.parse_args()

    # The moments of rare tokens' vectors fade into denormal numbers, which are very slow to compute with.
    torch.set_flush_denormal(True)
    training, held_out = labelled_text(options.cache, options.seed)
    development = Development(held_out, per_kind=options.development)
    print("development nDCG@10:", development.references(), flush=True)

    students = decoders.Students(options.out, find_checkpoint(ModelSource("demo")).folder, options.seed)
    run = Fit(students.start(), options.rate)
    if (state := options.out / "state.pt").is_file():
        run.resume(state)
    fit(run, students, training, development, options.steps)


if __name__ == "__main__":
    main()
