"""What a type checker must refuse: a comment that ignores nothing is an error to mypy."""

from bge_rerank_integrations import langchain, llama_index, load_scorer

langchain.BGERerank(model="demo", max_len=3)  # type: ignore[call-arg]
llama_index.BGERerank(model="demo", max_len=3)  # type: ignore[call-arg]
langchain.BGECrossEncoder(model="demo", top_n=3)  # type: ignore[call-arg]
langchain.BGERerank(model="demo", scale="percent")  # type: ignore[arg-type]
llama_index.BGERerank(model="demo", scale="percent")  # type: ignore[arg-type]
langchain.BGERerank(model="demo", max_length="many")  # type: ignore[arg-type]
llama_index.BGERerank(scorer="demo")  # type: ignore[arg-type]
langchain.BGERerank(scorer=object())  # type: ignore[arg-type]
load_scorer("demo", max_len=3)  # type: ignore[call-arg]
load_scorer("demo", head_index="last")  # type: ignore[arg-type]
load_scorer("demo", devices=0.5)  # type: ignore[arg-type]
langchain.BGERerank(model="demo", devices=0.5)  # type: ignore[arg-type]
langchain.BGERerank(model="demo", dtype=16)  # type: ignore[arg-type]
langchain.BGERerank(model="demo").with_options(top_n="5")  # type: ignore[arg-type]
llama_index.BGERerank(model="demo").with_options(score_threshold="0.5")  # type: ignore[arg-type]
