"""The student: its tokenizer, its starting weights and its export.

Tokenizer: WordPiece over a vocabulary of word stems and endings, so that "assigns" and "assigned" share a token, as
they do for BM25 with stemming.

Starting weights: token embeddings whose sum reproduces the teacher's sentence embeddings, in the first `SEMANTIC` of
the hidden dimensions; positions and each token's weight in the others; and a first two layers whose queries and keys
share one projection, so that equal tokens attend to each other from the start.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import Stemmer
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
BOS, PAD, EOS, UNK = range(4)
VOCABULARY = 11_000
HIDDEN, LAYERS, HEADS, FEED_FORWARD = 192, 4, 3, 384
SEMANTIC = 160  # hidden dimensions that start as the meaning of a token
POSITIONS = 514
QUOTES = "[\"'`‘’“”]"  # removed: they would be a tenth of all tokens
# As transformers 4.46 publishes the encoder rerankers.
CONFIG: dict[str, Any] = {
    "architectures": ["XLMRobertaForSequenceClassification"],
    "attention_probs_dropout_prob": 0.0,
    "bos_token_id": BOS,
    "classifier_dropout": None,
    "eos_token_id": EOS,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": HIDDEN,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.05,
    "intermediate_size": FEED_FORWARD,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": POSITIONS,
    "model_type": "xlm-roberta",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": PAD,
    "position_embedding_type": "absolute",
    "torch_dtype": "float16",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def build_tokenizer(texts: list[str], size: int = VOCABULARY) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of `size` tokens: frequent stems and endings, and pieces for the rest."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(QUOTES), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\W\d_]+|\d|_+|[^\w\s]"), behavior="removed", invert=True)
    counts = Counter(word for text in texts for word in split_words(tokenizer, text) if max(word) < "\u0250")
    stemmer = Stemmer.Stemmer("english")
    pieces: Counter[str] = Counter()
    for word, count in counts.items():
        stem = _common_prefix(word, stemmer.stemWord(word)) if word.isalpha() and word.isascii() else word
        if len(stem) < 3:
            stem = word
        pieces[stem] += count
        if stem != word:
            pieces["##" + word[len(stem) :]] += count
    endings = [piece for piece, _ in pieces.most_common() if piece.startswith("##")][:250]
    letters = sorted({c for word, count in counts.items() if count > 20 for c in word})
    trainer = trainers.WordPieceTrainer(vocab_size=2500, initial_alphabet=letters, show_progress=False)
    fallback = Tokenizer(models.WordPiece(unk_token="<unk>"))
    fallback.pre_tokenizer = pre_tokenizers.Whitespace()
    fallback.train_from_iterator((" ".join(counts) for _ in range(1)), trainer)
    vocabulary = [*SPECIAL, *letters, *("##" + letter for letter in letters), *endings]
    vocabulary += sorted(fallback.get_vocab(), key=lambda piece: fallback.get_vocab()[piece])
    vocabulary += [piece for piece, _ in pieces.most_common(size * 2) if not piece.startswith("##")]
    ordered = {piece: index for index, piece in enumerate(list(dict.fromkeys(vocabulary))[:size])}
    tokenizer.model = models.WordPiece(ordered, unk_token="<unk>", max_input_chars_per_word=40)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return tokenizer


def split_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text before they are cut into pieces."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]


def _common_prefix(word: str, stem: str) -> str:
    shared = next((i for i, (a, b) in enumerate(zip(word, stem, strict=False)) if a != b), min(len(word), len(stem)))
    return word[:shared]


def token_ids(tokenizer: Tokenizer, texts: list[str], most: int) -> list[list[int]]:
    """Ids without special tokens, at most `most` a text."""
    return [encoding.ids[:most] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def bag_of_words(
    ids: list[list[int]], targets: np.ndarray, *, vocabulary: int, steps: int = 1500, seed: int = 0
) -> Tensor:
    """Token vectors whose sum over a text points where the teacher's embedding of the text does.

    Trained so that in a batch each text's sum is closer to its own embedding than to the others'.
    Shape: (vocabulary, teacher's width); the length of a vector is the weight of its token.
    """
    torch.manual_seed(seed)
    width = targets.shape[1]
    bag = nn.EmbeddingBag(vocabulary, width, mode="sum")
    nn.init.normal_(bag.weight, std=0.02)
    optimizer = torch.optim.Adam(bag.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    goal = torch.from_numpy(targets)
    usable = torch.tensor([i for i, text in enumerate(ids) if text])
    for _ in range(steps):
        rows = usable[torch.randint(len(usable), (768,))]
        texts = [ids[i] for i in rows.tolist()]
        offsets = torch.tensor([0, *np.cumsum([len(text) for text in texts])[:-1].tolist()])
        pooled = nn.functional.normalize(bag(torch.tensor([t for text in texts for t in text]), offsets), dim=-1)
        similarity = pooled @ goal[rows].T
        loss = nn.functional.cross_entropy(similarity * 20, torch.arange(len(rows))) - 4 * similarity.diagonal().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return bag.weight.detach()


def main_axes(vectors: Tensor) -> Tensor:
    """The `SEMANTIC` directions in which token vectors differ most, (SEMANTIC, teacher's width), orthonormal."""
    axes: Tensor = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2]
    return axes[:SEMANTIC]


def start(vectors: Tensor, seed: int = 0) -> XLMRobertaForSequenceClassification:
    """A model that begins with `vectors` (vocabulary, teacher's width) as what its tokens mean."""
    torch.manual_seed(seed)
    config = XLMRobertaConfig(**{**CONFIG, "vocab_size": len(vectors)})
    config._attn_implementation = "eager"  # three times as fast as the fused kernel in bfloat16 at these lengths
    model = XLMRobertaForSequenceClassification(config)
    weights: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        _start_embeddings(weights, vectors)
        _start_attention(weights)
    return model


def _start_embeddings(weights: dict[str, Tensor], vectors: Tensor) -> None:
    """Hidden dimensions, in order: meaning, the token's weight, four flags for the special tokens, positions."""
    length = vectors.norm(dim=1).clamp_min(1e-6).log()
    weight = (length - length.mean()) / length.std()
    words = weights["roberta.embeddings.word_embeddings.weight"]
    words.normal_(std=0.01)
    words[:, :SEMANTIC] += 0.2 * SEMANTIC**0.5 * nn.functional.normalize(vectors @ main_axes(vectors).T, dim=1)
    words[:, SEMANTIC] = 0.2 * weight.clamp(-2.5, 2.5)
    words[: len(SPECIAL), SEMANTIC + 1 : SEMANTIC + 5] += 0.8 * torch.eye(len(SPECIAL))

    weights["roberta.embeddings.token_type_embeddings.weight"].zero_()
    positions = weights["roberta.embeddings.position_embeddings.weight"].zero_()
    waves = HIDDEN - SEMANTIC - 5
    place = torch.arange(POSITIONS, dtype=torch.float32)[:, None]
    period = torch.logspace(0.5, 3, (waves + 1) // 2)[None]
    positions[:, SEMANTIC + 5 :] = 0.2 * torch.cat([(place / period).sin(), (place / period).cos()], dim=1)[:, :waves]


def _start_attention(weights: dict[str, Tensor]) -> None:
    """Queries and keys of the first three layers begin equal: tokens of like meaning attend to each other.

    In the first two layers one of the heads stays random. The second layer's values pass meaning on as it is, so that
    the first and the last token can gather that of a whole text.
    """
    head = HIDDEN // HEADS
    for layer, rows in enumerate((2 * head, 2 * head, HIDDEN)):
        shared = torch.zeros(HIDDEN, HIDDEN)
        for first in range(0, HIDDEN, head):
            shared[first : first + head, :SEMANTIC] = torch.linalg.qr(torch.randn(SEMANTIC, head))[0].T
        for name in ("query", "key"):
            weights[f"roberta.encoder.layer.{layer}.attention.self.{name}.weight"][:rows] = shared[:rows]
    for name in ("self.value", "output.dense"):
        weights[f"roberta.encoder.layer.1.attention.{name}.weight"][:SEMANTIC, :SEMANTIC] = torch.eye(SEMANTIC)


def load(folder: Path) -> XLMRobertaForSequenceClassification:
    """An exported model, in float32."""
    model: XLMRobertaForSequenceClassification = XLMRobertaForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model


def export(model: XLMRobertaForSequenceClassification, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, tokenizer.json and model.safetensors (float16) as the published rerankers have them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    weights = {name: value for name, value in weights.items() if not re.search(r"position_ids|token_type_ids", name)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is written readable by its owner alone
    config = {**CONFIG, "vocab_size": model.config.vocab_size}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, encoding="utf-8")
