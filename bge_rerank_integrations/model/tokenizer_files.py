"""A folder's tokenizer: tokenizer.json, and what the files beside it change in it.

transformers' tokenizer classes rewrite parts of tokenizer.json by tokenizer_config.json when they load it. What here
follows from which file was read off transformers 4.46, under which the publisher's library gives its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.json_file import damage, read_json
from bge_rerank_integrations.model.tokenizer_conversion import convert_tokenizer
from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors
from bge_rerank_integrations.once import once

BERT_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Bert", "ConvBert", "DistilBert", "Electra", "Funnel", "LayoutLM", "LayoutLMv2", "Lxmert", "MobileBert",
        "MPNet", "RoFormer", "Splinter", "SqueezeBert",
    )
)  # fmt: skip
"""Classes that set the normalizer by `do_lower_case`, `strip_accents` and `tokenize_chinese_chars`."""
ROBERTA_CLASSES = frozenset(f"{name}Tokenizer" for name in ("Roberta", "Bart", "Longformer", "GPT2", "Deberta"))
"""Classes that set the pre-tokenizer by `add_prefix_space`."""
TEMPLATES = {
    **dict.fromkeys(("BertTokenizer", "ElectraTokenizer"), processors.BertProcessing),
    **dict.fromkeys(("RobertaTokenizer", "CamembertTokenizer", "XLMRobertaTokenizer"), processors.RobertaProcessing),
}
"""Classes that put `cls_token` and `sep_token` around texts themselves, whatever template tokenizer.json has."""
CLASSES = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer",
}
"""The class of each model type where no file names one."""
_BERT_TOKENS = {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")}
_GEMMA_TOKENS = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad")}
_LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_ROBERTA_TOKENS = _LLAMA_TOKENS | {
    "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
DEFAULT_TOKENS = {
    **dict.fromkeys(BERT_CLASSES, _BERT_TOKENS),
    **dict.fromkeys(("RobertaTokenizer", "CamembertTokenizer", "XLMRobertaTokenizer"), _ROBERTA_TOKENS),
    "GemmaTokenizer": _GEMMA_TOKENS,
    "LlamaTokenizer": _LLAMA_TOKENS,
}
"""The special tokens of each class where no file names others."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFiles:
    """The tokenizer of one folder, read when asked for.

    Args:
        config: the model's config.json.
        lowercase: whether texts are put into lower case before whatever else the tokenizer does.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, lowercase: bool = False) -> None:
        self.folder = folder
        self.config = config
        self.lowercase = lowercase

    @once
    def tokenizer(self) -> Tokenizer:
        """Truncation and padding are off."""
        tokenizer = self._read()
        with tokenizer_errors(f"{self.folder / 'tokenizer_config.json'} does not fit tokenizer.json"):
            self._set_normalizer(tokenizer)
            self._set_pre_tokenizer(tokenizer)
            self._add_tokens(tokenizer)
            self._set_template(tokenizer)
            if self.lowercase and not _lowers(tokenizer.normalizer):
                before = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
                tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _read(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            return convert_tokenizer(self.folder, self.kind, self._named_tokens(), self.settings)
        try:
            with tokenizer_errors("not a tokenizer"):
                return Tokenizer.from_file(str(path))
        except CheckpointError as error:
            raise CheckpointError(damage(path, error)) from error

    @property
    def kind(self) -> str:
        """The name of the class that transformers would load, without the "Fast" of its faster twin."""
        for named in (self.settings.get("tokenizer_class"), self.config.get("tokenizer_class")):
            if isinstance(named, str) and named:
                return named.removesuffix("Fast")
        return CLASSES.get(str(self.config.get("model_type")), "")

    @once
    def settings(self) -> dict[str, Any]:
        """tokenizer_config.json with the special tokens of special_tokens_map.json, which count for more in folders
        that were written before tokenizer_config.json listed added tokens itself."""
        settings, named = (
            read_json(path) if (path := self.folder / file).is_file() else {}
            for file in ("tokenizer_config.json", "special_tokens_map.json")
        )
        return named | settings if "added_tokens_decoder" in settings else settings | named

    def switch(self, name: str, default: bool) -> bool:
        """A setting that is true or false."""
        value = self.settings.get(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.folder / 'tokenizer_config.json'}: {name} is {value!r}, not true or false")
        return value

    def special_token(self, name: str) -> str | None:
        """The text of `bos_token`, `pad_token` and so on; None where no file names one."""
        token = self.settings.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None and not isinstance(content, str):
            raise CheckpointError(f"{self.folder}: {name} is {token!r}, not a text")
        return content

    def first_token(self) -> int | None:
        """The token that a text begins with (bos), or None if the files say that there is none.

        Raises:
            CheckpointError: no file says which.
        """
        if "bos_token" in self.settings:
            named = self.special_token("bos_token")
            if named is None or (index := self.tokenizer.token_to_id(named)) is not None:
                return None if named is None else index
        with tokenizer_errors(f"{self.folder / 'tokenizer.json'} does not work"):
            probe = self.tokenizer.encode("a")
        before = probe.ids[: next((i for i, s in enumerate(probe.sequence_ids) if s is not None), 0)]
        if not before and "bos_token" not in self.settings:
            default = DEFAULT_TOKENS.get(self.kind, {}).get("bos_token")
            if default is not None and (index := self.tokenizer.token_to_id(default)) is not None:
                return index
        if len(before) != 1:
            raise CheckpointError(
                f"{self.folder}: which token a text begins with is said neither in tokenizer_config.json or "
                f"special_tokens_map.json (bos_token: {self.settings.get('bos_token')!r}) nor by the template in "
                "tokenizer.json: copy tokenizer_config.json from the model that this one was made from"
            )
        return before[0]

    @property
    def gives_token_types(self) -> bool:
        """Whether the model is told which tokens are the passage's."""
        names = self.settings.get("model_input_names")
        if isinstance(names, list):
            return "token_type_ids" in names
        return self.kind != "TokenizersBackend"  # of transformers 5, which gives them to no model unless they are named

    @once
    def chat_template(self) -> str | None:
        """The source of the template that puts messages into one text; None where the folder has none."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        named = self.settings.get("chat_template")
        if isinstance(named, list):  # several by name
            named = next(
                (one.get("template") for one in named if isinstance(one, dict) and one.get("name") == "default"), None
            )
        return named if isinstance(named, str) else None

    def pad_token(self) -> int | None:
        """The token that fills up batches elsewhere; None where no file names one."""
        named = self.special_token("pad_token")
        return None if named is None else self.tokenizer.token_to_id(named)

    def check_vocabulary(self, rows: int) -> None:
        """Refuse a tokenizer that gives tokens which the embedding, of so many rows, does not have."""
        if self._largest < rows:
            return
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        if beyond := sorted((index, token) for token, index in vocabulary.items() if index >= rows):
            shown = ", ".join(f"{token!r} ({index})" for index, token in beyond[:3])
            raise CheckpointError(
                f"{self.folder}: the tokenizer has {len(beyond)} tokens that the model's embedding of {rows} rows does "
                f"not have, such as {shown}: the two are of different models, or tokens were added and the embedding "
                "was not resized"
            )

    @once
    def _largest(self) -> int:
        """The largest token id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def _set_normalizer(self, tokenizer: Tokenizer) -> None:
        normalizer = tokenizer.normalizer
        if self.kind in BERT_CLASSES and isinstance(normalizer, normalizers.BertNormalizer):
            accents = self.settings.get("strip_accents")
            tokenizer.normalizer = normalizers.BertNormalizer(
                clean_text=normalizer.clean_text,
                handle_chinese_chars=self.switch("tokenize_chinese_chars", True),
                strip_accents=None if accents is None else self.switch("strip_accents", False),
                lowercase=self.switch("do_lower_case", True),
            )

    def _set_pre_tokenizer(self, tokenizer: Tokenizer) -> None:
        pre_tokenizer = tokenizer.pre_tokenizer
        if self.kind in ROBERTA_CLASSES and isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
            pre_tokenizer.add_prefix_space = self.switch("add_prefix_space", False)
            tokenizer.pre_tokenizer = pre_tokenizer

    def _set_template(self, tokenizer: Tokenizer) -> None:
        template, named = TEMPLATES.get(self.kind), self._named_tokens()
        if template is None:
            return
        ids = {name: tokenizer.token_to_id(named[name]) for name in ("cls_token", "sep_token") if name in named}
        for name, index in ids.items():
            if index is None and name in self.settings:
                raise CheckpointError(
                    f"{self.folder}: {name} is {named[name]!r}, which the tokenizer's vocabulary does not have: its "
                    "files are of different models; copy all of them from one"
                )
        if len(ids) == 2 and None not in ids.values():
            sep, cls = ((named[name], ids[name]) for name in ("sep_token", "cls_token"))
            tokenizer.post_processor = template(sep, cls)

    def _add_tokens(self, tokenizer: Tokenizer) -> None:
        """Tokens that the settings name and tokenizer.json does not, or with other rules for the spaces around them."""
        known = list(tokenizer.get_added_tokens_decoder().values())
        alike = {repr(token) for token in known}
        special = self._special_tokens()
        added = [token for token in self._listed_tokens(special) if repr(token) not in alike]
        contents = {token.content for token in [*known, *added]}
        # one that is in no vocabulary would be given an id that the embeddings have no row for: it stays plain text
        unlisted = [token for token in special if token not in contents and tokenizer.token_to_id(token) is not None]
        added += [AddedToken(token, special=True, lstrip=token == "<mask>") for token in unlisted]
        if added:
            tokenizer.add_tokens(added)

    def _named_tokens(self) -> dict[str, str]:
        """The special tokens by their names, such as "bos_token"."""
        defaults = DEFAULT_TOKENS.get(self.kind, {})
        named = {
            name: self.special_token(name) if name in self.settings else defaults.get(name) for name in SPECIAL_TOKENS
        }
        return {name: token for name, token in named.items() if token is not None}

    def _special_tokens(self) -> list[str]:
        found: list[object] = [*self._named_tokens().values()]
        for name in ("additional_special_tokens", "extra_special_tokens"):
            more = self.settings.get(name)
            for token in more if isinstance(more, list) else []:
                found.append(token.get("content") if isinstance(token, dict) else token)
        return list(dict.fromkeys(token for token in found if isinstance(token, str) and token))

    def _listed_tokens(self, special: list[str]) -> list[AddedToken]:
        """The added tokens of tokenizer_config.json, or of added_tokens.json in older folders, by their ids."""
        listed = self.settings.get("added_tokens_decoder")
        path = self.folder / "added_tokens.json"
        try:
            if listed is not None:
                return [_added(dict(listed[index])) for index in sorted(listed, key=int)]
            older = read_json(path) if path.is_file() else {}
            return [
                AddedToken(token, normalized=token not in special, special=token in special)
                for token in sorted(older, key=lambda token: int(older[token]))
            ]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{self.folder}: its list of added tokens is broken ({error!r})") from error


def _lowers(normalizer: Any) -> bool:
    """Whether sentence-transformers would see that a normalizer puts texts into lower case."""
    parts = [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        parts = [normalizer[i] for i in range(len(normalizer))]
    return any(isinstance(part, normalizers.Lowercase) for part in parts)


def _added(token: dict[str, Any]) -> AddedToken:
    rules = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(token["content"], **{name: bool(token[name]) for name in rules if name in token})
