"""What a family is: how it reads a checkpoint, prepares inputs, and scores a packed batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.inputs import Limits, PairEncoder
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import HeadIndex, ScoringOptions


@dataclass(frozen=True)
class Recipe:
    """What the forward pass depends on beside tokens; only sequences of equal recipes share a batch."""

    cutoffs: tuple[int, ...] = ()
    compress_ratio: int = 1
    compress_layers: tuple[int, ...] = ()
    head_index: HeadIndex = "position"
    attention_softcap: bool = False

    def depth(self, layers: int) -> int:
        """How many of a model's `layers` it runs."""
        return max(self.cutoffs, default=layers)


class RerankModel(nn.Module, ABC):
    """Weights and forward pass of one family."""

    ignored: ClassVar[tuple[str, ...]] = ()
    """Names of tensors, as regular expressions, that checkpoints may hold and that scores do not depend on."""

    @abstractmethod
    def targets(self) -> dict[str, Target]:
        """Where each tensor of a checkpoint goes, by its name there."""

    @abstractmethod
    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        """Logits. *Shape:* (sequences, cutoffs), or (sequences, 1) where there are no cutoffs"""


class Family(ABC):
    """One family, for one checkpoint."""

    name: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    """Those of `options.FAMILY_OPTIONS` that this family has."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @classmethod
    @abstractmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint's config and tensors are of this family."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The largest `max_length` that the model's positions allow."""

    @abstractmethod
    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
        """How pairs become token ids under these options."""

    @abstractmethod
    def build(self, depth: int) -> RerankModel:
        """The model, its parameters not yet filled; of its layers only the first `depth`."""

    @property
    @abstractmethod
    def layers(self) -> int:
        """How many layers the checkpoint has."""

    def check_tensors(self) -> None:  # noqa: B027 - most families have nothing to say
        """Refuse tensors that are clearly of another kind of model, in better words than a list of names."""

    def recipe(self, options: ScoringOptions, cutoffs: Sequence[int] | None = None) -> Recipe:
        """The forward pass that these options ask for; `cutoffs` asks for several layers in one."""
        if cutoffs is not None:
            raise OptionError(f"the {self.name} family has no cutoff layers: layerwise and lightweight models have")
        return Recipe()

    def check(self, options: ScoringOptions) -> None:
        """Refuse options of other families."""
        for option, value in options.set_beside(self.options).items():
            known = ", ".join(sorted(self.options)) or "none of its own"
            raise OptionError(
                f"{option}={value!r} is not an option of the {self.name} family, which {self.checkpoint.folder} is of "
                f"(options of this family: {known})"
            )
