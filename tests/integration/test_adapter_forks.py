"""An adapter that was warmed up before a fork, as with gunicorn --preload and Celery, loads again by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKPOINTS

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import asyncio, multiprocessing, os, threading
from langchain_core.documents import Document
from llama_index.core.schema import TextNode
from bge_rerank_integrations import langchain, llama_index, load_scorer
from bge_rerank_integrations.errors import ClosedError

MODEL = {str(CHECKPOINTS / "encoder")!r}
TEXTS = ["A croissant is made of laminated dough.", "Paris is the capital of France.", "France"]
QUERY = "What is the capital of France?"
documents, nodes = [Document(text) for text in TEXTS], [TextNode(text=text) for text in TEXTS]
compressor = langchain.BGERerank(model=MODEL, top_n=None)
postprocessor = llama_index.BGERerank(model=MODEL, top_n=None)
encoder = langchain.BGECrossEncoder(model=MODEL)

def same(kept, found):
    ranked = [round(document.metadata["relevance_score"], 4) for document in kept]
    assert [round(node.score, 4) for node in found] == ranked, (kept, found)
    assert sorted(round(score, 4) for score in encoder.score([(QUERY, text) for text in TEXTS])) == ranked[::-1]
    return ranked

def scores(compressor=compressor, postprocessor=postprocessor):
    found = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    return same(compressor.compress_documents(documents, QUERY), found)

async def ascores():
    found = await postprocessor.apostprocess_nodes(nodes, query_str=QUERY)
    return same(await compressor.acompress_documents(documents, QUERY), found)

def child(what, work):
    "Whether a forked process finds what this one found."
    pid = os.fork()
    if not pid:
        try:
            found = work()
            code = 0 if found == before else 3
        except BaseException as error:
            found, code = error, 4
        print(what, repr(found), flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, what

def several_threads():
    found = []
    threads = [threading.Thread(target=lambda: found.append(scores())) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return before if found == [before] * 4 else found

def in_a_pool(_):
    return scores()

before = scores()
child("a worker", scores)
child("another", scores)
child("an event loop", lambda: asyncio.run(ascores()))
child("a fork of a fork", lambda: (child("its fork", scores), scores())[1])
child("a fork of one that was not used", lambda: child("its fork", scores) or before)
child("copies", lambda: scores(compressor.with_options(), postprocessor.model_copy(update={{"scale": "logit"}})))
child("closed first", lambda: (compressor.close(), postprocessor.close(), scores())[2])
child("threads", several_threads)

fresh = langchain.BGERerank(model=MODEL, top_n=None)
loading = threading.Thread(target=fresh.warm_up)
loading.start()
child("while another thread loads", lambda: scores(fresh))
loading.join()

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(in_a_pool, range(4)) == [before] * 4

with load_scorer(MODEL) as scorer:  # which belongs to whoever made it
    shared = langchain.BGERerank(scorer=scorer)

    def refused():
        try:
            shared.compress_documents(documents, QUERY)
        except ClosedError as error:
            return before if "load it again after the fork" in str(error) else error

    child("an injected scorer", refused)

assert scores() == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_forks_load_again_by_themselves() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
