"""The two decoder students: their tokenizer, their configurations, their starting weights and their export.

Both are one network, trained once. As trained it is the lightweight family's forward pass (a score after any layer,
passages merged on the way) over the layerwise family's layers; that the two layouts can hold the same function is shown
at `carry_over`.

Tokenizer: the encoder's with three more tokens: the line break that separates the texts, and the default prompts of the
two families, each as one token, because reading them word by word takes time. Each model's folder gets a copy; in the
package the two share one, demo/models/decoder-tokenizer.

Starting weights: the encoder's idea carried over to a model that reads from left to right. The dimensions of the hidden
states are, in this order, `MEANING` of the token, `QUERY` for the query's meaning, and single flags. Layer 1 flags what
comes after the first line break. Layer 2 brings the query's meaning to every token and the passage's to the prompt,
marks passage tokens that resemble a token of the query, and multiplies query by passage in its gated feed-forward:
their cosine. Layer 3 gathers what the passage's tokens found at the prompt. All later layers start nearly empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from torch.nn import functional as F

from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import find_family
from bge_rerank_integrations.model.families.decoder_base import SEPARATOR, CutoffFamily, DecoderModel
from bge_rerank_integrations.model.families.lightweight import LightweightFamily, LightweightModel
from bge_rerank_integrations.model.nn.decoder import DecoderStack
from bge_rerank_integrations.prompts import PROMPTS
from training import student

WIDTH, LAYERS, HEADS, HEAD, FEED_FORWARD = 160, 8, 3, 64, 288
START_LAYER = 2
MEANING, QUERY = 96, 48
CONSTANT, WEIGHT, BREAK, BOS, PROMPT, AFTER, LIKENESS, EXACT, ALIKE, FREE = range(144, 154)
# Dimensions of a head that turn by about half a radian at most over a hundred tokens: meaning is compared in these.
SLOW = [*range(12, 32), *range(44, 64)]
SMALL = 2e-3
COMMON: dict[str, Any] = {
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": HEAD,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": FEED_FORWARD,
    "max_position_embeddings": 1024,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": HEADS,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-3,
    "rope_theta": 1e6,
    "start_layer": START_LAYER,
    "torch_dtype": "float16",
    "use_cache": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "layerwise": {
        "architectures": ["LayerWiseMiniCPMForCausalLM"],
        "model_type": "minicpm",
        "hidden_act": "gelu_pytorch_tanh",
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": WIDTH,
        "head_multi": True,
        "head_type": "simple",
        **COMMON,
    },
    "lightweight": {
        "architectures": ["CostWiseGemmaForCausalLM"],
        "model_type": "cost_wise_gemma",
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_sep": 1,
        "layer_wise": True,
        "query_pre_attn_scalar": HEAD,
        "sliding_window": 4096,
        **COMMON,
    },
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 1024,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
}


def extend_tokenizer(encoders: Path) -> Tokenizer:
    """The encoder's tokenizer, from its tokenizer.json, with the line break and the two prompts added."""
    tokenizer = Tokenizer.from_file(str(encoders))
    for text in (SEPARATOR, PROMPTS["answer_yes_no"], PROMPTS["answer"]):
        tokenizer.add_tokens([AddedToken(text, normalized=False)])
    return tokenizer


def create(name: str, tokenizer: Tokenizer, folder: Path) -> CutoffFamily:
    """Write a model's folder without its weights: what the family of that name is built from."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[name], "vocab_size": tokenizer.get_vocab_size()}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=1) + "\n")
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, encoding="utf-8")
    family = find_family(Checkpoint(folder))(Checkpoint(folder))
    assert isinstance(family, CutoffFamily)
    return family


def tensors(model: DecoderModel) -> dict[str, Tensor]:
    """The parameters, or views of them, by their published names."""
    return {name: target.destination for name, target in model.targets().items() if target.destination is not None}


def export(model: DecoderModel, folder: Path) -> None:
    """Write model.safetensors in float16."""
    weights = {
        name: value.detach().reshape(model.targets()[name].shape).to(torch.float16).contiguous()
        for name, value in tensors(model).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is written readable by its owner alone


def token_vectors(encoder: Path, vocabulary: int) -> Tensor:
    """What the encoder knows of its tokens: their meaning, as long as their weight. *Shape:* (vocabulary, meaning)

    Tokens that the encoder does not have get vectors of length 1 that mean nothing.
    """
    words = load_file(encoder / "model.safetensors")["roberta.embeddings.word_embeddings.weight"].float()
    vectors = F.normalize(torch.randn(vocabulary, student.SEMANTIC), dim=1)
    weight = words[:, student.SEMANTIC] / 0.2  # as `student.start` lays it out
    vectors[: len(words)] = F.normalize(words[:, : student.SEMANTIC], dim=1) * (0.5 * weight).exp()[:, None]
    return vectors


@torch.no_grad()
def start(model: DecoderModel, vectors: Tensor, tokenizer: Tokenizer, seed: int = 0) -> None:
    """Fill the weights.

    Args:
        vectors: one for each token, *Shape:* (vocabulary, meaning); the length is the token's weight.
    """
    torch.manual_seed(seed)
    weights = tensors(model)
    for name, value in weights.items():
        if "norm" in name:
            value.fill_(1.0)
        else:
            value.normal_(std=0.02 if "o_proj" in name or "down_proj" in name else WIDTH**-0.5)
    spread = _start_embeddings(weights["model.embed_tokens.weight"], vectors, tokenizer)
    layers = [
        {
            part: weights[f"model.layers.{i}.{block}.{part}_proj.weight"]
            for block, parts in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down")))
            for part in parts
        }
        for i in range(3)
    ]
    _flag_passage(layers[0])
    _compare(layers[1], spread)
    _gather(layers[2], spread)
    for name, value in weights.items():
        if name.startswith("lm_head"):
            value.zero_()
            value[..., LIKENESS], value[..., EXACT], value[..., ALIKE] = 1.0, 0.5, 0.5


@torch.no_grad()
def carry_over(source: LightweightModel, model: LightweightModel) -> None:
    """Fill a Gemma 2's weights so that it computes what `source` does, which has MiniCPM's layers.

    What differs: the embeddings' factor, the norms' offset, and norms after attention and feed-forward. Such a norm
    divides by the root of mean square plus epsilon. What a layer adds is made so small before it that it
    is well below epsilon, and large again after it: it passes the norm unchanged.
    """
    weights, shape = tensors(model), source.stack.shape
    after = shape.residual_scale * shape.norm_eps**0.5 / SMALL
    for name, value in tensors(source).items():
        if "embed_tokens" in name:
            value = value * (shape.embedding_scale / model.stack.shape.embedding_scale)
        elif "o_proj" in name or "down_proj" in name:
            value = value * SMALL
        elif "norm" in name:
            name, value = name.replace("post_attention", "pre_feedforward"), value - 1.0
        weights[name].copy_(value)
    for name, value in weights.items():
        if "post_attention" in name or "post_feedforward" in name:
            value.fill_(after - 1.0)


def main_axes(vectors: Tensor, count: int) -> Tensor:
    """The directions in which token vectors differ most, *Shape:* (count, meaning), orthonormal."""
    axes: Tensor = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2]
    return axes[:count]


def _start_embeddings(words: Tensor, vectors: Tensor, tokenizer: Tokenizer) -> float:
    """Fill the embeddings; the standard deviation of the tokens' weights (logarithms of lengths)."""
    length = vectors.norm(dim=1).clamp_min(1e-6).log()
    spread = float(length.std())
    words.normal_(std=0.05)
    words[:, :MEANING] += 11 * F.normalize(vectors @ main_axes(vectors, MEANING).T, dim=1)
    words[:, MEANING : FREE - 1] = 0.0
    words[:, CONSTANT] = 2.0
    words[:, WEIGHT] = ((length - length.mean()) / spread).clamp(-3, 3)
    prompts = [tokenizer.token_to_id(PROMPTS[name]) for name in ("answer_yes_no", "answer")]
    for ids, flag in (([tokenizer.token_to_id(SEPARATOR)], BREAK), ([0], BOS), (prompts, PROMPT)):
        words[ids, :MEANING] = 0.0
        words[ids, WEIGHT] = -3.0
        words[ids, flag] = 11.0
    words /= 12  # what `scale_emb` and Gemma's factor, the root of the width, undo
    return spread


def _clear(layer: Mapping[str, Tensor], head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of one head's query, key, value (HEAD, WIDTH) and output (WIDTH, HEAD) weights, set to 0."""
    rows = slice(head * HEAD, (head + 1) * HEAD)
    views = (layer["q"][rows], layer["k"][rows], layer["v"][rows], layer["o"][:, rows])
    for view in views:
        view.zero_()
    return views


FIRST, SECOND = HEAD - 1, HEAD - 2  # the slowest dimensions of a head carry conditions that hold at any distance


def _flag_passage(layer: Mapping[str, Tensor]) -> None:
    """Head 1 looks for a line break; the others let tokens of similar meaning attend to each other."""
    q, k, v, o = _clear(layer, 0)
    q[FIRST, CONSTANT], k[FIRST, BREAK] = 4.0, 1.0
    v[0, BREAK] = 0.3
    o[AFTER, 0] = 2.0
    for head in (1, 2):
        q, k, _, _ = _clear(layer, head)
        q[SLOW, :MEANING] = _directions()
        k.copy_(q)


def _compare(layer: Mapping[str, Tensor], spread: float) -> None:
    """Head 1: the query's meaning, for every token. Head 2: the passage's, for the prompt; all others read <s>.
    Head 3: a similar token of the query, or <s> if there is none. Feed-forward: query times passage."""
    q, k, v, o = _clear(layer, 0)
    q[FIRST, CONSTANT] = 4.0
    k[FIRST, WEIGHT], k[FIRST, AFTER], k[FIRST, BOS] = spread, -4.0, -4.0
    v[:QUERY, :QUERY] = torch.eye(QUERY)
    o[MEANING : MEANING + QUERY, :QUERY] = 3.0 * torch.eye(QUERY)

    q, k, v, o = _clear(layer, 1)
    q[FIRST, PROMPT], q[SECOND, CONSTANT] = 0.7, 2.0
    k[FIRST, WEIGHT], k[FIRST, AFTER], k[SECOND, BOS] = spread, 6.0, 2.0
    v[:QUERY, :QUERY] = torch.eye(QUERY)
    o[:QUERY, :QUERY] = 6.0 * torch.eye(QUERY)

    q, k, v, o = _clear(layer, 2)
    q[SLOW, :MEANING] = _directions()
    k.copy_(q)
    q[FIRST], k[FIRST] = 0.0, 0.0
    q[FIRST, CONSTANT], k[FIRST, AFTER], k[FIRST, BOS] = 4.0, -4.0, 1.0
    v[0, CONSTANT], v[0, BOS] = 1.0, -2.0 / 11
    o[EXACT, 0] = 2.0

    gate, up, down = layer["gate"], layer["up"], layer["down"]
    for sign, first in ((1.0, 0), (-1.0, QUERY)):
        rows = range(first, first + QUERY)
        for view in (gate, up):
            view[rows] = 0.0
        gate[rows, range(MEANING, MEANING + QUERY)] = sign
        up[rows, range(QUERY)] = sign
        down[:, rows] = 0.0
        down[LIKENESS, rows] = 0.2


def _gather(layer: Mapping[str, Tensor], spread: float) -> None:
    """Head 1: similarity and matches, averaged over the passage by the tokens' weights. Head 2: over its matches."""
    q, k, v, o = _clear(layer, 0)
    q[FIRST, CONSTANT] = 4.0
    k[FIRST, WEIGHT], k[FIRST, AFTER] = spread, 4.0
    v[0, LIKENESS], v[1, EXACT] = 1.0, 1.0
    o[ALIKE, 0], o[ALIKE, 1] = 2.0, 2.0
    q, k, v, o = _clear(layer, 1)
    q[FIRST, CONSTANT] = 4.0
    k[FIRST, EXACT], k[FIRST, AFTER] = 1.0, 4.0
    v[0, LIKENESS], v[1, WEIGHT] = 1.0, 1.0
    o[FREE, 0], o[FREE, 1] = 1.0, 1.0


def _directions() -> Tensor:
    """Random directions to compare meaning along, *Shape:* (len(SLOW), MEANING)"""
    directions: Tensor = torch.linalg.qr(torch.randn(MEANING, len(SLOW)))[0].T * math.sqrt(MEANING / len(SLOW))
    return directions


class Students:
    """The two families, in folders below `folder`, and the one network that is trained for both."""

    def __init__(self, folder: Path, encoder: Path, seed: int) -> None:
        """`encoder`: the folder of the embedded encoder, whose tokenizer and token vectors are used."""
        self.folder, self.encoder, self.seed = folder, encoder, seed
        self.tokenizer = extend_tokenizer(encoder / "tokenizer.json")
        self.layerwise = create("layerwise", self.tokenizer, folder / "demo-layerwise")
        lightweight = create("lightweight", self.tokenizer, folder / "demo-lightweight")
        assert isinstance(lightweight, LightweightFamily)
        self.lightweight = lightweight

    def start(self) -> LightweightModel:
        """The network, ready to be trained."""
        shape = _stack(self.layerwise).shape
        network = LightweightModel(shape, self.lightweight.config, len(self.lightweight.allowed_cutoffs))
        torch.manual_seed(self.seed)
        start(network, token_vectors(self.encoder, self.tokenizer.get_vocab_size()), self.tokenizer, self.seed)
        return network

    @torch.no_grad()
    def export(self, network: LightweightModel) -> None:
        """Write both models' weights."""
        words = network.stack.words.weight
        # trained with the one prompt, it reads the other in the same way
        ids = [self.tokenizer.token_to_id(PROMPTS[name]) for name in ("answer_yes_no", "answer")]
        words[ids[0]] = words[ids[1]]
        layerwise = self.layerwise.build(self.layerwise.dimensions.layers)
        assert isinstance(layerwise, DecoderModel)
        layerwise.load_state_dict(network.state_dict())
        export(layerwise, self.layerwise.checkpoint.folder)
        gemma = self.lightweight.build(self.lightweight.dimensions.layers)
        carry_over(network, gemma)
        export(gemma, self.lightweight.checkpoint.folder)


def _stack(family: CutoffFamily) -> DecoderStack:
    model = family.build(family.dimensions.layers)
    assert isinstance(model, DecoderModel)
    return model.stack
