"""classifier: any model with a sequence-classification head, by transformers' own forward pass, in padded batches.

It is slower than the families with a forward pass of their own, and there for whatever else transformers ships:
ModernBERT, DeBERTa, DistilBERT, ELECTRA, MPNet, ALBERT, and language models with such a head. Only classes of
transformers itself are ever used, whatever code or kernels a checkpoint names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.errors import CheckpointError, DeviceError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families.asking import find_template, templated
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel
from bge_rerank_integrations.model.families.labels import check_label_count, one_score
from bge_rerank_integrations.model.inputs import EncoderInputs, EncoderTemplate, Limits, PairEncoder
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.options import ScoringOptions

UNREAD = frozenset(
    {
        "auto_map", "custom_pipelines", "attn_implementation", "_attn_implementation", "experts_implementation",
        "_experts_implementation", "use_kernels", "_name_or_path", "dtype", "torch_dtype", "id2label", "label2id",
        "num_labels",
    }
)  # fmt: skip
"""Keys of config.json that name code, kernels or files elsewhere, or that are passed on in another way."""
PADDED_SHARE = 0.25
"""How much shorter than the longest a sequence of the same padded batch may be."""
AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
     "xlm-roberta-xl", "xmod"}
)  # fmt: skip
"""Model types that give no text the positions up to and with pad_token_id."""
READ_AT_THE_END = frozenset({"xlnet"})
"""Model types that read the last place of a batch, whether it is padding or not."""


class ClassifierFamily(Family):
    name = "classifier"
    model_types = ()

    @classmethod
    def what_runs(cls) -> str:
        return "every type that transformers has a ForSequenceClassification class for"

    @classmethod
    def runs(cls, model_type: str) -> bool:
        return model_type in _classes()

    @classmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        return checkpoint.architecture in _classes().get(checkpoint.model_type, ())

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config = _read_config(checkpoint)
        warnings.warn(
            f"{checkpoint.architecture} runs by transformers' own forward pass, which is slower than the families that "
            "have one here",
            UserWarning,
            stacklevel=4,
        )

    @property
    def dimensions(self) -> Dimensions:
        width, heads = (_number(self.config, name, 1) for name in ("hidden_size", "num_attention_heads"))
        head = _number(self.config, "head_dim", width // heads)
        return Dimensions(
            layers=_number(self.config, "num_hidden_layers", 12),
            width=width,
            query_width=heads * head,
            key_value_width=_number(self.config, "num_key_value_heads", heads) * head,
            feed_forward=_number(self.config, "intermediate_size", _number(self.config, "hidden_dim", 4 * width)),
            feed_forward_products=3,
            causal=False,
        )

    @property
    def longest(self) -> int:
        positions = _number(self.config, "max_position_embeddings", 1 << 20)
        if self.checkpoint.model_type in AFTER_PADDING:
            positions -= _number(self.config, "pad_token_id", 1) + 1
        own = self.checkpoint.tokenizer_files.settings.get("model_max_length")
        return min(positions, int(own)) if isinstance(own, int | float) and own >= 1 else positions

    def check_dtype(self, dtype: torch.dtype) -> None:
        if dtype is torch.int8:
            raise DeviceError(
                f"dtype='int8' is not for the {self.name} family, whose matrix products are transformers' own: use "
                "'float32' or 'bfloat16'"
            )

    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
        if (template := find_template(self.checkpoint)) is not None:
            return templated(self.checkpoint, template, options, limits, causal=False)
        tokenizer, prompt = self.checkpoint.tokenizer, self.checkpoint.settings.query_prompt
        return EncoderInputs(
            tokenizer,
            EncoderTemplate.of(tokenizer),
            limits,
            prompt if options.query_instruction is None else options.query_instruction,
            options.passage_instruction or "",
        )

    def check_tensors(self) -> None:
        super().check_tensors()
        check_label_count(self.checkpoint, self.config.num_labels)
        if self.checkpoint.settings.logit_score is not None:
            raise CheckpointError(
                f"{self.checkpoint.folder}: modules.json has a LogitScore, which only language models have, and this "
                f"is {self.checkpoint.architecture}"
            )

    def load(
        self,
        depth: int,
        device: torch.device,
        dtype: torch.dtype,
        check_room: Callable[[RerankModel], object],
        abandoned: Event,
    ) -> ClassifierModel:
        from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

        kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(self.config)]
        tensors = dict(self.checkpoint.read_tensors(dict.fromkeys(self.checkpoint.tensors, slice(None))))
        try:
            model, report = kind.from_pretrained(
                None,
                config=self.config,
                state_dict=tensors,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
            )
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.checkpoint.folder}: transformers cannot load the weights: {error}") from error
        self._check_report(report)
        for name, parameter in model.named_parameters():
            if not torch.isfinite(parameter.sum(dtype=torch.float32)):
                raise WeightsError(
                    f"{self.checkpoint.folder}: {name} holds NaN or infinity (a broken file, or values too large for "
                    "this dtype: try dtype='float32')"
                )
        loaded = ClassifierModel(model, self)
        check_room(loaded)
        loaded.to(device).eval().requires_grad_(False)
        return loaded

    def _check_report(self, report: dict[str, Any]) -> None:
        """Refuse weights of which transformers would leave some out, or make some up."""
        wrong = {
            "lacks": report["missing_keys"],
            "has, unlike such a model,": report["unexpected_keys"],
            "has in another shape than config.json makes it": [key for key, *_ in report["mismatched_keys"]],
        }
        for what, names in wrong.items():
            if names:
                shown = ", ".join(sorted(map(str, names))[:5])
                raise WeightsError(f"{self.checkpoint.folder} {what} {shown}")

    @property
    def pad_token(self) -> int:
        """What fills up a padded batch."""
        own: int | None = getattr(self.config, "pad_token_id", None)
        named = self.checkpoint.tokenizer_files.pad_token() if own is None else own
        return named or 0

    @property
    def gives_token_types(self) -> bool:
        """Whether the tokenizer tells the model which tokens are the passage's."""
        files = self.checkpoint.tokenizer_files
        return files.gives_token_types and EncoderTemplate.of(files.tokenizer).second_type == 1


class ClassifierModel(RerankModel):
    """A model of transformers. Its batches are unpacked, and padded again with sequences of about the same length."""

    native = False

    def __init__(self, model: nn.Module, family: ClassifierFamily) -> None:
        super().__init__()
        self.model = model
        self.pad_token = family.pad_token
        self.problem_type = family.config.problem_type
        known = signature(type(model).forward).parameters
        self.options = {"use_cache": False} if "use_cache" in known else {}
        self.token_types = "token_type_ids" in known and family.gives_token_types
        # language models look for the last token that does not pad, if they know which one does
        self.pads = family.config.pad_token_id is not None and family.checkpoint.model_type not in READ_AT_THE_END

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        lengths = batch.layout.lengths
        ids, types = batch.ids.split(lengths), batch.second_text.split(lengths)
        scores = batch.ids.new_empty((len(lengths), 1), dtype=torch.float32)
        for group in self._groups(lengths):
            padded = pad_sequence([ids[i] for i in group], batch_first=True, padding_value=self.pad_token)
            mask = pad_sequence([torch.ones_like(ids[i]) for i in group], batch_first=True)
            named = {"token_type_ids": pad_sequence([types[i] for i in group], True)} if self.token_types else {}
            logits = self.model(input_ids=padded, attention_mask=mask, **named, **self.options).logits
            scores[group] = one_score(logits.float(), self.problem_type)
        return scores

    def _groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Which sequences are padded to the same length."""
        group: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            fits = self.pads and group and lengths[index] >= lengths[group[0]] * (1 - PADDED_SHARE)
            if group and not fits:
                yield group
                group = []
            group.append(index)
        yield group


def _classes() -> dict[str, tuple[str, ...]]:
    """The names of transformers' own classes with a sequence-classification head, for each model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES

    return {kind: (named,) if isinstance(named, str) else tuple(named) for kind, named in NAMES.items()}


def _read_config(checkpoint: Checkpoint) -> Any:
    """config.json as a configuration of transformers."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    given = {key: value for key, value in checkpoint.config.items() if key not in UNREAD}
    labels = checkpoint.config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else checkpoint.config.get("num_labels", 2)
    kind: Any = CONFIG_MAPPING[checkpoint.model_type]
    try:
        return kind(**given, num_labels=count)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} does not fit {checkpoint.architecture}: {error}"
        ) from error


def _number(config: Any, name: str, default: int) -> int:
    """A whole number of a configuration, where it has one of this name."""
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value > 0 else default
