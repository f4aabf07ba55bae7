"""Libraries that score pairs ("peers"), this package included, with one small interface.

This file needs the standard library and the library of the chosen peer only. Another interpreter, with other versions,
can therefore run it by its path: `python peers.py NAME` takes commands as JSON lines (see `bench.remote`).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if __package__:
    from bge_rerank_integrations.machine import Memory
else:  # run by its path: this package is not installed there, and machine.py needs the standard library only
    Memory = runpy.run_path(str(Path(__file__).parents[1] / "machine.py"))["Memory"]  # type: ignore[misc]


class Peer:
    """What is known of a library before it is imported."""

    needs: dict[str, str] = {}  # noqa: RUF012 - never changed
    """The modules that it imports, and the packages that they come in, as pip takes them."""
    apart: tuple[str, ...] = ()
    """Packages of other versions than this package needs. If there are any, it runs in an environment of its own."""
    families: tuple[str, ...] | None = None
    """The families that it runs; None: all."""
    rounds: str | None = None
    """A dtype that it uses whatever the others use. Its scores are close to those of float32, but not equal."""


class Ours(Peer):
    """This package."""

    needs = {"bge_rerank_integrations": "bge-rerank-integrations"}  # noqa: RUF012

    def __init__(self, folder: str, family: str, device: str, dtype: str, batch: int | None = None) -> None:
        from bge_rerank_integrations import load_scorer

        if batch is not None:
            raise ValueError(f"batches of {batch} pairs: this package fills its batches by tokens, so give no number")
        dtype = self.rounds or dtype
        self.scorer = load_scorer(folder, devices=device, dtype=dtype)

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        return self.scorer.score_pairs(pairs)

    def close(self) -> None:
        self.scorer.close()


class Int8(Ours):
    """This package with dtype="int8"."""

    rounds = "int8"


class BFloat16(Ours):
    """This package with dtype="bfloat16"."""

    rounds = "bfloat16"


class SideBySide(Ours):
    """This package, each sequence computed with one core, also where all cores together would be quicker."""

    way = "SPLIT"

    def __init__(self, folder: str, family: str, device: str, dtype: str, batch: int | None = None) -> None:
        from bge_rerank_integrations.engine.sharing import Always, Way

        super().__init__(folder, family, device, dtype, batch)
        self.scorer._core.engine.share(Always(Way[self.way]))


class AllCores(SideBySide):
    """This package, all cores on one batch where there are fewer sequences than cores."""

    way = "WHOLE"


class FlagEmbedding(Peer):
    """The publisher's own library, by default in batches of 128. It runs the first batch twice."""

    needs = {"FlagEmbedding": "FlagEmbedding"}  # noqa: RUF012
    apart = ("transformers==4.46.0",)
    classes = {  # noqa: RUF012 - never changed
        "encoder": "FlagReranker",
        "llm": "FlagLLMReranker",
        "layerwise": "LayerWiseFlagLLMReranker",
        "lightweight": "LightWeightFlagLLMReranker",
    }
    families = tuple(classes)

    def __init__(self, folder: str, family: str, device: str, dtype: str, batch: int | None = None) -> None:
        import FlagEmbedding as library

        half = {"use_fp16": dtype == "float16"} | ({} if family == "encoder" else {"use_bf16": dtype == "bfloat16"})
        if batch is None:
            batch = 128 if device != "cpu" or family == "encoder" else 8  # 128 would need over 100 GB
        make = getattr(library, self.classes[family])
        self.reranker = make(folder, devices=[device], batch_size=batch, **half)

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        scores = self.reranker.compute_score([list(pair) for pair in pairs])
        return list(map(float, scores))

    def close(self) -> None:
        self.reranker.model = None


def silence() -> None:
    """No progress bars from transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()


class SentenceTransformers(Peer):
    """CrossEncoder.predict, by default in batches of 32."""

    needs = {"sentence_transformers": "sentence-transformers"}  # noqa: RUF012
    families = ("encoder",)

    def __init__(self, folder: str, family: str, device: str, dtype: str, batch: int | None = None) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        silence()

        self.model: Any = CrossEncoder(
            folder, device=device, max_length=512, model_kwargs={"torch_dtype": getattr(torch, dtype)}
        )
        self.identity = torch.nn.Identity()
        self.batch = batch or 32

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        scores = self.model.predict(pairs, batch_size=self.batch, activation_fn=self.identity, show_progress_bar=False)
        return [float(score) for score in scores]

    def close(self) -> None:
        self.model = None


class Padded(Peer):
    """What the next three share: pairs sorted by length, in padded batches, tokenized by `tokenizers`.

    By default 32 pairs in a batch, as in sentence-transformers. The more the lengths differ, the more padding this is:
    fewer pairs may be faster.
    """

    needs = {"torch": "torch", "transformers": "transformers"}  # noqa: RUF012
    families = ("encoder",)

    def __init__(self, folder: str, family: str, device: str, dtype: str, batch: int | None = None) -> None:
        from tokenizers import Tokenizer

        self.batch = batch or 32
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.enable_truncation(512, strategy="only_second")
        self.tokenizer.no_padding()
        with open(os.path.join(folder, "config.json")) as file:
            self.pad_token = json.load(file)["pad_token_id"]
        self.load(folder, device, dtype)

    def load(self, folder: str, device: str, dtype: str) -> None:
        raise NotImplementedError

    def logits(self, ids: Any, mask: Any) -> list[float]:
        """Logits of padded pairs: two tensors of integers, (pairs, longest)."""
        raise NotImplementedError

    def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        import torch

        ids = [torch.tensor(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(pairs)]
        order = sorted(range(len(pairs)), key=lambda i: -len(ids[i]))
        scores = [0.0] * len(pairs)
        for start in range(0, len(order), self.batch):
            indices = order[start : start + self.batch]
            rows = [ids[i] for i in indices]
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_token)
            mask = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
            for i, score in zip(indices, self.logits(padded, mask.long())):  # noqa: B905
                scores[i] = score
        return scores

    def close(self) -> None:
        self.__dict__.clear()


class Transformers(Padded):
    """transformers' own forward pass."""

    def load(self, folder: str, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        silence()
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model.to(device).eval()

    def logits(self, ids: Any, mask: Any) -> list[float]:
        import torch

        with torch.inference_mode():
            device = self.model.device
            out = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            return out[:, 0].float().tolist()  # type: ignore[no-any-return]


class Exported(Padded):
    """A model exported to ONNX, in float32, in a temporary folder."""

    needs = Padded.needs | {"onnx": "onnx"}

    def load(self, folder: str, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        silence()
        options = {"attn_implementation": "eager", "dtype": torch.float32}
        model = AutoModelForSequenceClassification.from_pretrained(folder, **options).eval()
        example = (torch.full((2, 8), 5), torch.ones(2, 8, dtype=torch.long))
        names = ["input_ids", "attention_mask"]
        with tempfile.TemporaryDirectory() as exported, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about branches that no input takes
            path = os.path.join(exported, "model.onnx")
            torch.onnx.export(
                model, example, path, input_names=names, output_names=["logits"], opset_version=17, dynamo=False,
                dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            )  # fmt: skip
            self.open(path, device)

    def open(self, path: str, device: str) -> None:
        raise NotImplementedError


class OnnxRuntime(Exported):
    """ONNX Runtime, all graph optimisations on."""

    needs = Exported.needs | {"onnxruntime": "onnxruntime"}

    def open(self, path: str, device: str) -> None:
        import onnxruntime

        providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider"]
        self.session = onnxruntime.InferenceSession(path, providers=providers)

    def logits(self, ids: Any, mask: Any) -> list[float]:
        inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return self.session.run(None, inputs)[0][:, 0].tolist()  # type: ignore[no-any-return]


class OpenVino(Exported):
    """OpenVINO, in float32, with its hint for latency."""

    needs = Exported.needs | {"openvino": "openvino"}

    def open(self, path: str, device: str) -> None:
        import openvino

        model = openvino.convert_model(path)
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self.model = openvino.compile_model(model, "CPU", hints)

    def logits(self, ids: Any, mask: Any) -> list[float]:
        inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return self.model(inputs)[0][:, 0].tolist()  # type: ignore[no-any-return]


PEERS: dict[str, Any] = {
    "ours": Ours,
    "int8": Int8,
    "bfloat16": BFloat16,
    "side-by-side": SideBySide,
    "all-cores": AllCores,
    "flagembedding": FlagEmbedding,
    "sentence-transformers": SentenceTransformers,
    "transformers": Transformers,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def missing(name: str) -> list[str]:
    """The packages that a peer needs and that are not installed here, as pip takes them."""
    kind = PEERS[name]
    packages = [package for module, package in kind.needs.items() if find_spec(module) is None]
    return [*packages, *kind.apart] if packages else []


def timed(peer: Any, pairs: list[tuple[str, str]], clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Score, and return how many seconds it took."""
    gc.collect()
    end_helpers()
    started = clock()
    peer.score(pairs)
    return {"seconds": clock() - started}


def weighed(peer: Any, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Score, and return the scores and the peak of memory in bytes, without what was in use before."""
    gc.collect()
    memory = Memory()
    scores = peer.score(pairs)
    return {"scores": scores, "extra_bytes": memory.extra()}


def end_helpers() -> None:
    """End the OpenMP threads of the calling thread: each peer then runs as it would without the others.

    If there are more of them than cores, all sleep between operations instead of waiting for the next: 5 to 25% slower.
    """
    if sys.platform == "linux" and (pause := getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)):
        pause(1)  # omp_pause_soft


def serve(name: str) -> None:
    """Answer commands from standard input. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "missing" in command:
                answer: dict[str, Any] = {"missing": missing(name)}
            elif "load" in command:
                peer = PEERS[name](**command["load"])
                answer = {}
            elif "timed" in command:
                answer = timed(peer, [tuple(pair) for pair in command["timed"]])
            else:
                answer = weighed(peer, [tuple(pair) for pair in command["weighed"]])
        except Exception as error:  # noqa: BLE001 - it is sent to the other process
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
