"""What a type checker must take: adapters with the options of `load_scorer` and their own fields."""

from collections.abc import Sequence

import torch

from bge_rerank_integrations import Ranked, Scorer, langchain, llama_index, load_scorer
from bge_rerank_integrations.protocol import ScorerProtocol

langchain.BGERerank(model="demo", compress_layers=4, scale="sigmoid", top_n=None)
llama_index.BGERerank(model="demo", compress_layers=4, scale="sigmoid", top_n=None)
langchain.BGECrossEncoder(model="demo", devices=["cpu", "cpu"], timeout=3)
langchain.BGERerank(model="demo", compress_layers=(4, 8), cutoff_layer=28, head_index="layer", score_threshold=0.5)
langchain.BGERerank(model="demo", devices=0, dtype=torch.bfloat16)
llama_index.BGERerank(model="demo", devices=torch.device("cpu"), dtype="bf16")
langchain.BGECrossEncoder(model="demo", devices=[0, torch.device("cpu"), "cpu"])
load_scorer("demo", devices=torch.device("cpu"), dtype=torch.float32, compress_layers=4)
load_scorer("demo", devices=[0, 1])
compressor: langchain.BGERerank = langchain.BGERerank(model="demo").with_options(top_n=5, score_threshold=0.5)
postprocessor: llama_index.BGERerank = llama_index.BGERerank(model="demo").with_options(top_n=None, scale="sigmoid")
encoder: langchain.BGECrossEncoder = langchain.BGECrossEncoder(model="demo").with_options(max_length=64)


async def use(scorer: Scorer, texts: Sequence[str]) -> list[Ranked]:
    other: ScorerProtocol = scorer.with_options(scale="sigmoid")
    langchain.BGERerank(scorer=other)
    llama_index.BGERerank(scorer=load_scorer("demo", scale="sigmoid"), top_n=5)
    layers: dict[int, list[float]] = await scorer.ascore_layers([("query", text) for text in texts], [8])
    scores: list[float] = await other.ascore_pairs([("query", text) for text in texts])
    print(layers, scores)
    return await scorer.arank("query", texts, top_n=3)
