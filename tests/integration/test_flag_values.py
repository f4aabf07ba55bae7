"""What FlagEmbedding 1.4.2 gives for the tiny checkpoints when its attributes and inputs change.

The numbers were made with that library on transformers 4.46.3 and torch 2.13.0, CPU and float32: each line below, with
the import changed and nothing else. (Layerwise: with `tokenizer_class` "PreTrainedTokenizerFast" in a copy of its
tokenizer_config.json, since that transformers wants sentencepiece's file for the class named there.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.flag import (
    MODEL_CLASSES,
    FlagReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
)
from bge_rerank_integrations.prompts import PROMPTS
from tests.conftest import CHECKPOINTS

LONG = ["what is panda?", "The giant panda is a bear. " * 60]
PAIRS = [
    ["what is panda?", "hi"],
    ["what is panda?", "The giant panda is a bear."],
    ["Paris?", "Paris is the capital of France."],
]
PLAIN = {
    "encoder": [-0.37755474, -0.21881878, -0.17086065],
    "llm": [0.91577095, 0.79904842, 0.79959738],
    "layerwise": [-1.25321388, -1.19962513, -1.26955914],
    "lightweight": [-2.78275776, -2.47079659, -2.51547933],
}
WITHOUT_INSTRUCTIONS = {
    "encoder": PLAIN["encoder"],
    "llm": [0.81745261, 0.35825244, -0.10861934],
    "layerwise": [-1.29456151, -1.23007917, -1.32586884],
    "lightweight": [0.24669671, -0.34151319, -1.55087304],
}
LINE_BREAK = {
    "llm": [0.51789224, 0.42059413, 0.16088369],
    "layerwise": [-1.21709919, -1.21469200, -1.26618540],
    "lightweight": [-2.29690218, -1.95115972, -2.63871574],
}
OTHER_PROMPT = {
    "llm": [0.65173107, -0.00396831, 0.39246926],
    "layerwise": [1.02943182, 0.94156080, 1.21067977],
    "lightweight": [-1.23752522, -1.28722453, -1.24845529],
}
SHORT = {"llm": 0.45177135, "layerwise": -1.20795131, "lightweight": -2.37525606}
KINDS = {kind.family: kind for kind in MODEL_CLASSES.values()}


def near(scores: Any) -> Any:
    return pytest.approx(scores, abs=1e-4)


@pytest.fixture
def model(family: str) -> Iterator[Any]:
    kind: Any = KINDS[family]
    model = kind(CHECKPOINTS / family, use_fp16=True, devices="cpu")
    yield model
    model.stop_self_pool()


decoders = pytest.mark.parametrize("family", ["llm", "layerwise", "lightweight"])
every = pytest.mark.parametrize("family", list(KINDS))
encoder = pytest.mark.parametrize("family", ["encoder"])
layerwise = pytest.mark.parametrize("family", ["layerwise"])
lightweight = pytest.mark.parametrize("family", ["lightweight"])


@encoder
def test_lengths_and_normalize_are_read_at_the_next_call(model: FlagReranker) -> None:
    assert model.compute_score(LONG) == near([-0.01518086])
    model.max_length = 32
    assert model.compute_score(LONG) == near([-0.06622183])
    model.normalize = True
    assert model.compute_score(LONG) == near([0.48345059])
    model.max_length, model.normalize, model.query_max_length = 512, False, 2
    assert model.compute_score(LONG) == near([-0.02322342])
    assert model.compute_score(LONG, max_length=32, query_max_length=24, normalize=True) == near([0.48345059])


@encoder
def test_a_query_that_fills_max_length_leaves_the_passage_a_token(model: FlagReranker) -> None:
    query = "what is the giant panda and where does it live in China? " * 4
    passages = ["The giant panda is a bear.", "The"]
    # FlagEmbedding cuts neither text where the query leaves no room: 0.05993680 for the first pair, of 24 tokens
    first, second = model.compute_score([[query, passage] for passage in passages], max_length=16)
    assert first == second
    assert first != near(0.05993680)


@encoder
def test_instructions_and_formats_are_read_at_the_next_call(model: FlagReranker) -> None:
    model.query_instruction_for_rerank = "Find: "
    assert model.compute_score(PAIRS) == near([-0.22433758, -0.23643571, -0.22706163])
    model.query_instruction_format = r"{}\n{}"
    assert model.get_detailed_inputs(PAIRS[:1]) == [["Find: \nwhat is panda?", "hi"]]
    assert model.compute_score(PAIRS) == near([-0.22433758, -0.23643571, -0.22706163])
    model.passage_instruction_for_rerank, model.passage_instruction_format = "Doc", "<{}> {}"
    assert model.get_detailed_inputs(PAIRS[0]) == [["Find: \nwhat is panda?", "<Doc> hi"]]


@every
def test_instructions_of_none_and_the_single_gpu_form_put_nothing_before(model: Any, family: str) -> None:
    assert model.compute_score(PAIRS) == near(PLAIN[family])
    assert model.compute_score_single_gpu(PAIRS) == near(WITHOUT_INSTRUCTIONS[family])
    assert model.compute_score_single_gpu(PAIRS[0], device="cpu") == near(WITHOUT_INSTRUCTIONS[family][:1])
    assert model.compute_score_single_gpu(PAIRS, 4, None, 32, device="cpu") == near(WITHOUT_INSTRUCTIONS[family])
    model.query_instruction_for_rerank = model.passage_instruction_for_rerank = None
    assert model.compute_score(PAIRS) == near(WITHOUT_INSTRUCTIONS[family])


@decoders
def test_decoders_read_their_attributes_at_the_next_call(model: Any, family: str) -> None:
    model.prompt = "Same?"
    assert model.compute_score(PAIRS) == near(OTHER_PROMPT[family])
    assert model.compute_score(PAIRS, prompt="answer") == model.compute_score(PAIRS, prompt=PROMPTS["answer"])
    model.prompt, model.max_length = None, 16
    assert model.compute_score(LONG) == near([SHORT[family]])
    model.max_length, model.query_instruction_format = 512, r"{}\n{}"
    assert model.compute_score(PAIRS) == near(LINE_BREAK[family])


@every
def test_what_changes_no_score(model: Any, family: str) -> None:
    model.batch_size, model.model_name_or_path, model.use_fp16, model.use_bf16 = 1, "elsewhere", False, True
    assert model.compute_score(PAIRS) == near(PLAIN[family])
    model.stop_self_pool()
    model.stop_self_pool()
    assert model.compute_score(PAIRS) == near(PLAIN[family])


@every
def test_several_devices_give_a_numpy_array(family: str) -> None:
    kind: Any = KINDS[family]
    model = kind(CHECKPOINTS / family, use_fp16=True, devices=["cpu", "cpu"])
    scores = model.compute_score(PAIRS)
    assert isinstance(scores, numpy.ndarray)
    assert (scores.dtype, scores.tolist()) == (numpy.float64, near(PLAIN[family]))
    assert model.compute_score(PAIRS[0]).shape == (1,)
    assert isinstance(model.compute_score_single_gpu(PAIRS), list)
    model.stop_self_pool()
    assert model.compute_score(PAIRS).tolist() == near(PLAIN[family])
    if model.scorer.cutoff_layers:  # FlagEmbedding joins its processes' lists of layers: here as with one device
        assert model.compute_score(PAIRS, cutoff_layers=[4, 8]).shape == (2, 3)
    model.target_devices = ["cpu"]
    assert isinstance(model.compute_score(PAIRS), list)
    model.stop_self_pool()


FORMS = {
    "array": numpy.array(PAIRS),
    "array of objects": numpy.array(PAIRS, dtype=object),
    "further columns": [[*pair, 3, None] for pair in PAIRS],
    "tuples": tuple(map(tuple, PAIRS)),
    "rows as arrays": [numpy.array(pair) for pair in PAIRS],
}


@encoder
def test_the_forms_of_pairs(model: FlagReranker) -> None:
    for form in FORMS.values():
        assert model.compute_score(form) == near(PLAIN["encoder"])
    # iterators, which FlagEmbedding cannot index
    assert model.compute_score(zip(*zip(*PAIRS, strict=True), strict=True)) == near(PLAIN["encoder"])
    assert model.compute_score(pair for pair in PAIRS) == near(PLAIN["encoder"])
    for single in (numpy.array(PAIRS[0]), [*PAIRS[0], 3], iter(PAIRS[0])):
        assert model.compute_score(single) == near(PLAIN["encoder"][:1])
    with pytest.warns(UserWarning, match="3 strings is read as one pair") as warned:
        assert model.compute_score([*PAIRS[0], "x"]) == near(PLAIN["encoder"][:1])
    assert warned[0].filename == __file__
    assert model.compute_score([]) == []


@lightweight
def test_cutoff_layers_of_lightweight(model: LightWeightFlagLLMReranker) -> None:
    four_and_eight = [near([-1.91631937, -1.61711478, -0.79411370]), near([-0.66739494, -0.71691263, -0.25619042])]
    for layers in ([4, 8], [8, 4], (8, 4, 8)):
        assert model.compute_score(PAIRS, cutoff_layers=layers) == four_and_eight
    six: Any
    for six in ([6], [6, 6], 6, (6,)):
        assert model.compute_score(PAIRS[:2], cutoff_layers=six) == near([-3.13767028, -2.70917702])
    for some in ([6, 99], [1, 6]):
        with pytest.warns(UserWarning, match="left out"):
            assert model.compute_score(PAIRS[:2], cutoff_layers=some) == near([-3.13767028, -2.70917702])
    model.cutoff_layers = [5]
    assert model.compute_score(PAIRS[:2]) == near([-2.91110086, -2.75302649])
    for none in ([99], []):
        with pytest.raises(OptionError, match="after layers 3, 4"):
            model.compute_score(PAIRS, cutoff_layers=none)


@layerwise
def test_cutoff_layers_of_layerwise(model: LayerWiseFlagLLMReranker) -> None:
    four_and_eight = [near([-0.93739426, -0.86891794]), near([-1.25321388, -1.19962513])]
    assert model.compute_score(PAIRS[:2], cutoff_layers=[4, 8]) == four_and_eight
    # FlagEmbedding gives [-0.58198839, -0.57573521] and [-0.78421634, -0.65465224]: layer 4 by the head of layer 8, and
    # the other way round
    assert model.compute_score(PAIRS[:2], cutoff_layers=[8, 4]) == four_and_eight
    assert model.compute_score(PAIRS[:2], cutoff_layers=[6, 6]) == near([0.65031439, 0.51667231])
    model.cutoff_layers = [5]
    assert model.compute_score(PAIRS[:2]) == near([-1.02375972, -1.04931164])


@lightweight
def test_compression_is_read_at_the_next_call(model: LightWeightFlagLLMReranker) -> None:
    by_two = near([-2.78868151, -2.46027637, -2.49640298])
    model.compress_ratio = 2
    with pytest.warns(UserWarning, match=r"compress_layers=\(?\[?8.*: 8 has no effect, .* layers 1 to 7"):
        assert model.compute_score(PAIRS) == near(PLAIN["lightweight"])
    model.compress_layers = [4]
    assert model.compute_score(PAIRS) == by_two
    with pytest.warns(UserWarning, match="99 has no effect") as warned:
        assert model.compute_score(PAIRS, compress_layers=[4, 99]) == by_two
    assert warned[0].filename == __file__
    assert model.compute_score(PAIRS, compress_layers=4) == by_two  # a TypeError there
    assert model.compute_score(PAIRS, compress_layers=[]) == near(PLAIN["lightweight"])
    assert model.compute_score(PAIRS, compress_layer=[2]) == near([-2.84508896, -2.39784765, -2.56804013])
    single = [model.compute_score_single_gpu(PAIRS, **{name: [2]}) for name in ("compress_layer", "compress_layers")]
    assert single[0] == single[1] != model.compute_score_single_gpu(PAIRS)
    with pytest.raises(OptionError, match="compress_ratio=3"):  # any number there
        model.compute_score(PAIRS, compress_ratio=3)
    model.cutoff_layers, model.compress_ratio = [6], 4
    assert model.compute_score(PAIRS) == near([-3.17980719, -2.64411974, -2.47401047])
    model.cutoff_layers, model.compress_layers = None, None
    assert model.compute_score(PAIRS) == near(PLAIN["lightweight"])
    model.compress_layers, model.compress_ratio = [4], None
    assert model.compute_score(PAIRS) == near(PLAIN["lightweight"])
