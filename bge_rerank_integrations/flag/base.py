"""What FlagEmbedding's four classes share: attributes that each call reads, and a scorer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bge_rerank_integrations.flag import without_effect
from bge_rerank_integrations.flag.pairs import SentencePairs, read_pairs
from bge_rerank_integrations.flag.stand_in import Model, tokenizer
from bge_rerank_integrations.lazy import LazyScorer
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.model.devices import choose_devices
from bge_rerank_integrations.once import once
from bge_rerank_integrations.options import ModelSource, Placement
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.scorer import Scorer

if TYPE_CHECKING:
    import numpy

Devices = str | int | Sequence[str] | Sequence[int] | None
LayerScores = list[float] | list[list[float]]


class Reranker:
    """One of FlagEmbedding's classes: constructor arguments become attributes, which may be set at any time."""

    family: ClassVar[str]

    model_name_or_path: str | os.PathLike[str]
    """As given. Setting it loads no other model, as in FlagEmbedding."""
    use_fp16: bool
    """float16 on a GPU; elsewhere everything is float32."""
    query_instruction_for_rerank: str | None
    query_instruction_format: str
    passage_instruction_for_rerank: str | None
    passage_instruction_format: str
    target_devices: list[str]
    batch_size: int
    """Kept, and without effect: batches are planned by tokens."""
    query_max_length: int | None
    max_length: int
    normalize: bool
    kwargs: dict[str, Any]
    """Arguments without effect."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """
        Args:
            arguments: the `locals()` of a subclass's constructor, which spells them out.
        """
        given = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        self.kwargs = given.pop("kwargs")
        without_effect.warn(type(self).__name__, self.kwargs, stacklevel=3)
        self.target_devices = _device_names(given.pop("devices"))
        self._source = ModelSource(self._checkpoint(given), family=self.family, cache_dir=given.pop("cache_dir"))
        del given["trust_remote_code"]  # no code of a checkpoint is ever run
        for name, value in given.items():
            setattr(self, name, value)
        for name, value in self.kwargs.items():
            if not hasattr(type(self), name):
                setattr(self, name, value)
        self.pool = None  # scripts ask whether there is one to stop
        self.model = Model(str(self.model_name_or_path))
        self._lazy = LazyScorer()
        self._ready(vars(self), self._devices())

    def compute_score(self, sentence_pairs: SentencePairs, **kwargs: Any) -> LayerScores | numpy.ndarray:
        """Score one pair or many; see the subclasses."""
        raise NotImplementedError

    def compute_score_single_gpu(
        self, sentence_pairs: SentencePairs, *arguments: Any, device: str | None = None, **named: Any
    ) -> LayerScores:
        """As `compute_score`, whose other arguments it takes: on one device, and without instructions.

        Args:
            device: None: the first of `target_devices`.
        """
        bound = inspect.signature(self.compute_score).bind(sentence_pairs, *arguments, **named)
        bound.apply_defaults()
        call = self._call(bound.arguments)
        self._warn(bound.arguments["kwargs"], stacklevel=3)
        return self._score(read_pairs(sentence_pairs), call, self._devices()[:1] if device is None else [device])

    def get_detailed_instruct(self, instruction_format: str, instruction: str, sentence: str) -> str:
        r"""Instruction and sentence, joined by the format. A backslash and an n in the format are a line break."""
        return instruction_format.replace("\\n", "\n").format(instruction, sentence)

    def get_detailed_inputs(self, sentence_pairs: SentencePairs) -> list[list[str]]:
        """The pairs, with the instructions before their texts."""
        query_instruction, passage_instruction = self.query_instruction_for_rerank, self.passage_instruction_for_rerank
        return [
            [
                query
                if query_instruction is None
                else self.get_detailed_instruct(self.query_instruction_format, query_instruction, query),
                passage
                if passage_instruction is None
                else self.get_detailed_instruct(self.passage_instruction_format, passage_instruction, passage),
            ]
            for query, passage in read_pairs(sentence_pairs)
        ]

    def stop_self_pool(self) -> None:
        """Free the model; the next call loads it again. There is no process pool: the name is FlagEmbedding's."""
        self._lazy.close()

    @property
    def scorer(self) -> Scorer:
        """The scorer that calls use, with the attributes as they are now."""
        return self._ready(vars(self), self._devices())

    @once
    def tokenizer(self) -> Any:
        """A tokenizer of transformers, with the token ids that are scored."""
        return tokenizer(resolve(self._source, Placement("cpu")))

    def _compute(self, arguments: Mapping[str, Any]) -> Any:
        """`compute_score`, given its `locals()`. Several devices give a numpy array, as FlagEmbedding's do."""
        call = self._call(arguments)
        self._warn(arguments["kwargs"], stacklevel=4)
        pairs = [(query, passage) for query, passage in self.get_detailed_inputs(arguments["sentence_pairs"])]
        devices = self._devices()
        scores = self._score(pairs, call, devices)
        if len(devices) == 1:
            return scores
        import numpy

        return numpy.array(scores)

    def _call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The values for a call: its own arguments, and the attributes for those that are None."""
        without_effect.check_call(arguments["kwargs"])
        return {**vars(self), **{name: value for name, value in arguments.items() if value is not None}}

    def _warn(self, kwargs: Mapping[str, Any], stacklevel: int) -> None:
        without_effect.warn(f"{type(self).__name__}.compute_score", kwargs, stacklevel)

    def _score(self, pairs: list[Pair], call: Mapping[str, Any], devices: Sequence[str]) -> LayerScores:
        return self._ready(call, devices).score_pairs(pairs)

    def _ready(self, call: Mapping[str, Any], devices: Sequence[str]) -> Scorer:
        """The scorer for a call, loaded if it is not, or not in this dtype on these devices."""
        on_gpu = all(device.type == "cuda" for device in choose_devices(devices))
        loading = {
            "family": self.family,
            "cache_dir": self._source.cache_dir,
            "devices": list(devices),
            "dtype": self._half() if on_gpu else "float32",
        }
        model: Any = self._source.model  # a path stays a path: if it is not a folder, it is not looked up on the hub
        return self._lazy.get(model, loading, self._options(call))

    def _devices(self) -> list[str]:
        return _device_names(self.target_devices)  # whatever they were set to

    def _options(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The scoring options that a call sets."""
        return {
            "max_length": call["max_length"],
            "query_max_length": call["query_max_length"],
            "scale": "sigmoid" if call["normalize"] else "logit",
            "query_instruction": "",  # put before by `get_detailed_inputs`
            "passage_instruction": "",
        }

    def _half(self) -> str:
        """The dtype on a GPU."""
        return "float16" if self.use_fp16 else "float32"

    def _checkpoint(self, given: Mapping[str, Any]) -> str | os.PathLike[str]:
        """What to load."""
        model: str | os.PathLike[str] = given["model_name_or_path"]
        return model


def _device_names(devices: Devices) -> list[str]:
    if devices is None:
        return [str(device) for device in choose_devices(None)]
    several = [devices] if isinstance(devices, (str, int)) else devices
    return [f"cuda:{device}" if isinstance(device, int) else device for device in several]
