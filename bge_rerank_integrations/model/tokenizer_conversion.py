"""Tokenizers from before tokenizer.json: a sentencepiece model, vocab.txt, or vocab.json with merges.txt.

transformers' converters build them, which are imported only here. They read attributes of an old release's tokenizer,
for which a namespace stands in, and two of them look for merges in a way that transformers 5 no longer has: `_Merges`
does that as transformers 4.46 did. No class of a checkpoint is looked up, so that no code of one can run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

from bge_rerank_integrations.errors import CheckpointError, MissingExtraError
from bge_rerank_integrations.model.json_file import damage, read_json
from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors

Merges = list[tuple[str, str]]


def convert_tokenizer(folder: Path, kind: str, tokens: Mapping[str, str], settings: Mapping[str, Any]) -> Tokenizer:
    """Build a folder's tokenizer.

    Args:
        kind: the class of transformers that the folder's files name.
        tokens: the special tokens, by names such as "bos_token".
        settings: tokenizer_config.json.

    Raises:
        CheckpointError: there is nothing to convert, or nothing that can be.
    """
    names, convert = _CONVERTERS.get(kind, ((), None))
    if convert is None or not all((folder / name).is_file() for name in names):
        others = sorted(path.name for path in folder.iterdir() if _is_vocabulary(path))
        has = (
            f", and {', '.join(others)} of a {kind or 'tokenizer of no known class'} cannot be converted"
            if others
            else ""
        )
        raise CheckpointError(
            f"{folder} has no tokenizer.json{has}: copy it from the model that this one was made from, or save one "
            "with transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    try:
        with tokenizer_errors("not a tokenizer"):
            return convert([folder / name for name in names], tokens, settings)
    except ImportError as error:
        raise MissingExtraError(["protobuf"], "convert") from error
    except _errors() as error:
        raise CheckpointError(damage(folder / names[0], error)) from error


def _is_vocabulary(path: Path) -> bool:
    return path.suffix in (".model", ".tiktoken", ".vocab") or path.name in ("vocab.txt", "vocab.json", "merges.txt")


def _errors() -> tuple[type[Exception], ...]:
    """What broken files raise; sentencepiece's are read by protobuf."""
    known = (CheckpointError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError)
    try:
        from google.protobuf.message import DecodeError
    except ImportError:
        return known
    return (*known, DecodeError)


def _from_sentencepiece(name: str) -> Callable[..., Tokenizer]:
    def convert(paths: list[Path], tokens: Mapping[str, str], settings: Mapping[str, Any]) -> Tokenizer:
        kind = getattr(import_module("transformers.convert_slow_tokenizer"), name)
        converter_class = type(name, (kind,), {"SpmExtractor": _GemmaMerges if name == "GemmaConverter" else _Merges})
        original = SimpleNamespace(vocab_file=str(paths[0]), **tokens)
        if name == "LlamaConverter":
            for key in ("legacy", "add_prefix_space"):
                setattr(original, key, True if settings.get(key) is None else bool(settings[key]))
        converter = converter_class(original)
        pieces = [piece.piece for piece in converter.proto.pieces]
        if len(pieces) < 4:  # an empty file is a model too, of nothing
            raise ValueError(f"it has {len(pieces)} pieces")
        original.convert_ids_to_tokens = pieces.__getitem__
        places = {piece: index for index, (piece, _) in enumerate(converter.vocab(converter.proto))}
        original.convert_tokens_to_ids = places.__getitem__
        converted: Tokenizer = converter.converted()
        return converted

    return convert


class _Merges:
    """The merges of a sentencepiece model's pairs, ordered by the scores of what they make."""

    def __init__(self, path: str) -> None:
        from transformers.convert_slow_tokenizer import import_protobuf

        self.proto = import_protobuf().ModelProto()
        self.proto.ParseFromString(Path(path).read_bytes())

    def extract(self, scores: list[tuple[str, float]]) -> tuple[dict[str, int], Merges]:
        from transformers.convert_slow_tokenizer import generate_merges

        vocabulary = self.vocabulary()
        merges: Merges = generate_merges(vocabulary, scores)
        return vocabulary, merges

    def vocabulary(self) -> dict[str, int]:
        return {piece.piece: index for index, piece in enumerate(self.proto.pieces)}


class _GemmaMerges(_Merges):
    """In Gemma's first models the tab is only there as a byte."""

    def vocabulary(self) -> dict[str, int]:
        vocabulary = super().vocabulary()
        if "\t" not in vocabulary and "<0x09>" in vocabulary:
            vocabulary["\t"] = vocabulary["<0x09>"]
        return vocabulary


def _from_vocabulary(paths: list[Path], tokens: Mapping[str, str], settings: Mapping[str, Any]) -> Tokenizer:
    from transformers.convert_slow_tokenizer import BertConverter

    lines = paths[0].read_text(encoding="utf-8").split("\n")
    vocabulary = {line: index for index, line in enumerate(lines if lines[-1] else lines[:-1])}
    original = _with_ids(tokens, vocabulary, ("cls_token", "sep_token"))
    original.vocab = vocabulary
    converted: Tokenizer = BertConverter(original).converted()
    return converted


def _from_merges(paths: list[Path], tokens: Mapping[str, str], settings: Mapping[str, Any]) -> Tokenizer:
    from transformers.convert_slow_tokenizer import RobertaConverter

    vocabulary = read_json(paths[0])
    lines = paths[1].read_text(encoding="utf-8").split("\n")[1:-1]
    original = _with_ids(tokens, vocabulary, ("cls_token", "sep_token"))
    original.encoder = vocabulary
    original.bpe_ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    original.add_prefix_space = bool(settings.get("add_prefix_space", False))
    converted: Tokenizer = RobertaConverter(original).converted()
    return converted


def _with_ids(tokens: Mapping[str, str], vocabulary: Mapping[str, int], names: tuple[str, ...]) -> SimpleNamespace:
    ids = {f"{name}_id": vocabulary[tokens[name]] for name in names}
    return SimpleNamespace(**tokens, **ids)


_Entry = tuple[tuple[str, ...], Callable[..., Tokenizer]]
_CONVERTERS: dict[str, _Entry] = {
    "BertTokenizer": (("vocab.txt",), _from_vocabulary),
    "RobertaTokenizer": (("vocab.json", "merges.txt"), _from_merges),
    "CamembertTokenizer": (("sentencepiece.bpe.model",), _from_sentencepiece("CamembertConverter")),
    "XLMRobertaTokenizer": (("sentencepiece.bpe.model",), _from_sentencepiece("XLMRobertaConverter")),
    "GemmaTokenizer": (("tokenizer.model",), _from_sentencepiece("GemmaConverter")),
    "LlamaTokenizer": (("tokenizer.model",), _from_sentencepiece("LlamaConverter")),
}
"""For each class, which files it is made of and how."""
