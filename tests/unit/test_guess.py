"""Which encoding bytes are taken for."""

from __future__ import annotations

import pytest

from bge_rerank_integrations.guess import guess, what_it_is

CHINESE = "机器学习是人工智能的一个分支，研究如何让计算机从数据中学习。\n"
TAIWANESE = "臺北是臺灣的首都，人口眾多。我們喜歡吃飯。\n"
JAPANESE = "東京は日本の首都です。これはテストです。\n"
KOREAN = "서울은 한국의 수도이다. 고양이는 잠을 잔다.\n"
RUSSIAN = "Москва столица России\nid,text\n1,Как дела у кошки?\n"


@pytest.mark.parametrize(
    ("text", "encoding", "guessed"),
    [
        (CHINESE, "gbk", "gb18030"),
        (CHINESE, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16-be", "utf-16-be"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "utf-32", "utf-32"),
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "utf-8-sig", "utf-8"),
        ('{"query": "' + CHINESE[:8] + '", "id": "plain words"}\n', "gbk", "gb18030"),
        (TAIWANESE, "big5", "big5"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (KOREAN, "euc_kr", "euc_kr"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (RUSSIAN, "cp866", "cp866"),
        (RUSSIAN, "utf-16-le", "utf-16-le"),
        ("Москва\nстолица\n", "utf-16-be", "utf-16-be"),
        ("Grüße aus Köln\n", "latin-1", "cp1252"),
        ("été à Noël", "latin-1", "cp1252"),
        ("Ärger\n", "cp1252", "cp1252"),
        ("She said “hello” – and left…", "cp1252", "cp1252"),
        ("perché è così\n", "cp1252", "cp1252"),
        ("Zażółć gęślą jaźń\n", "cp1250", None),
        ("ירושלים היא בירת ישראל\n", "cp1255", None),
        ("Η Αθήνα είναι πρωτεύουσα\n", "cp1253", None),
        ("القاهرة هي عاصمة مصر\n", "cp1256", None),
    ],
)
def test_what_bytes_look_like(text: str, encoding: str, guessed: str | None) -> None:
    assert guess(text.encode(encoding)) == guessed


@pytest.mark.parametrize(("text", "encoding"), [(CHINESE, "gb18030"), (TAIWANESE, "big5"), (JAPANESE, "shift_jis")])
def test_a_letter_that_the_sample_cuts_does_not_matter(text: str, encoding: str) -> None:
    assert guess(text.encode(encoding)[:-2]) == encoding


@pytest.mark.parametrize(
    "sample",
    [
        bytes(range(256)) * 20,
        b"a log\0 with a zero\nand another line\n",
        ("größer " * 50).encode() + b"\xe9\n",  # UTF-8 with one bad letter
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0",
    ],
)
def test_what_cannot_be_told(sample: bytes) -> None:
    assert guess(sample) is None


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PK\x03\x04\x14\0", "an Office file"),
        (b"\x89PNG\r\n", "a picture"),
        (b"PAR1", "Parquet"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_files_that_are_no_text(head: bytes, what: str) -> None:
    found = what_it_is(head)
    assert found is not None
    assert what in found
    assert what_it_is(b"plain") is None
