"""What a type checker must take: adapters with the options of `load_scorer` and their own fields."""

from collections.abc import Sequence

from bge_rerank_integrations import Ranked, Scorer, langchain, llama_index, load_scorer
from bge_rerank_integrations.protocol import ScorerProtocol

langchain.BGERerank(model="demo", compress_layers=4, scale="sigmoid", top_n=None)
llama_index.BGERerank(model="demo", compress_layers=4, scale="sigmoid", top_n=None)
langchain.BGECrossEncoder(model="demo", devices=["cpu", "cpu"], timeout=3)
langchain.BGERerank(model="demo", compress_layers=(4, 8), cutoff_layer=28, head_index="layer", score_threshold=0.5)


async def use(scorer: Scorer, texts: Sequence[str]) -> list[Ranked]:
    other: ScorerProtocol = scorer.with_options(scale="sigmoid")
    langchain.BGERerank(scorer=other)
    llama_index.BGERerank(scorer=load_scorer("demo", scale="sigmoid"), top_n=5)
    layers: dict[int, list[float]] = await scorer.ascore_layers([("query", text) for text in texts], [8])
    scores: list[float] = await other.ascore_pairs([("query", text) for text in texts])
    print(layers, scores)
    return await scorer.arank("query", texts, top_n=3)
