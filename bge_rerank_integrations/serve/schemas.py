"""Requests and answers, as TEI, Cohere and Jina have them, with this server's own options beside theirs.

An unknown field is refused, since a misspelled option that is passed over in silence changes scores.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from bge_rerank_integrations.errors import OptionError

TEI, COHERE = "tei-request", "cohere-request"
"""The two forms that /rerank takes."""
QUERY: JsonValue = "What is the capital of France?"
TEXTS: JsonValue = ["The population of China is over 1.4 billion people.", "Paris is the capital of France."]


class Question(BaseModel):
    """What every dialect asks with."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(examples=[QUERY])
    model: str | None = Field(None, description="A name that the server has; without one, its first model.")
    raw_scores: bool = Field(False, description="Scores as the model gives them (logits), instead of 0 to 1.")
    cutoff_layer: int | None = Field(None, description="Layerwise and lightweight models: how many layers to run.")
    compress_ratio: int | None = Field(None, description="Lightweight models: 1, 2, 4 or 8 passage tokens in one.")
    compress_layers: int | list[int] | None = Field(None, description="Lightweight models: before which layers.")
    prompt: str | None = Field(None, description="Decoders: the question after each pair, as text or by name.")

    @property
    def scoring_options(self) -> dict[str, Any]:
        """The options of `options.ScoringOptions` that the request sets."""
        names = ("cutoff_layer", "compress_ratio", "compress_layers", "prompt")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class TEIRequest(Question):
    """TEI's, of any number of texts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": QUERY, "texts": TEXTS, "raw_scores": False}]})

    texts: list[str] = Field(examples=[TEXTS])
    return_text: bool = Field(False, description="Give each text back beside its score.")
    truncate: bool | None = Field(None, description="Texts beyond the model's length are always cut; false is refused.")
    truncation_direction: Literal["Left", "Right", "left", "right"] = Field(
        "Right", description="Texts are always cut at their end; Left is refused."
    )

    def check(self) -> None:
        """Refuse what cannot be done here, with the reason."""
        _check_truncation(self.truncate, "truncate")
        if self.truncation_direction.lower() == "left":
            raise OptionError("truncation_direction='Left': texts are cut at their end here; leave it out")


class TextDocument(BaseModel):
    """A document as an object; only its text is read."""

    model_config = ConfigDict(extra="allow")

    text: str


class RerankRequest(Question):
    """Cohere's, in both versions, and Jina's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": QUERY, "documents": TEXTS, "top_n": 1}]})

    documents: list[str | TextDocument] = Field(examples=[TEXTS])
    top_n: int | None = Field(None, ge=1, description="How many results at most; without it, all.")
    return_documents: bool | None = Field(None, description="Give each document back beside its score.")
    max_tokens_per_doc: int | None = Field(None, ge=1, description="Cohere v2: must not be below the model's length.")
    max_chunks_per_doc: int | None = Field(None, ge=1, description="Cohere v1: only 1, since documents are not split.")
    rank_fields: list[str] | None = Field(None, description="Cohere v1: only ['text'].")
    priority: int | None = Field(None, description="Cohere v2: has no effect, all requests take turns.")
    truncation: bool | None = Field(None, description="Jina: texts are always cut; false is refused.")

    @property
    def texts(self) -> list[str]:
        """What to score of each document."""
        return [document if isinstance(document, str) else document.text for document in self.documents]

    def check(self, max_length: int) -> None:
        """Refuse what cannot be done here, with the reason.

        Args:
            max_length: tokens that the scorer keeps of query and text together.
        """
        _check_truncation(self.truncation, "truncation")
        if self.max_tokens_per_doc is not None and self.max_tokens_per_doc < max_length:
            raise OptionError(
                f"max_tokens_per_doc={self.max_tokens_per_doc}: the server keeps {max_length} tokens of query and text "
                "together, and cannot keep fewer for one request; leave it out"
            )
        if self.max_chunks_per_doc not in (None, 1):
            raise OptionError(
                f"max_chunks_per_doc={self.max_chunks_per_doc}: documents are not split here, what is beyond "
                f"{max_length} tokens is cut; leave it out, and split long documents before"
            )
        if self.rank_fields not in (None, ["text"]):
            raise OptionError(f"rank_fields={self.rank_fields}: only the field 'text' is read; join the others into it")


def _check_truncation(value: bool | None, name: str) -> None:
    if value is False:
        raise OptionError(
            f"{name}=false: texts beyond the model's length are always cut here, and counted in /metrics; leave it out"
        )


def _kind(body: Any) -> str:
    """By the field that only one of the two has."""
    return COHERE if isinstance(body, dict) and "documents" in body else TEI


AnyRequest = Annotated[Annotated[TEIRequest, Tag(TEI)] | Annotated[RerankRequest, Tag(COHERE)], Discriminator(_kind)]
"""What comes to /rerank, where clients of all dialects send."""


class TEIResult(BaseModel):
    """One text of TEI's answer, a bare list of these, best first."""

    index: int = Field(examples=[1])
    score: float = Field(examples=[0.98])
    text: str | None = Field(None, description="Only with return_text.")


class RerankResult(BaseModel):
    """One document of an answer."""

    index: int = Field(examples=[1])
    relevance_score: float = Field(examples=[0.98])
    document: dict[str, Any] | None = Field(None, description="Only with return_documents.")


class RerankAnswer(BaseModel):
    """Cohere's answer and Jina's in one, best first."""

    id: str
    model: str
    results: list[RerankResult]
    meta: dict[str, Any] = Field(examples=[{"api_version": {"version": "2"}}])


class Info(BaseModel):
    """What TEI tells of itself, of one model."""

    model_id: str
    model_sha: str | None
    model_dtype: str | None
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_client_batch_size: int
    auto_truncate: bool
    version: str
    family: str | None = Field(description="encoder, llm, layerwise, lightweight or classifier.")
    cutoff_layers: list[int] = Field(description="What cutoff_layer may be; empty where there is none.")
    models: list[str] = Field(description="All names that `model` may be.")


class Health(BaseModel):
    """Whether the server can score."""

    status: str = Field(description="ready, loading, closed or failed: the worst of the models'.")
    models: dict[str, str]


class Problem(BaseModel):
    """What went wrong, under each name that a client may look for."""

    message: str
    error: str
    detail: str
    error_type: str = Field(examples=["Validation"])
