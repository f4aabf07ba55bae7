"""What a family is: how it reads a checkpoint, prepares inputs, and scores a packed batch.

A family is two classes in one file: a `Family`, which knows config and tokenizer, and a `RerankModel`, which has the
weights. Everything outside this folder knows them by what stands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import ClassVar

import torch
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.errors import CheckpointError, OptionError, UnknownFamilyError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.inputs import Limits, PairEncoder
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.weights import Target, check_weights, load_weights
from bge_rerank_integrations.options import ScoringOptions, foreign_options


@dataclass(frozen=True)
class Dimensions:
    """What the time and the memory of a forward pass follow from."""

    layers: int
    """All that the checkpoint has."""
    width: int
    query_width: int
    """Heads times their width."""
    key_value_width: int
    """Heads of keys times their width; values have as many."""
    feed_forward: int
    feed_forward_products: int
    """Matrix products between `width` and `feed_forward`: 2, or 3 where there is a gate."""
    causal: bool
    """Whether a token sees only itself and those before it."""


class RerankModel(nn.Module, ABC):
    """Weights and forward pass of one family. Its `nn.linear.Linear`s give way to faster ones once they are loaded."""

    ignored: ClassVar[tuple[str, ...]] = ()
    """Names of tensors, as regular expressions, that checkpoints may hold and that scores do not depend on."""
    native: ClassVar[bool] = True
    """Whether it is made of the blocks in `nn`, which faster ones can replace."""

    def targets(self) -> dict[str, Target]:
        """Where each tensor of a checkpoint goes, by its name there; here: to the parameter of the same name."""
        return {name: Target.whole(parameter) for name, parameter in self.named_parameters()}

    def ratios(self, recipe: Recipe) -> tuple[int, ...]:
        """How many of a passage's states become one, for each time that the forward pass merges them."""
        return ()

    @abstractmethod
    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        """Logits. *Shape:* (sequences, cutoffs), or (sequences, 1) where there are no cutoffs"""


def _quantization(named: object) -> object:
    """How weights are quantized; configs from before the key quant_method only switch something on."""
    if not isinstance(named, dict):
        return named
    switched = [key for key, value in named.items() if value is True]
    return named.get("quant_method") or ", ".join(switched) or "of no known method"


class Family(ABC):
    """One family, for one checkpoint."""

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    """What config.json may say as `model_type`."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Those scoring options that only some families have and this one does."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not self.runs(checkpoint.model_type):
            raise UnknownFamilyError(
                f"{checkpoint.folder}: model_type {checkpoint.model_type!r} ({checkpoint.architecture}) is not one "
                f"that the {self.name} family runs: {self.what_runs()}"
            )
        if (named := checkpoint.config.get("quantization_config")) is not None:
            how = _quantization(named)
            raise CheckpointError(
                f"{checkpoint.folder}: config.json has a quantization_config ({how}), and quantized weights cannot be "
                "run here: use the model that it was made from, with dtype='int8' if it is to be fast on a CPU"
            )
        self.checkpoint = checkpoint

    @classmethod
    def runs(cls, model_type: str) -> bool:
        """Whether a checkpoint of this type can be of this family."""
        return model_type in cls.model_types

    @classmethod
    def what_runs(cls) -> str:
        """The model types that can be of this family, for messages."""
        return ", ".join(cls.model_types)

    @classmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint, of which nobody has said it, is of this family."""
        return cls.runs(checkpoint.model_type)

    @property
    @abstractmethod
    def dimensions(self) -> Dimensions:
        """The checkpoint's sizes."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The largest `max_length` that the model's positions allow."""

    @property
    def allowed_cutoffs(self) -> tuple[int, ...]:
        """After how many layers a score may be read, ascending; empty: after the last alone."""
        return ()

    @abstractmethod
    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
        """How pairs become token ids under these options."""

    def build(self, depth: int) -> RerankModel:
        """The model, its parameters not yet filled; of its layers only the first `depth`. `load` fills it."""
        raise NotImplementedError

    def load(
        self,
        depth: int,
        device: torch.device,
        dtype: torch.dtype,
        check_room: Callable[[RerankModel], object],
        abandoned: Event,
    ) -> RerankModel:
        """The model with its weights, of its layers the first `depth`.

        Args:
            check_room: called with the model before the device's memory is taken; may refuse it.
            abandoned: when set, no further tensor is read.

        Raises:
            WeightsError: a tensor is missing, unexpected, of another shape, or not finite.
            ClosedError: it was abandoned.
        """
        with torch.device("meta"):
            model = self.build(depth)
        check_weights(self.checkpoint, model.targets(), model.ignored)  # before a byte is allocated
        model = model.to(dtype)
        check_room(model)
        model = model.to_empty(device=device).eval().requires_grad_(False)
        load_weights(self.checkpoint, model.targets(), abandoned)
        return model

    def check_dtype(self, dtype: torch.dtype) -> None:  # noqa: B027  # most run in all
        """Refuse a dtype that the family does not run in, with a `DeviceError`."""

    def check_tensors(self) -> None:
        """Compare the checkpoint's files with each other, as far as the loading of tensors does not.

        Families say more, such as which tensors are clearly of another kind of model, in better words than a list of
        names.
        """
        if not self.checkpoint.tensors:  # first, since a folder without weights is described best
            raise WeightsError(f"{self.checkpoint.folder}: model.safetensors holds no tensors")
        rows = self.checkpoint.config.get("vocab_size")
        if isinstance(rows, int):
            self.checkpoint.tokenizer_files.check_vocabulary(rows)

    def recipe(self, options: ScoringOptions, cutoffs: Sequence[int] | None = None) -> Recipe:
        """The forward pass that these options ask for; `cutoffs` asks for several layers in one."""
        if cutoffs is not None:
            raise OptionError(f"the {self.name} family has no cutoff layers: layerwise and lightweight models have")
        return Recipe()

    def shared_pass(self, options: ScoringOptions) -> ScoringOptions:
        """The options without what several scores of one forward pass may differ in: scale, and cutoff if there is one.

        Its scores are logits, which keep the order where sigmoids cannot be told apart any more.
        """
        return replace(options, scale="logit")

    def check_effect(self, options: ScoringOptions) -> None:
        """Refuse values that others would do as well as, for callers who compare what options change."""
        if options.max_length > self.longest:
            raise OptionError(f"max_length={options.max_length}: this model takes {self.longest} tokens at most")

    def check(self, options: ScoringOptions) -> None:
        """Refuse options of other families."""
        for option, value in foreign_options(options, self.options).items():
            known = ", ".join(sorted(self.options)) or "none of its own"
            raise OptionError(
                f"{option}={value!r} is not an option of the {self.name} family, which this model is of "
                f"(options of this family: {known})"
            )
