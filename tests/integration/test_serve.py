"""The server over real sockets: what it answers in each dialect, and what it refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.serve import ServerSettings, create_app
from tests.conftest import FAMILIES, pairs
from tests.server import serving

QUERY = pairs("france")[0][0]
TEXTS = [text for _, text in pairs("france")] + [text for _, text in pairs("odd")]
KEY = "a key of some length"


@pytest.fixture(scope="module")
def url(scorers: Callable[[str], Scorer]) -> Iterator[str]:
    """A server of all four families."""
    with serving(create_app({family: scorers(family) for family in FAMILIES})) as address:
        yield address


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(url + path, json=body, timeout=60)


def answer(url: str, path: str, **body: Any) -> Any:
    answered = post(url, path, **body)
    assert answered.status_code == 200, answered.text
    return answered.json()


def refusal(answered: httpx.Response, status: int) -> str:
    """The reason, which clients of each dialect find under a name of their own."""
    assert answered.status_code == status, answered.text
    body = answered.json()
    assert body["message"] == body["error"] == body["detail"]
    return str(body["message"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("path", ["/rerank", "/"])
def test_tei(url: str, scorers: Callable[[str], Scorer], family: str, path: str) -> None:
    ours = scorers(family).rank(QUERY, TEXTS)
    raw = answer(url, path, model=family, query=QUERY, texts=TEXTS, raw_scores=True, return_text=True)
    assert [one["index"] for one in raw] == [one.index for one in ours]
    assert [one["score"] for one in raw] == pytest.approx([one.score for one in ours], abs=1e-5)
    assert [one["text"] for one in raw] == [TEXTS[one.index] for one in ours]
    ours = scorers(family).with_options(scale="sigmoid").rank(QUERY, TEXTS)
    squashed = answer(url, path, model=family, query=QUERY, texts=TEXTS, truncate=True)
    assert [one["score"] for one in squashed] == pytest.approx([one.score for one in ours], abs=1e-5)
    assert set(squashed[0]) == {"index", "score"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank"])
def test_cohere_and_jina(url: str, scorers: Callable[[str], Scorer], family: str, path: str) -> None:
    ours = scorers(family).with_options(scale="sigmoid").rank(QUERY, TEXTS, top_n=3)
    documents = [{"text": text, "id": i} if i % 2 else text for i, text in enumerate(TEXTS)]
    got = answer(url, path, model=family, query=QUERY, documents=documents, top_n=3, max_tokens_per_doc=None)
    assert [one["index"] for one in got["results"]] == [one.index for one in ours]
    assert [one["relevance_score"] for one in got["results"]] == pytest.approx([one.score for one in ours], abs=1e-5)
    assert set(got["results"][0]) == {"index", "relevance_score"}
    assert got["model"] == family
    assert got["id"]
    assert got["meta"]["api_version"]["version"] == ("1" if "v1" in path else "2")
    got = answer(url, path, model=family, query=QUERY, documents=documents, return_documents=True)
    for one in got["results"]:
        assert one["document"]["text"] == TEXTS[one["index"]]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("layerwise", {"cutoff_layer": 3}),
        ("layerwise", {"prompt": "Are they alike?"}),
        ("lightweight", {"cutoff_layer": 4, "compress_ratio": 2, "compress_layers": [2]}),
        ("lightweight", {"compress_ratio": 4, "compress_layers": 2, "prompt": "same_meaning"}),
        ("llm", {"prompt": "same_question"}),
    ],
)
@pytest.mark.parametrize("name", ["texts", "documents"])
def test_options_of_one_request(
    url: str, scorers: Callable[[str], Scorer], family: str, options: dict[str, Any], name: str
) -> None:
    scorer = scorers(family)
    ours = scorer.with_options(**options).rank(QUERY, TEXTS)
    got = answer(url, "/rerank", model=family, query=QUERY, raw_scores=True, **{name: TEXTS}, **options)
    results = got if name == "texts" else got["results"]
    assert [one["index"] for one in results] == [one.index for one in ours]
    scores = [one.get("score", one.get("relevance_score")) for one in results]
    assert scores == pytest.approx([one.score for one in ours], abs=1e-5)
    assert scores != pytest.approx([one.score for one in scorer.rank(QUERY, TEXTS)], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"texts": ["a"], "cutoff_layer": 3}, 400, "cutoff_layer=3 is not an option of the encoder family"),
        ({"texts": ["a"], "compress_ratio": 2}, 400, "compress_ratio=2 is not an option of the encoder family"),
        ({"texts": ["a"], "prompt": "p"}, 400, "prompt='p' is not an option of the encoder family"),
        ({"texts": ["a"], "model": "layerwise", "cutoff_layer": 99}, 400, "use one of"),
        ({"texts": ["a"], "model": "lightweight", "compress_ratio": 3}, 400, "use one of"),
        ({"texts": ["a"], "truncate": False}, 400, "truncate=false"),
        ({"texts": ["a"], "truncation_direction": "Left"}, 400, "cut at their end"),
        ({"texts": []}, 400, "texts is empty"),
        ({"documents": []}, 400, "documents is empty"),
        ({"documents": ["a"], "truncation": False}, 400, "truncation=false"),
        ({"documents": ["a"], "max_tokens_per_doc": 100}, 400, "max_tokens_per_doc=100"),
        ({"documents": ["a"], "max_chunks_per_doc": 2}, 400, "max_chunks_per_doc=2"),
        ({"documents": ["a"], "rank_fields": ["title"]}, 400, "rank_fields"),
        ({"documents": ["a"], "top_n": 0}, 422, "top_n: Input should be greater than or equal to 1"),
        ({"documents": ["a", 3]}, 422, "documents.1: "),
        ({"texts": ["a", None]}, 422, "texts.1: Input should be a valid string"),
        ({"texts": "a"}, 422, "texts: "),
        ({"texts": ["a"], "cutof_layer": 3}, 422, "cutof_layer: unknown field"),
        ({}, 422, "texts: Field required"),
        ({"texts": ["a"], "model": "another"}, 404, "model='another' is not here: use one of 'encoder', 'llm'"),
    ],
)
def test_refusals_name_value_and_remedy(url: str, body: dict[str, Any], status: int, reason: str) -> None:
    said = refusal(post(url, "/rerank", query="q", **body), status)
    assert reason in said
    assert "checkpoints" not in said, "where the server keeps its models is nobody's business"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_request(url: str, content: bytes) -> None:
    answered = httpx.post(f"{url}/rerank", content=content, headers={"Content-Type": "application/json"})
    assert answered.status_code in (400, 422)
    assert refusal(answered, answered.status_code)


def test_a_refusal_does_not_repeat_texts(url: str) -> None:
    secret = "what nobody else may read"
    assert secret not in post(url, "/rerank", query={"text": secret}, texts=[secret, [secret]]).text


def test_any_text_comes_back(url: str, scorers: Callable[[str], Scorer]) -> None:
    texts = ["", "half of an emoji \ud83d", "\x00", "日本語", "e\u0301", " " * 1000]
    body = json.dumps({"query": "\ud83d", "texts": texts, "return_text": True})
    answered = httpx.post(f"{url}/rerank", content=body, headers={"Content-Type": "application/json"})
    assert answered.status_code == 200
    assert sorted(one["text"] for one in json.loads(answered.content)) == sorted(texts)


def test_more_texts_than_tei_takes_and_equal_ones_in_the_order_given(url: str) -> None:
    got = answer(url, "/rerank", query=QUERY, texts=[TEXTS[0]] * 100)
    assert [one["index"] for one in got] == list(range(100))


def test_info_and_names(url: str, scorers: Callable[[str], Scorer]) -> None:
    info = httpx.get(f"{url}/info").json()
    assert info["model_id"] == "encoder"
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] == scorers("encoder").options.max_length
    info = httpx.get(f"{url}/info", params={"model": "layerwise"}).json()
    assert info["family"] == "layerwise"
    assert info["cutoff_layers"] == list(scorers("layerwise").cutoff_layers)
    assert [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]] == list(FAMILIES)
    assert refusal(httpx.get(f"{url}/info", params={"model": "no"}), 404)


def test_unknown_paths_and_methods(url: str) -> None:
    assert refusal(httpx.get(f"{url}/nothing"), 404) == "Not Found"
    assert refusal(httpx.get(f"{url}/rerank"), 405) == "Method Not Allowed"


def test_metrics_are_those_of_the_scorers(url: str, scorers: Callable[[str], Scorer]) -> None:
    answer(url, "/rerank", query=QUERY, texts=TEXTS)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    stats = scorers("encoder").stats()
    assert float(values['bge_rerank_pairs_total{model="encoder"}']) == stats.pairs
    assert float(values['bge_rerank_tokens_total{model="encoder"}']) == stats.tokens
    assert float(values['bge_rerank_forward_seconds_total{model="encoder"}']) == stats.seconds_forward
    assert float(values['bge_rerank_queued_tokens{model="encoder"}']) == 0
    assert float(values['bge_rerank_http_requests_total{path="/rerank",status="200"}']) >= 1
    assert float(values["bge_rerank_http_requests_under_way"]) == 1


def test_openapi_has_examples_that_work(url: str) -> None:
    schemas = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]
    for name, path in (("TEIRequest", "/rerank"), ("RerankRequest", "/v2/rerank")):
        for example in schemas[name]["examples"]:
            assert answer(url, path, **example)


def test_the_access_log_has_no_texts(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer(url, "/rerank", query="a secret question", texts=["a secret text", "another"])
        httpx.get(f"{url}/secret-path?secret=1")
        while not any("other 404" in record.getMessage() for record in caplog.records):
            httpx.get(f"{url}/health")  # a request is logged after it is answered
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("bge_rerank_integrations")]
    assert any("POST /rerank 200, texts 2" in line for line in ours)
    assert any("GET other 404" in line for line in ours)
    assert "secret" not in "".join(ours)


def test_scores_between_0_and_1_whatever_the_scale_of_the_scorer() -> None:
    with load_scorer("demo", scale="sigmoid") as scorer, serving(create_app({"demo": scorer})) as url:
        raw = answer(url, "/rerank", query=QUERY, texts=TEXTS, raw_scores=True)
        ours = scorer.with_options(scale="logit").rank(QUERY, TEXTS)
        assert [one["score"] for one in raw] == pytest.approx([one.score for one in ours], abs=1e-5)
        assert all(0 <= one["score"] <= 1 for one in answer(url, "/rerank", query=QUERY, texts=TEXTS))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY}", 200),
        (KEY, 200),  # LlamaIndex's postprocessor for TEI sends it so
        ("Bearer wrong", 401),
        (f"Bearer {KEY}x", 401),
        (f"Basic {KEY}", 401),
        ("Bearer", 401),
        ("", 401),
        (None, 401),
    ],
)
def test_the_key(encoder: Scorer, caplog: pytest.LogCaptureFixture, header: str | None, status: int) -> None:
    settings = ServerSettings(api_key=KEY)
    assert KEY not in repr(settings)
    headers = {} if header is None else {"Authorization": header}
    with (
        caplog.at_level(logging.DEBUG, "bge_rerank_integrations"),
        serving(create_app({"m": encoder}, settings)) as url,
    ):
        for path in ("/rerank", "/", "/v1/rerank", "/v2/rerank"):
            body = {"query": "q", "documents" if "v" in path else "texts": ["a"]}
            answered = httpx.post(url + path, json=body, headers=headers)
            assert answered.status_code == status
            if status == 401:
                assert "API key" in refusal(answered, 401)
                assert answered.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/metrics", "/info", "/v1/models", "/openapi.json"):
            assert httpx.get(url + path, headers=headers).status_code == status
        assert httpx.get(f"{url}/health").status_code == 200, "probes have no key"
    assert KEY not in caplog.text


def test_limits(encoder: Scorer) -> None:
    settings = ServerSettings(max_body_bytes=2_000, max_texts=3, max_characters=50)
    with serving(create_app({"m": encoder}, settings)) as url:
        assert "texts has 4 entries, more than 3" in refusal(post(url, "/rerank", query="q", texts=["a"] * 4), 422)
        assert "texts[1] has 51 characters, more than 50" in refusal(
            post(url, "/rerank", query="q", texts=["a", "a" * 51]), 422
        )
        assert "documents[0] has" in refusal(post(url, "/v2/rerank", query="q", documents=[{"text": "a" * 51}]), 422)
        assert "query has" in refusal(post(url, "/rerank", query="q" * 51, texts=["a"]), 422)
        assert "prompt has" in refusal(post(url, "/rerank", query="q", texts=["a"], prompt="p" * 51), 422)
        assert "more than 2000 bytes" in refusal(post(url, "/rerank", query="q", texts=["a" * 2_000]), 413)
        pieces = (b"x" * 500 for _ in range(10))  # of a length that nobody tells beforehand
        headers = {"Content-Type": "application/json"}
        assert "more than 2000 bytes" in refusal(httpx.post(f"{url}/rerank", content=pieces, headers=headers), 413)
        assert answer(url, "/rerank", query="q" * 50, texts=["a" * 50] * 3)
