"""Folders without tokenizer.json: what transformers converts gives the ids of the tokenizer.json it would have saved.

The sentencepiece models are written from the vocabularies of the goldens' tokenizers. Their ids, and those of the
vocabularies of BERT and RoBERTa, were compared with transformers 4.46 on the same files.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.convert_slow_tokenizer import import_protobuf

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.tokenizer_files import TokenizerFiles
from tests.conftest import CHECKPOINTS, Copy, golden, pairs
from tests.integration.test_bad_checkpoints import fails

CopyOf = Callable[..., Copy]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
FILES = {
    "encoder": "sentencepiece.bpe.model",
    "llm": "tokenizer.model",
    "layerwise": "tokenizer.model",
    "lightweight": "tokenizer.model",
}
LINES = """
what is a giant panda?
The Giant Panda is a bear.
大熊猫是一种熊。
ジャイアントパンダは熊です
판다는 곰이다
Панда — это медведь
Το πάντα είναι αρκούδα
الباندا دب ﷺ
הפנדה היא דוב
पांडा एक भालू है
แพนด้าเป็นหมี
პანდა დათვია
ፓንዳ ድብ ነው
naïve café ﬁne Ⅷ ½ ＡＢＣ
😀 🇫🇷
<s> </s> <pad> <unk> <mask>x <mask>
<bos><eos> <start_of_turn>
▁a ▁▁b
3.14159 1,000,000 2**31
https://example.org/a?b=c#d
"""
TEXTS = [
    *LINES.splitlines(),
    " two  spaces   before, and after ",
    " ",
    "\n",
    "a\tb\r\nc",
    "e\u0301 a\u0308",
    "\u200b\u00a0\ufeff",
    "\x00\x07",
    "\U0001f469\u200d\U0001f467",
]


def write_sentencepiece(family: str, path: Path) -> None:
    """A sentencepiece model with the vocabulary of a golden checkpoint's tokenizer.json."""
    content = json.loads((CHECKPOINTS / family / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary, proto = content["model"]["vocab"], import_protobuf().ModelProto()
    if family == "encoder":
        proto.trainer_spec.model_type = 1
        pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *vocabulary[4:-1]]
        charsmap = content["normalizer"]["normalizers"][0]["precompiled_charsmap"]
        proto.normalizer_spec.precompiled_charsmap = base64.b64decode(charsmap)
        kinds = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    else:
        proto.trainer_spec.model_type = 2
        proto.trainer_spec.byte_fallback = True
        pieces = [(piece, float(-i)) for i, piece in enumerate(sorted(vocabulary, key=vocabulary.__getitem__))]
        if family != "layerwise":  # Gemma's models have the tab as a byte
            pieces = [("<0x09>" if piece == "\t" else piece, score) for piece, score in pieces]
        kinds = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in content["added_tokens"]}
        kinds |= {f"<0x{byte:02X}>": BYTE for byte in range(256)} | {"<unk>": UNKNOWN}
    proto.trainer_spec.unk_id = [piece for piece, _ in pieces].index("<unk>")
    for piece, score in pieces:
        added = proto.pieces.add()
        added.piece, added.score, added.type = piece, score, kinds.get(piece, NORMAL)
    path.write_bytes(proto.SerializeToString())


def without_tokenizer_json(copy: CopyOf, family: str) -> Path:
    folder = copy(family).folder
    (folder / "tokenizer.json").unlink()
    write_sentencepiece(family, folder / FILES[family])
    return folder


def ids(folder: Path) -> list[list[int]]:
    tokenizer = TokenizerFiles(folder, json.loads((folder / "config.json").read_text())).tokenizer
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


@pytest.mark.parametrize("family", FILES)
def test_texts_of_every_script(copy: CopyOf, family: str) -> None:
    found = ids(without_tokenizer_json(copy, family))
    expected = ids(CHECKPOINTS / family)
    for text, got, wanted in zip(TEXTS, found, expected, strict=True):
        assert got == wanted, text


@pytest.mark.parametrize("family", FILES)
@pytest.mark.parametrize("name", ["france", "mixed", "odd"])
def test_the_scores_of_the_goldens(copy: CopyOf, family: str, name: str) -> None:
    cases = [c for c in golden()["cases"] if (c["family"], c["pairs"]) == (family, name) and not c["init"] | c["call"]]
    with load_scorer(without_tokenizer_json(copy, family), devices="cpu") as scorer:
        for case in cases:
            assert scorer.score_pairs(pairs(name)) == pytest.approx(case["scores"], abs=1e-4)


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "panda", "Panda", "##s", "cafe", "café", "熊", "猫", "."]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_vocabulary_of_bert(tmp_path: Path, end: str, last: bool) -> None:
    (tmp_path / "vocab.txt").write_bytes((end.join(BERT) + (end if last else "")).encode())

    def encode(text: str) -> list[int]:
        return list(
            TokenizerFiles(tmp_path, {"model_type": "bert"}).tokenizer.encode(text, add_special_tokens=False).ids
        )

    assert encode("Pandas café 熊猫.[MASK]") == [5, 7, 8, 10, 11, 12, 4]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert encode("Pandas café 熊猫.[MASK]") == [6, 7, 9, 10, 11, 12, 4]
    tokenizer = TokenizerFiles(tmp_path, {"model_type": "bert"}).tokenizer
    pair = tokenizer.encode("panda", "Panda")
    assert (pair.ids, pair.type_ids) == ([2, 5, 3, 6, 3], [0, 0, 0, 1, 1])


def test_a_vocabulary_of_roberta(tmp_path: Path) -> None:
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "Ġ", "ab", "Ġab", "<mask>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nĠ ab\n", encoding="utf-8")
    tokenizer = TokenizerFiles(tmp_path, {"model_type": "roberta"}).tokenizer
    assert tokenizer.encode("ab ab <mask>").ids == [0, 7, 8, 9, 2]
    assert tokenizer.encode("ab", "b").ids == [0, 7, 2, 2, 5, 2]


@pytest.mark.parametrize("family", FILES)
@pytest.mark.parametrize("content", [b"", b"anything", b"\x00" * 100, b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_broken_model_is_named(copy: CopyOf, family: str, content: bytes) -> None:
    folder = without_tokenizer_json(copy, family)
    (folder / FILES[family]).write_bytes(content)
    fails(folder, CheckpointError, FILES[family], "git lfs pull" if b"git-lfs" in content else "broken or cut short")


@pytest.mark.parametrize("kind", ["BertJapaneseTokenizer", "QWenTokenizer", "T5Tokenizer", "evil.Tokenizer"])
@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "vocab.txt", "qwen.tiktoken"])
def test_what_cannot_be_converted_is_refused_with_the_remedy(copy: CopyOf, kind: str, file: str) -> None:
    folder = copy().folder
    (folder / "tokenizer.json").unlink()
    (folder / file).write_text("anything")
    settings = {"tokenizer_class": kind, "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text("raise SystemExit('code of a checkpoint ran')")
    fails(folder, CheckpointError, "no tokenizer.json", file, kind, "save_pretrained")


def test_nothing_to_convert_is_refused_with_the_remedy(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "tokenizer.json").unlink()
    fails(folder, CheckpointError, "no tokenizer.json: copy it", "save_pretrained")


def run(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=100
    )
    return finished.stdout.strip()


def test_no_code_of_a_checkpoint_runs_and_nothing_is_asked(copy: CopyOf) -> None:
    folder = without_tokenizer_json(copy, "layerwise")
    for file in ("config.json", "tokenizer_config.json"):
        content: dict[str, Any] = json.loads((folder / file).read_text())
        content["auto_map"] = {"AutoConfig": "evil.C", "AutoTokenizer": ["evil.T", "evil.T"]}
        (folder / file).write_text(json.dumps(content))
    (folder / "evil.py").write_text("raise SystemExit('code of a checkpoint ran')")
    code = f"""
from bge_rerank_integrations import load_scorer
with load_scorer({str(folder)!r}) as scorer:
    print(len(scorer.score("q", ["a", "b"])))
"""
    assert run(code) == "2"


def test_a_missing_extra_is_named_in_one_line(copy: CopyOf) -> None:
    code = f"""
import sys
sys.modules["google.protobuf"] = None  # what Python itself sets for a module that cannot be imported
sys.modules["sentencepiece"] = None
from bge_rerank_integrations import load_scorer
try:
    load_scorer({str(without_tokenizer_json(copy, "encoder"))!r})
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run(code)
    assert said.startswith("MissingExtraError protobuf: not installed")
    assert "pip install protobuf" in said
    assert "\n" not in said
