"""Rerankers on language models that others publish: what they are asked, which tokens answer, how these make a score.

Which one a checkpoint is follows from its files: a LogitScore of sentence-transformers, a chat template with a place
for the query and one for the document, or what config.json names for vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass

from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.model.chat_template import ChatTemplate, Frame
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.inputs import (
    DecoderInputs,
    EncoderInputs,
    EncoderTemplate,
    Limits,
    PairEncoder,
    tokenize,
)
from bge_rerank_integrations.model.joined_inputs import JoinedInputs
from bge_rerank_integrations.model.sentence_transformers import LogitScore
from bge_rerank_integrations.options import ScoringOptions


@dataclass(frozen=True)
class Published:
    """One line of the table. The score is the logit of `true` less that of `false`."""

    name: str
    mark: str
    """Words of its chat template that no other has."""
    true: str
    false: str
    before: str
    """`{instruction}` stands for `instruction`, or for what `instructed` makes of the option `prompt`."""
    instruction: str
    instructed: str
    query: str
    between: str
    passage: str
    after: str
    in_pieces: bool
    """Whether `before`, query, `between`, passage and `after` are tokenized each by itself, or all as one text."""

    def tokens(self, checkpoint: Checkpoint) -> LogitScore:
        true, false = tokenize(checkpoint.tokenizer, [self.true, self.false])
        if len(true) != 1 or len(false) != 1:
            raise CheckpointError(
                f"{checkpoint.folder}: {self.name} reads the tokens {self.true!r} and {self.false!r}, which its "
                "tokenizer does not have: its files are of different models"
            )
        return LogitScore(true[0], false[0])

    def inputs(self, checkpoint: Checkpoint, options: ScoringOptions, limits: Limits) -> PairEncoder:
        instruction = self.instruction if options.prompt is None else self.instructed.format(options.prompt)
        before = self.before.format(instruction=instruction)
        query = self.query + (options.query_instruction or "")
        passage = self.passage + (options.passage_instruction or "")
        if not self.in_pieces:
            frame = Frame(before + query, self.between + passage, self.after)
            return JoinedInputs(checkpoint.tokenizer, limits, frame)
        first, between, after = tokenize(checkpoint.tokenizer, [before, self.between, self.after])
        return DecoderInputs(
            checkpoint.tokenizer,
            limits,
            bos=first,
            separator=between,
            prompt=after,
            query_instruction=query,
            passage_instruction=passage,
            room=limits.passage - len(between),
        )


QWEN = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
PUBLISHED = (
    Published(
        "Qwen3-Reranker",
        mark="Judge whether the Document meets the requirements based on the Query and the Instruct provided",
        true="yes",
        false="no",
        before=QWEN.format(
            system="Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
            'Note that the answer can only be "yes" or "no".'
        )
        + "<Instruct>: {instruction}\n<Query>: ",
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        instructed="{}",
        query="",
        between="\n<Document>: ",
        passage="",
        after="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        in_pieces=False,
    ),
    Published(
        "mxbai-rerank-v2",
        mark="You are a search relevance expert who evaluates how well documents match search queries",
        true="1",
        false="0",
        before=QWEN.format(system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
        + "{instruction}",
        instruction="",
        instructed="instruction: {}\n",
        query="query: ",
        between="\n",
        passage="document: ",
        after="You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n",
        in_pieces=True,
    ),
)
"""Sources: the model card of Qwen3-Reranker; mxbai_rerank_v2.py of mixedbread's mxbai-rerank."""


@dataclass(frozen=True)
class Asking:
    """How one checkpoint is asked."""

    checkpoint: Checkpoint
    score: LogitScore
    template: ChatTemplate | None
    published: Published | None

    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
        """By the chat template if there is one, else as it was published, else the two texts and nothing more."""
        checkpoint, settings = self.checkpoint, self.checkpoint.settings
        if self.template is not None:
            return templated(checkpoint, self.template, options, limits)
        if self.published is not None:
            return self.published.inputs(checkpoint, options, limits)
        if options.prompt is not None:
            raise OptionError(
                f"prompt={options.prompt!r}: this model is given query and passage alone, as its files say; "
                "query_instruction is put before the query"
            )
        query = settings.query_prompt if options.query_instruction is None else options.query_instruction
        template = EncoderTemplate.of(checkpoint.tokenizer)
        return EncoderInputs(checkpoint.tokenizer, template, limits, query, options.passage_instruction or "")


def templated(
    checkpoint: Checkpoint, template: ChatTemplate, options: ScoringOptions, limits: Limits, *, causal: bool = True
) -> JoinedInputs:
    """Inputs by a chat template; the option `prompt` is the system's message in place of the one that was saved."""
    prompt = checkpoint.settings.query_prompt if options.prompt is None else options.prompt
    query, passage = options.query_instruction or "", options.passage_instruction or ""
    return JoinedInputs(checkpoint.tokenizer, limits, template.frame(prompt), query, passage, causal)


def find_template(checkpoint: Checkpoint) -> ChatTemplate | None:
    """The folder's chat template if it is one for pairs and not switched off."""
    template = checkpoint.chat_template
    return template if template is not None and template.names_both else None


def find_asking(checkpoint: Checkpoint, own: LogitScore, own_prompt: str) -> Asking | None:
    """How a checkpoint is asked; None: as the publisher's models of the llm family are.

    Args:
        own: what the llm family reads.
        own_prompt: and what it asks.
    """
    template, score = find_template(checkpoint), checkpoint.settings.logit_score
    published = _find_published(checkpoint)
    if score == own and (template is None or own_prompt in template.source):
        return None
    if score is None and published is not None:
        score = published.tokens(checkpoint)
    if score is None:
        if template is None:
            return None
        raise CheckpointError(
            f"{checkpoint.folder}: {template.where} asks about a query and a document, but which tokens answer is not "
            "said: add the LogitScore with which it was trained, by saving it with CrossEncoder of "
            "sentence-transformers"
        )
    return Asking(checkpoint, score, template, published)


def _find_published(checkpoint: Checkpoint) -> Published | None:
    template, named = checkpoint.chat_template, checkpoint.config.get("classifier_from_token")
    for published in PUBLISHED:
        if (template is not None and published.mark in template.source) or named == [published.false, published.true]:
            return published
    return None
