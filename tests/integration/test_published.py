"""Rerankers on language models that others publish or train: recognised from their files, scored as by their tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, OptionError
from tests.conftest import CHECKPOINTS, Copy, pairs
from tests.llm_bases import ROWS, write_tokenizer
from tests.parity.test_llm_bases import save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.conftest import Adapter

QUERY = "What is the capital of France?"
TEXTS = ["Paris is the capital of France.", "", "bread and\n\n passage ", "a", "x" * 9]
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    'answer can only be "yes" or "no".'
)
EXPERT = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 "
    "for not relevant, 1 for relevant).\nRelevance:"
)
QWEN3 = {"model_type": "qwen3", "head_dim": 16}
ROLES = """\
{%- set instruct = messages | selectattr("role", "eq", "system") | map(attribute="content") | first
    | default("INSTRUCT", true) -%}
{%- set query = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}
{%- set document = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}
<|im_start|>system
JUDGE<|im_end|>
<|im_start|>user
<Instruct>: {{ instruct }}
<Query>: {{ query }}
<Document>: {{ document }}<|im_end|>
<|im_start|>assistant
<think>

</think>


""".replace("INSTRUCT", INSTRUCT).replace("JUDGE", JUDGE)


def tokens(folder: Path, text: str) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids


def logits(folder: Path, inputs: list[list[int]], true: str, false: str | None) -> list[float]:
    """By transformers' own forward pass: the logit of one token, less the other's."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    (yes,), no = tokens(folder, true), tokens(folder, false or "")
    scores = []
    for ids in inputs:
        with torch.inference_mode():
            last = model(input_ids=torch.tensor([ids])).logits[0, -1]
        scores.append(float(last[yes] - last[no[0]] if no else last[yes]))
    return scores


def qwen3_inputs(folder: Path, limit: int, instruct: str = INSTRUCT, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    """As the model card puts them together, with so many tokens for query and document and what names them."""
    prefix = tokens(folder, f"<|im_start|>system\n{JUDGE}<|im_end|>\n<|im_start|>user\n")
    suffix = tokens(folder, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    bodies = [f"<Instruct>: {instruct}\n<Query>: {QUERY}\n<Document>: {text}" for text in texts]
    return [[*prefix, *tokens(folder, body)[:limit], *suffix] for body in bodies]


def change(folder: Path, file: str, **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | changes))


def by_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(ROLES)


def by_template_in_settings(folder: Path) -> None:
    change(folder, "tokenizer_config.json", chat_template=ROLES)


def by_one_of_several_templates(folder: Path) -> None:
    named = [{"name": "tools", "template": "{{ 1 }}"}, {"name": "default", "template": ROLES}]
    change(folder, "tokenizer_config.json", chat_template=named)


def by_config(folder: Path) -> None:
    change(folder, "config.json", classifier_from_token=["no", "yes"], is_original_qwen3_reranker=True)


MARKS = [by_template, by_template_in_settings, by_one_of_several_templates, by_config]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mark", MARKS)
def test_qwen3_reranker(mark: Callable[[Path], None], tied: bool, tmp_path: Path) -> None:
    mark(save(tmp_path, QWEN3 | {"tie_word_embeddings": tied}))
    expected = logits(tmp_path, qwen3_inputs(tmp_path, 10_000), "yes", "no")
    assert max(expected) - min(expected) > 0.01
    with load_scorer(tmp_path) as scorer:
        assert scorer.family == "llm"
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)
        assert [scorer.score(QUERY, [text])[0] for text in TEXTS] == pytest.approx(expected, abs=1e-4)
        other = logits(tmp_path, qwen3_inputs(tmp_path, 10_000, "Find it"), "yes", "no")
        assert scorer.with_options(prompt="Find it").score(QUERY, TEXTS) == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("limit", [48, 60])
def test_what_is_too_long_is_cut_before_the_prompt_ends(limit: int, tmp_path: Path) -> None:
    by_template(save(tmp_path, QWEN3))
    around = len(tokens(tmp_path, f"<Instruct>: {INSTRUCT}\n<Query>: ") + tokens(tmp_path, "\n<Document>: "))
    texts = [*TEXTS, "of the capital " * 9, "Paris. " * 99]
    expected = logits(tmp_path, qwen3_inputs(tmp_path, limit + around, texts=texts), "yes", "no")
    with load_scorer(tmp_path, max_length=limit) as scorer:
        assert scorer.score(QUERY, texts) == pytest.approx(expected, abs=1e-4)
        assert scorer.truncated_pairs >= 1


def test_a_text_of_megabytes_is_cut_at_once(tmp_path: Path) -> None:
    by_template(save(tmp_path, QWEN3))
    with load_scorer(tmp_path, max_length=64) as scorer:
        long = scorer.score(QUERY, ["one capital of France. " * 100_000])
        assert long == pytest.approx(scorer.score(QUERY, ["one capital of France. " * 20]), abs=1e-5)
        assert len(scorer.score("a long query " * 100_000, TEXTS)) == len(TEXTS)


def test_mxbai_rerank_v2(tmp_path: Path) -> None:
    """As mixedbread's library puts them together: each part is tokenized by itself."""
    save(tmp_path, {"model_type": "qwen2"})
    change(tmp_path, "config.json", classifier_from_token=["0", "1"])
    before = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    start, asked = tokens(tmp_path, before + "<|im_start|>user\n"), f"query: {QUERY}"
    between, last = (
        tokens(tmp_path, "\n"),
        tokens(tmp_path, EXPERT) + tokens(tmp_path, "<|im_end|>\n<|im_start|>assistant\n"),
    )
    documents = [tokens(tmp_path, f"document: {text}") for text in TEXTS]

    def expected(query: str, limit: int = 512) -> list[float]:
        first = [*tokens(tmp_path, query), *between]
        inputs = [[*start, *[*first, *document][:limit], *between, *last] for document in documents]
        return logits(tmp_path, inputs, "1", "0")

    with load_scorer(tmp_path) as scorer:
        assert scorer.family == "llm"
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected(asked), abs=1e-4)
        assert scorer.with_options(max_length=48).score(QUERY, TEXTS) == pytest.approx(expected(asked, 48), abs=1e-4)
        told = expected(f"instruction: Find it!\n{asked}")
        assert scorer.with_options(prompt="Find it!").score(QUERY, TEXTS) == pytest.approx(told, abs=1e-4)


def test_a_language_model_of_the_publishers_recipe_is_none_of_these(tmp_path: Path) -> None:
    """A chat template for conversations says nothing about rerankers."""
    save(tmp_path, QWEN3)
    with load_scorer(tmp_path) as scorer:
        expected = scorer.score(QUERY, TEXTS)
    (tmp_path / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    with load_scorer(tmp_path) as scorer:
        assert scorer.score(QUERY, TEXTS) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (ROLES.replace("{{ query }}", "{{ query | trim }}"), "changes the query"),
        (ROLES.replace("{{ document }}", ""), "does not put"),
        (
            ROLES.replace("{{ query }}", "{{ document }}").replace("<Document>: {{ document }}", "{{ query }}"),
            "does not put",
        ),
        (ROLES + "{{ 1 / 0 }}", "cannot be rendered"),
        (ROLES + "{% if %}", "cannot be rendered"),
        (ROLES + "{{ messages.__class__.__mro__[1].__subclasses__() }}", "cannot be rendered"),
        (ROLES.replace(JUDGE, "Rate."), "which tokens answer is not said"),
    ],
)
def test_templates_that_cannot_be_used(template: str, said: str, tmp_path: Path) -> None:
    save(tmp_path, QWEN3)
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=said):
        load_scorer(tmp_path)


def st(folder: Path, **settings: Any) -> Any:
    """A folder saved by sentence-transformers, and its model with logits for scores."""
    library = pytest.importorskip("sentence_transformers")
    saved = folder.parent / "saved"
    model = library.CrossEncoder(str(folder), device="cpu", **settings)
    model.save_pretrained(str(saved))
    return saved, library.CrossEncoder(str(saved), device="cpu", activation_fn=torch.nn.Identity())


PROMPT = {"prompts": {"web": "Find what answers it"}, "default_prompt_name": "web"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, PROMPT])
@pytest.mark.parametrize("templated", [True, False])
@pytest.mark.parametrize("model_type", ["qwen3", "llama", "gemma3_text"])
def test_what_sentence_transformers_saves(
    model_type: str, templated: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = save(tmp_path / "base", {"model_type": model_type, "vocab_size": ROWS + 9})
    if templated:
        by_template(folder)
    words(folder)
    saved, model = st(folder, **settings)
    expected = model.predict([(QUERY, text) for text in TEXTS])
    with load_scorer(saved) as scorer:
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected.tolist(), abs=1e-4)


def words(folder: Path) -> None:
    """Tokens that the tokenizer of the tiny Gemma lacks."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_on_other_tokens(tmp_path: Path) -> None:
    """One token alone, or two of one's own choice; and with soft caps, which two logits have each."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.cross_encoder.modules")
    folder = save(tmp_path / "base", {"model_type": "gemma2", "final_logit_softcapping": 2.0, "vocab_size": ROWS + 9})
    words(folder)
    for true, false in ((7, None), (1000, 7)):
        transformer = modules.Transformer(str(folder), transformer_task="text-generation")
        model = library.CrossEncoder(
            modules=[transformer, modules.LogitScore(true, false)], device="cpu", activation_fn=torch.nn.Identity()
        )
        saved = tmp_path / f"{true}"
        model.save_pretrained(str(saved))
        with load_scorer(saved) as scorer:
            expected = model.predict([(QUERY, text) for text in TEXTS]).tolist()
            assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_with_a_template(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = tmp_path / "base"
    sizes: dict[str, Any] = {
        "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "num_labels": 1,
        "initializer_range": 0.4,
    }  # fmt: skip
    folder.mkdir()
    write_tokenizer(folder, "qwen3")
    (sizes["pad_token_id"],) = tokens(folder, "<|endoftext|>")
    AutoModelForSequenceClassification.from_config(AutoConfig.for_model("qwen3", **sizes)).save_pretrained(folder)
    by_template(folder)
    saved, model = st(folder, **PROMPT)
    with load_scorer(saved) as scorer:
        assert scorer.family == "classifier"
        expected = model.predict([(QUERY, text) for text in TEXTS]).tolist()
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_prompt_has_no_place_without_a_template(tmp_path: Path) -> None:
    folder = save(tmp_path / "base", QWEN3)
    saved, _ = st(folder)
    with pytest.raises(OptionError, match="query_instruction"):
        load_scorer(saved, prompt="Find it")


def test_the_published_gemma_stays_as_it_is(copy: Callable[..., Copy], scorers: Any) -> None:
    """A LogitScore of "Yes" alone, with a template of the publisher's prompt, is the family's own way."""
    from bge_rerank_integrations.prompts import PROMPTS

    folder = copy("llm").folder
    (yes,) = tokens(CHECKPOINTS / "llm", "Yes")
    roles = (
        "{% for message in messages %}{% if message.role in ['query', 'document'] %}{{ message.content }}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(roles + "{% endfor %}" + PROMPTS["answer_yes_no"])
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.LogitScore", "path": "1_LogitScore"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_LogitScore").mkdir()
    change(folder / "1_LogitScore", "config.json", true_token_id=yes, false_token_id=None)
    with load_scorer(folder) as scorer:
        assert scorer.score_pairs(pairs("mixed")) == scorers("llm").score_pairs(pairs("mixed"))


def test_both_adapters(adapter: Adapter, tmp_path: Path) -> None:
    by_template(save(tmp_path, QWEN3))
    some = [text for text in TEXTS if text.strip() == text and text]
    with load_scorer(tmp_path) as scorer:
        expected = scorer.score(QUERY, some)
    reranker = adapter.new(model=str(tmp_path))
    assert adapter.score(reranker, QUERY, some) == pytest.approx(expected, abs=1e-5)
    reranker.close()
