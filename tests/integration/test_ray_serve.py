"""Ray Serve: the server's application in replicas, over real sockets; and serve.yaml, as Ray reads and runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml

pytest.importorskip("ray")

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.dataset.runner import Model
from bge_rerank_integrations.errors import CheckpointError, ClosedError, OptionError
from bge_rerank_integrations.langchain import BGERerank
from bge_rerank_integrations.ray import build_app, serve_app
from bge_rerank_integrations.ray.serving import Replica
from bge_rerank_integrations.serve import ServerSettings
from tests.conftest import CHECKPOINTS, pairs
from tests.ray_serve import LONG, free_port, serving

ROOT = Path(__file__).parents[2]
QUERY = pairs("france")[0][0]
TEXTS = [text for _, text in pairs("france")] + [text for _, text in pairs("odd")]
MODELS = {
    "encoder": str(CHECKPOINTS / "encoder"),
    "layerwise": {"model": str(CHECKPOINTS / "layerwise"), "cutoff_layer": 3},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Two replicas, on a Ray that has two CPUs."""
    from ray import serve

    with serving(cpus=2) as address:
        serve.run(serve_app(MODELS, min_replicas=2, max_replicas=2, settings={"max_texts": 50}))
        yield address


@pytest.fixture(scope="module")
def here() -> Iterator[dict[str, Scorer]]:
    """The same models in this process."""
    with load_scorer(MODELS["encoder"]) as encoder, load_scorer(**MODELS["layerwise"]) as layerwise:
        yield {"encoder": encoder, "layerwise": layerwise}


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(url + path, json=body, timeout=LONG)


@pytest.mark.parametrize(("dialect", "name"), [("tei", None), ("cohere", "encoder"), ("cohere", "layerwise")])
def test_our_own_client(url: str, here: dict[str, Scorer], dialect: str, name: str | None) -> None:
    ours = here[name or "encoder"].with_options(scale="sigmoid").rank(QUERY, TEXTS)
    with load_scorer(url, dialect=dialect, served_model=name, scale="sigmoid") as scorer:
        theirs = scorer.rank(QUERY, TEXTS)
    assert [one.index for one in theirs] == [one.index for one in ours]
    assert [one.score for one in theirs] == pytest.approx([one.score for one in ours], abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_requests_as_tei_and_cohere_have_them(url: str, here: dict[str, Scorer], name: str) -> None:
    ours = here[name].rank(QUERY, TEXTS)
    answer = post(url, "/rerank", model=name, query=QUERY, texts=TEXTS, raw_scores=True)
    assert [one["index"] for one in answer.json()] == [one.index for one in ours]
    assert [one["score"] for one in answer.json()] == pytest.approx([one.score for one in ours], abs=1e-5)
    ours = here[name].with_options(scale="sigmoid").rank(QUERY, TEXTS, top_n=3)
    results = post(url, "/v2/rerank", model=name, query=QUERY, documents=TEXTS, top_n=3).json()["results"]
    assert [one["index"] for one in results] == [one.index for one in ours]
    assert [one["relevance_score"] for one in results] == pytest.approx([one.score for one in ours], abs=1e-5)


def test_an_adapter(url: str, here: dict[str, Scorer]) -> None:
    from langchain_core.documents import Document

    documents = [Document(text) for text in TEXTS]
    remote = BGERerank(model=url, dialect="tei", top_n=None).compress_documents(documents, QUERY)
    local = BGERerank(scorer=here["encoder"], top_n=None).compress_documents(documents, QUERY)
    assert [one.page_content for one in remote] == [one.page_content for one in local]


def test_options_of_one_request(url: str, here: dict[str, Scorer]) -> None:
    ours = here["layerwise"].with_options(cutoff_layer=4).rank(QUERY, TEXTS)
    answer = post(url, "/rerank", model="layerwise", query=QUERY, texts=TEXTS, raw_scores=True, cutoff_layer=4)
    assert [one["score"] for one in answer.json()] == pytest.approx([one.score for one in ours], abs=1e-5)


def test_many_at_once(url: str, here: dict[str, Scorer]) -> None:
    ours = here["encoder"].score(QUERY, TEXTS)

    def ask(_: int) -> list[float]:
        answer = post(url, "/rerank", query=QUERY, texts=TEXTS, raw_scores=True).json()
        return [one["score"] for one in sorted(answer, key=lambda one: one["index"])]

    with ThreadPoolExecutor(16) as threads:
        for scores in threads.map(ask, range(100)):
            assert scores == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"model": "another", "texts": ["a"]}, 404, "model='another' is not here: use one of 'encoder', 'layerwise'"),
        ({"texts": ["a"], "cutoff_layer": 3}, 400, "cutoff_layer=3 is not an option of the encoder family"),
        ({"texts": ["a"] * 51}, 422, "more than 50"),
    ],
)
def test_refusals_are_those_of_the_server(url: str, body: dict[str, Any], status: int, reason: str) -> None:
    answer = post(url, "/rerank", query="q", **body)
    assert answer.status_code == status
    assert reason in answer.json()["message"]


def test_names_and_health(url: str) -> None:
    assert [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]] == list(MODELS)
    assert httpx.get(f"{url}/health").json() == {"status": "ready", "models": dict.fromkeys(MODELS, "ready")}


@pytest.fixture
def in_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve.multiplexed` asks where it is, to tell Ray's controller what is loaded there."""
    here = SimpleNamespace(app_name="rerank", deployment="rerank", replica_id="one")
    monkeypatch.setattr("ray.serve.multiplex._get_internal_replica_context", lambda: here)


async def replica(models: dict[str, Model] | None = None, most: int = 1, **settings: Any) -> Replica:
    one = Replica.__new__(Replica)
    await one.__init__(  # type: ignore[misc]  # as Ray calls it
        models or {"encoder": Model(str(CHECKPOINTS / "encoder"))}, most, None, ServerSettings(**settings)
    )
    return one


async def test_a_closed_scorer_is_not_healthy(in_replica: None) -> None:
    one = await replica()
    one.check_health()
    one.__del__()
    with pytest.raises(ClosedError, match="encoder: the scorer was closed"):
        one.check_health()


async def test_a_model_that_cannot_be_loaded_closes_the_others(in_replica: None, tmp_path: Path, loads: Any) -> None:
    models = {"bad": Model(str(tmp_path)), "good": Model(str(CHECKPOINTS / "encoder"))}
    with pytest.raises(CheckpointError):
        await replica(models, most=2)
    assert [scorer.closed for scorer in loads.scorers] == [True]


async def test_the_key_is_of_the_replicas_environment(in_replica: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGE_RERANK_API_KEY", "secret")
    one = await replica()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(one.__serve_build_asgi_app__()), base_url="http://x"
    ) as client:
        assert (await client.get("/info")).status_code == 401
        assert (await client.get("/info", headers={"Authorization": "Bearer secret"})).status_code == 200
    one.__del__()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "args: no models"),
        ({"models": {}}, "models={}: give names and models"),
        ({"models": "demo"}, "models='demo': give names and models"),
        ({"models": {"a": None}}, "models: 'a' is None: give a hub id or a folder"),
        ({"models": {"a": {"cutoff_layer": 3}}}, "give a hub id or a folder, alone or as its 'model'"),
        ({"models": {"a": {"model": "demo", "cutof": 3}}}, "unknown option 'cutof'"),
        ({"models": {"a": {"model": "demo", "scale": "percent"}}}, "scale='percent'"),
        ({"replicas": 3}, "args: unknown argument 'replicas': use models, models_per_replica, min_replicas"),
        ({"models_per_replica": 0}, "models_per_replica=0: use a whole number of 1 or more (None: all)"),
        ({"max_replicas": 0}, "max_replicas=0: use a whole number of 1 or more"),
        ({"max_replicas": "2"}, "max_replicas='2': use a whole number"),
        ({"min_replicas": 2}, "min_replicas=2: use a whole number from 0 to max_replicas=1"),
        ({"target_ongoing_requests": 0}, "target_ongoing_requests=0: use a number above 0"),
        ({"target_ongoing_requests": "8"}, "target_ongoing_requests='8': use a number above 0"),
        ({"gpus_per_replica": -1}, "gpus_per_replica=-1: use 0 or more"),
        ({"gpus_per_replica": 1.5}, "gpus_per_replica=1.5: use a whole number above 1"),
        ({"cpus_per_replica": float("nan")}, "cpus_per_replica=nan: use 0 or more"),
        ({"settings": {"max_text": 3}}, "settings: unknown setting 'max_text': use max_requests"),
        ({"settings": {"max_texts": 0}}, "max_texts=0"),
        ({"settings": {"api_key": "secret"}}, "set BGE_RERANK_API_KEY in the environment"),
        ({"settings": 3}, "settings=3: give names and values"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], said: str) -> None:
    given = {"models": {"demo": "demo"}, **arguments} if arguments else arguments
    with pytest.raises(OptionError) as refused:
        build_app(given)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_what_the_deployment_asks_of_ray() -> None:
    from ray.serve import Application

    app = serve_app({"demo": "demo"}, min_replicas=0, max_replicas=8, target_ongoing_requests=2.5, gpus_per_replica=2)
    assert isinstance(app, Application)
    deployment = app._bound_deployment
    assert deployment.ray_actor_options["num_cpus"] == 1
    assert deployment.ray_actor_options["num_gpus"] == 2
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (0, 8, 2.5)
    assert deployment.max_ongoing_requests == 10
    assert deployment.init_args[1:3] == (1, ["cuda:0", "cuda:1"])


def test_serve_yaml_is_what_ray_reads_and_what_the_page_shows() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = (ROOT / "serve.yaml").read_text(encoding="utf-8")
    config = ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert config.http_options.host == "127.0.0.1"
    (application,) = config.applications
    assert application.import_path == "bge_rerank_integrations.ray:build_app"
    build_app(application.args)
    assert f"```yaml\n{text}```" in (ROOT / "docs" / "ray.md").read_text(encoding="utf-8")


def test_serve_run(tmp_path: Path) -> None:
    """As the page says, but on a free port."""
    port = free_port()
    config = tmp_path / "serve.yaml"
    config.write_text((ROOT / "serve.yaml").read_text().replace("port: 8000", f"port: {port}"))
    words = [sys.executable, "-m", "ray.serve.scripts", "run", str(config)]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        answer = None
        body = {"model": "demo-layerwise", "query": "capital of France", "texts": ["Rome", "Paris, France"]}
        while answer is None or answer.status_code != 200:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                raise AssertionError(log.read_text())
            with suppress(httpx.TransportError):  # the port is not open yet
                answer = post(f"http://127.0.0.1:{port}", "/rerank", **body)
        assert [one["index"] for one in answer.json()] == [1, 0]
        process.terminate()
        process.wait(LONG)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
