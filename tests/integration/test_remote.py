"""Scorers over HTTP, against servers on this machine that speak each dialect, and that fail in every way."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bge_rerank_integrations import langchain, llama_index, load_scorer
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.errors import ClosedError, OptionError, RemoteError, Timeout
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.remote.dialects import DIALECTS
from bge_rerank_integrations.remote.scorer import RemoteScorer
from tests.beir_example import write_beir
from tests.dialect_server import Server, logit, mapped, speaking

pytest.importorskip("tenacity")
QUERY = "what is asked?"
TEXTS = ["one text", "", "a longer text, of several words", "one text", " ", 'with "quotes" \\ and\nlines', "中文"]


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    with ExitStack() as running:
        yield lambda dialect, **options: running.enter_context(speaking(dialect, **options))


def scorer_of(server: Server, **options: Any) -> RemoteScorer:
    dialect = DIALECTS[server.dialect]
    given = {"scale": dialect.scales[0], "served_model": "a-model" if dialect.needs_model else None} | options
    return RemoteScorer(server.url, dialect=server.dialect, **given)


def texts_of(dialect: str) -> list[str]:
    return [text for text in TEXTS if text.strip()] if DIALECTS[dialect].refuses_blanks else TEXTS


@pytest.mark.parametrize(
    ("dialect", "scale"), [(name, scale) for name, dialect in DIALECTS.items() for scale in dialect.scales]
)
def test_scores_come_back_in_order_in_every_dialect(dialect: str, scale: Any, serve: Callable[..., Server]) -> None:
    if (dialect, scale) == ("xinference", "sigmoid"):
        pytest.skip("the server of this test gives logits in that dialect")
    server = serve(dialect)
    texts = texts_of(dialect)
    with scorer_of(server, scale=scale) as scorer:
        assert isinstance(scorer, ScorerProtocol)
        expected = [logit(QUERY, text) if scale == "logit" else mapped(logit(QUERY, text)) for text in texts]
        assert scorer.score(QUERY, texts) == pytest.approx(expected)
        assert asyncio.run(scorer.ascore(QUERY, texts)) == pytest.approx(expected)
        ranked = scorer.rank(QUERY, texts)
        assert [one.index for one in ranked] == sorted(range(len(texts)), key=lambda index: -expected[index])
        assert asyncio.run(scorer.arank(QUERY, texts, 2)) == ranked[:2]
        assert scorer.score_pairs([]) == scorer.score(QUERY, []) == []


def test_many_queries_are_split_and_put_back(serve: Callable[..., Server]) -> None:
    server = serve("tei")
    pairs = [(f"query {i % 3}", "word " * (i % 7)) for i in range(200)]
    with scorer_of(server) as scorer:
        assert scorer.score_pairs(pairs) == [logit(*pair) for pair in pairs]
        assert asyncio.run(scorer.ascore_pairs(iter(pairs))) == [logit(*pair) for pair in pairs]
    assert max(len(body["texts"]) for body in server.asked) == 32
    assert all(body["truncate"] is True for body in server.asked)


def test_requests_stay_below_the_bytes_that_a_server_takes(serve: Callable[..., Server]) -> None:
    server = serve("tei")
    with scorer_of(server) as scorer:
        texts = ["中" * 200_000] * 8
        assert scorer.score(QUERY, texts) == [logit(QUERY, text) for text in texts]
        assert len(server.asked) == 3  # 600 kB each as UTF-8
        with pytest.raises(ValueError, match="the text of pair 1 has 3,0"):
            scorer.score(QUERY, ["a", "中" * 1_000_000])


def test_an_empty_document_is_not_another_sequence_for_vllm(serve: Callable[..., Server]) -> None:
    server = serve("vllm")
    with scorer_of(server) as scorer:
        scorer.score(QUERY, ["", "a"])
    assert server.asked[0]["documents"] == [" ", "a"]
    assert server.asked[0]["truncate_prompt_tokens"] == -1


def test_sglang_is_not_asked_what_it_refuses(serve: Callable[..., Server]) -> None:
    server = serve("sglang")
    with scorer_of(server) as scorer, pytest.raises(ValueError, match="the text of pair 1 is ' '"):
        scorer.score(QUERY, ["a", " "])
    assert server.asked == []


def test_llamacpp_one_text_that_is_too_long_does_not_cost_the_others(serve: Callable[..., Server]) -> None:
    server = serve("llamacpp")
    too_long = (500, {}, b'{"error": "input is too large to process"}')
    server.faults = [too_long]
    with scorer_of(server) as scorer:
        assert scorer.score(QUERY, ["a", "bb"]) == [logit(QUERY, "a"), logit(QUERY, "bb")]
        server.faults = [too_long, too_long]
        with pytest.raises(RemoteError, match=r"the text of pair 0 .* --ubatch-size"):
            scorer.score(QUERY, ["a", "bb"])


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0"}, b""),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"busy"),
        "reset",
        "cut off",
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(
    fault: Any, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bge_rerank_integrations.remote import transport

    monkeypatch.setattr(transport, "WAIT", lambda state: 0.0)
    server = serve("tei", faults=[fault, fault])
    with scorer_of(server) as scorer:
        assert scorer.score(QUERY, ["a"]) == [logit(QUERY, "a")]
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_given_up(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    from bge_rerank_integrations.remote import transport

    monkeypatch.setattr(transport, "WAIT", lambda state: 0.0)
    server = serve("infinity", faults=[(429, {}, b"queue full")] * 50)
    with scorer_of(server) as scorer, pytest.raises(RemoteError, match=r"429: the server is busy.*queue full"):
        scorer.score(QUERY, ["a"])
    assert len(server.asked) == transport.ATTEMPTS
    server.asked.clear()
    server.faults = [(429, {"Retry-After": "3600"}, b"")]
    with scorer_of(server) as scorer, pytest.raises(RemoteError, match="429"):
        scorer.score(QUERY, ["a"])
    assert len(server.asked) == 1  # nobody waits for an hour


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 424, 500, 501])
def test_a_refusal_is_told_at_once_with_what_to_do(status: int, serve: Callable[..., Server]) -> None:
    server = serve("tei", faults=[(status, {}, b'{"error": "because"}')])
    with scorer_of(server) as scorer, pytest.raises(RemoteError, match=f"{status}: .*because") as caught:
        scorer.score(QUERY, ["a"])
    assert caught.value.status == status
    assert len(server.asked) == 1


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "missing": (lambda answer: answer[1:], "has 1 results for 2 texts"),
    "twice": (lambda answer: [*answer, answer[0]], "two results for index"),
    "unknown": (lambda answer: [{"index": 2, "score": 1.0}], "index 2 of 2 texts"),
    "negative": (lambda answer: [{"index": -1, "score": 1.0}], "index -1 of 2 texts"),
    "no index": (lambda answer: [{"score": 1.0}], "index None"),
    "a text": (lambda answer: [{"index": 0, "score": "high"}], "the score 'high'"),
    "nothing": (lambda answer: None, "no list of results"),
    "another dialect": (lambda answer: {"results": answer}, "no list of results: it looks like dialect vllm, infinity"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_answer_is_checked(name: str, serve: Callable[..., Server]) -> None:
    change, said = CHANGES[name]
    with scorer_of(serve("tei", change=change)) as scorer, pytest.raises(RemoteError, match=said):
        scorer.score(QUERY, ["a", "bb"])


def test_numbers_that_are_none(serve: Callable[..., Server]) -> None:
    nan = (200, {}, b'[{"index": 0, "score": NaN}]')
    with scorer_of(serve("tei", faults=[nan])) as scorer, pytest.raises(RemoteError, match="scored pair 0 as nan"):
        scorer.score(QUERY, ["a"])
    failed = {"object": "list", "results": [{"index": 0, "relevance_score": -1e6}]}
    with scorer_of(serve("llamacpp", change=lambda _: failed)) as scorer, pytest.raises(RemoteError, match="pair 0"):
        scorer.score(QUERY, ["a"])


def test_logits_are_not_taken_for_numbers_between_0_and_1(serve: Callable[..., Server]) -> None:
    with (
        scorer_of(serve("xinference"), scale="sigmoid") as scorer,
        pytest.raises(RemoteError, match="it gives logits; use scale='logit'"),
    ):
        scorer.score(QUERY, ["a", "a longer text"])


def test_a_page_of_a_portal(serve: Callable[..., Server]) -> None:
    page = (200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
    with scorer_of(serve("tei", faults=[page])) as scorer, pytest.raises(RemoteError, match=r"a web page.*proxy"):
        scorer.score(QUERY, ["a"])


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    from bge_rerank_integrations.remote import transport

    monkeypatch.setattr(transport, "WAIT", lambda state: 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with RemoteScorer(url, dialect="tei") as scorer, pytest.raises(RemoteError, match="cannot be reached"):
            scorer.score(QUERY, ["a"])


def test_a_silent_server_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with RemoteScorer(url, dialect="tei", timeout=0.2) as scorer:
            with pytest.raises(Timeout, match=r"within 0\.2 s"):
                scorer.score(QUERY, ["a"])
            with pytest.raises(Timeout, match=r"within 0\.2 s"):
                asyncio.run(scorer.ascore(QUERY, ["a"]))


def test_the_key_is_sent_and_shown_nowhere(serve: Callable[..., Server]) -> None:
    server = serve("cohere", faults=[(401, {}, b"no")])
    scorer = scorer_of(server, api_key="secret-key")
    with pytest.raises(RemoteError, match="check api_key") as caught:
        scorer.score(QUERY, ["a"])
    assert scorer.score(QUERY, ["a"])
    assert server.headers[-1]["Authorization"] == "Bearer secret-key"
    for shown in (repr(scorer), str(caught.value), pickle.dumps(scorer).decode("latin-1"), str(vars(scorer.options))):
        assert "secret-key" not in shown
    assert copy.deepcopy(scorer) is scorer
    assert repr(pickle.loads(pickle.dumps(scorer))) == repr(scorer)
    scorer.close()
    scorer.close()
    with pytest.raises(ClosedError):
        scorer.score(QUERY, ["a"])


@pytest.mark.parametrize(
    ("dialect", "model", "sent"),
    [
        ("bge-rerank", "deep", "deep"),
        ("bge-rerank", None, None),
        ("bge-rerank", "模型", None),  # a header cannot carry it; the body does
        ("bge-rerank", "two\nlines", None),
        ("cohere", "deep", None),
    ],
)
def test_ray_serve_is_told_the_model_by_a_header(
    dialect: str, model: str | None, sent: str | None, serve: Callable[..., Server]
) -> None:
    server = serve(dialect)
    with load_scorer(server.url, dialect=dialect, served_model=model, scale="sigmoid") as scorer:
        scorer.score("q", ["a"])
    assert server.asked[0].get("model") == model
    names = {name.lower(): value for name, value in server.headers[0].items()}
    assert names.get("serve-multiplexed-model-id") == sent


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dialect": "tie"}, "dialect='tie': use one of bge-rerank, tei, vllm"),
        ({"dialect": "cohere", "served_model": "m"}, "scale='logit' cannot be had from dialect 'cohere'"),
        ({"dialect": "sglang", "scale": "sigmoid"}, "it gives logits"),
        ({"dialect": "jina", "scale": "sigmoid"}, "served_model="),
        ({"dialect": "tei", "concurrency": 0}, "concurrency=0"),
    ],
)
def test_impossible_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        RemoteScorer("http://127.0.0.1:1", **options)
    with pytest.raises(OptionError, match="begins with http"):
        RemoteScorer("127.0.0.1:8080", dialect="tei")


def test_threads_and_tasks_share_one(serve: Callable[..., Server]) -> None:
    server = serve("tei")
    with scorer_of(server) as scorer, ThreadPoolExecutor(8) as threads:
        asked = [(f"query {i}", [f"text {'x' * (i % 5)}"] * 3) for i in range(40)]
        expected = [[logit(query, text) for text in texts] for query, texts in asked]
        assert list(threads.map(lambda one: scorer.score(*one), asked)) == expected

        async def together() -> list[list[float]]:
            return await asyncio.gather(*(scorer.ascore(*one) for one in asked))

        assert asyncio.run(together()) == expected


# --- in the place of a local scorer ----------------------------------------------------------------------------------


def test_load_scorer_takes_an_address(serve: Callable[..., Server]) -> None:
    server = serve("tei")
    with load_scorer(server.url, dialect="tei", scale="sigmoid", timeout=60) as scorer:
        assert scorer.score(QUERY, ["a"]) == pytest.approx([mapped(logit(QUERY, "a"))])
    with pytest.raises(OptionError, match=r"say what it speaks, such as dialect='tei'"):
        load_scorer(server.url)
    with pytest.raises(OptionError, match="devices, max_length cannot be chosen from here"):
        load_scorer(server.url, dialect="tei", max_length=128, devices="cpu")
    for wrong in ({}, {"dialect": "tei", "max_length": 128}):
        with pytest.raises(OptionError) as caught:
            load_scorer("http://user:secret@127.0.0.1:1", **wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(OptionError, match="'demo' is not the address of a server"):
        load_scorer("demo", dialect="tei")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("https://huggingface.co/BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"),
        ("https://hf-mirror.com/owner/name/tree/main", "owner/name"),
        ("https://www.modelscope.cn/models/owner/name/summary", "owner/name"),
    ],
)
def test_the_page_of_a_model_is_no_server(page: str, name: str) -> None:
    with pytest.raises(OptionError, match=f"is a page of a hub: give the hub id alone, '{name}'"):
        load_scorer(page)


ADAPTERS: list[Any] = [langchain.BGERerank, llama_index.BGERerank]


def best(adapter: Any) -> list[str]:
    if isinstance(adapter, langchain.BGERerank):
        return [one.page_content for one in adapter.compress_documents([Document(text) for text in TEXTS], QUERY)]
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    return [one.node.get_content() for one in adapter.postprocess_nodes(nodes, query_str=QUERY)]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_work_on_a_server_unchanged(kind: Any, serve: Callable[..., Server]) -> None:
    server = serve("tei")
    adapter = kind(model=server.url, dialect="tei", api_key="secret-key", top_n=3)
    order = sorted(range(len(TEXTS)), key=lambda index: -logit(QUERY, TEXTS[index]))
    assert best(adapter) == [TEXTS[index] for index in order[:3]]
    assert best(adapter.with_options(top_n=1)) == [TEXTS[order[0]]]
    assert server.headers[-1]["Authorization"] == "Bearer secret-key"
    for shown in (repr(adapter), adapter.model_dump_json(), pickle.dumps(adapter).decode("latin-1")):
        assert "secret-key" not in shown
    adapter.close()
    with kind_without_key(kind, server) as again:
        assert best(again) == [TEXTS[index] for index in order[:3]]


@contextmanager
def kind_without_key(kind: Any, server: Server) -> Iterator[Any]:
    adapter = kind(scorer=RemoteScorer(server.url, dialect="tei"))
    yield adapter
    adapter.scorer.close()


def test_the_command_line_asks_a_server(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server = serve("infinity")
    path = tmp_path / "texts.txt"
    path.write_text("one text\na longer text, of several words\n")
    words = ["rank", QUERY, str(path), "--model", server.url, "--dialect", "infinity", "--json"]
    monkeypatch.setattr("sys.argv", ["bge-rerank", *words])
    monkeypatch.setenv("BGE_RERANK_API_KEY", "secret-key")
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["relevance_score"] for one in found] == sorted(
        (logit(QUERY, text) for text in path.read_text().splitlines()), reverse=True
    )
    assert server.headers[0]["Authorization"] == "Bearer secret-key"


def test_evaluate_compares_a_server(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bge_rerank_integrations.evaluation import evaluate, read_beir

    server = serve("tei")
    monkeypatch.setenv("BGE_RERANK_API_KEY", "secret-key")
    settings = {"model": server.url, "dialect": "tei", "name": "server"}
    result = evaluate(read_beir(write_beir(tmp_path)), settings, out=tmp_path / "out", timing_queries=1)
    assert [row.name for row in result.rows] == ["first stage (BM25)", "server"]
    written = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*.json*"))
    assert server.url in written
    assert server.headers[0]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in written
