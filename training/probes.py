"""Auxiliary tasks that lay out how four layers can come to a score; thrown away after training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import student
from training.examples import Inputs


class Probes(nn.Module):
    """Losses on the hidden states.

    After layer 1 a token knows which text it is in. After layer 2 it knows whether the other text has it too, and the
    first and the last token hold the teacher's embeddings of query and passage, in the same dimensions, so that
    layer 3 can compare them. After layer 3 a query's token knows how close the passage's closest token comes, and the
    first token knows the teacher's cosine.
    """

    def __init__(self, vectors: Tensor) -> None:
        """`vectors`: the starting token vectors, (vocabulary, teacher's width)."""
        super().__init__()
        self.segment = nn.Linear(student.HIDDEN, 1)
        self.match = nn.Linear(student.HIDDEN, 1)
        self.likeness = nn.Linear(student.HIDDEN, 1)
        self.cosine = nn.Linear(student.HIDDEN, 1)
        self.vectors = F.normalize(vectors, dim=1).to(torch.bfloat16)
        self.axes = student.main_axes(vectors).T

    def forward(self, hidden: tuple[Tensor, ...], inputs: Inputs, queries: Tensor, passages: Tensor) -> Tensor:
        """The weighted sum of the losses.

        hidden: (pairs, length, width) after the embeddings and after every layer.
        queries, passages: the teacher's embeddings, (pairs, teacher's width).
        """
        in_query, in_passage = inputs.segments == 1, inputs.segments == 2
        inside = in_query | in_passage
        across = (in_query[:, :, None] & in_passage[:, None, :]) | (in_passage[:, :, None] & in_query[:, None, :])

        segment = self.segment(hidden[1][inside].float())[:, 0]
        loss = F.binary_cross_entropy_with_logits(segment, in_query[inside].float())

        same = ((inputs.ids[:, :, None] == inputs.ids[:, None, :]) & across).any(-1)
        for tokens in (in_query, in_passage):
            match = self.match(hidden[2][tokens].float())[:, 0]
            loss = loss + 0.5 * F.binary_cross_entropy_with_logits(match, same[tokens].float())

        queries, passages = queries @ self.axes, passages @ self.axes
        last = (inputs.ids != student.PAD).sum(1) - 1
        ends = (hidden[2][:, 0], hidden[2][torch.arange(len(last)), last])
        for end, goal in zip(ends, (queries, passages), strict=True):
            loss = loss + 2 * (1 - F.cosine_similarity(end[:, : student.SEMANTIC].float(), goal).mean())

        vectors = self.vectors[inputs.ids]
        alike = (vectors @ vectors.transpose(1, 2)).masked_fill(~across, 0).amax(-1).float()
        likeness = self.likeness(hidden[3][in_query].float())[:, 0]
        cosine = self.cosine(hidden[3][:, 0].float())[:, 0]
        loss = loss + 2 * F.mse_loss(likeness, alike[in_query])
        return loss + 10 * F.mse_loss(cosine, F.cosine_similarity(queries, passages))
