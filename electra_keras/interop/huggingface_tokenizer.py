"""Vocabulary and casing of a Hugging Face directory, from vocab.txt, tokenizer.json and the like."""

from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from electra_keras.config import ElectraConfig, matches
from electra_keras.console import UserError
from electra_keras.interop.json_files import field, read_json_if_there
from electra_keras.interop.weights import blamed_on, check_casing
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS
from electra_keras.text.vocabulary import Vocabulary


class Tokenization(NamedTuple):
    """What a directory says of its tokenizer; None where it says nothing."""

    vocabulary: Vocabulary
    lower_case: bool | None
    strip_accents: bool | None


def read_tokenization(
    directory: Path,
    vocab_file: Path | None,
    lower_case: bool | None,
    strip_accents: bool | None,
    notes: list[str],
) -> Tokenization:
    """Reads a directory's tokenizer.

    Args:
        directory: the model's.
        vocab_file: takes the place of the directory's vocabulary.
        lower_case, strip_accents: take the place of what the directory says.
        notes: lines for the user are added.

    Raises:
        UserError: there is none, it is damaged, or no WordPiece tokenizer that we have.
    """
    path, fast_path = directory / "tokenizer_config.json", directory / "tokenizer.json"
    settings, fast = read_json_if_there(path), read_json_if_there(fast_path)
    normalizer = _bert_normalizer(fast.get("normalizer"))
    if vocab_file:
        vocabulary = Vocabulary.load(str(vocab_file))
    else:
        vocabulary = _read_vocabulary(directory, fast, notes)

    def setting(name: str, fast_name: str) -> bool | None:
        return field(settings, name, bool, path, field(normalizer, fast_name, bool, fast_path))

    if setting("tokenize_chinese_chars", "handle_chinese_chars") is False:
        notes.append(
            f"{directory}: tokenize_chinese_chars=false is not supported; CJK characters are split"
        )
    if lower_case is None:
        lower_case = setting("do_lower_case", "lowercase")
    if strip_accents is None:
        strip_accents = setting("strip_accents", "strip_accents")
    limit = field(
        field(fast, "model", dict, fast_path, {}), "max_input_chars_per_word", int, fast_path
    )
    if limit is not None and limit != MAX_WORD_CHARACTERS:
        notes.append(
            f"{fast_path}: words of more than {limit} characters are [UNK] there, and here of more "
            f"than {MAX_WORD_CHARACTERS}, as in the original"
        )
    check_casing(lower_case, strip_accents, str(directory))
    if lower_case is not None:
        strip_accents = lower_case and strip_accents is not False
    return Tokenization(vocabulary, lower_case, strip_accents)


def _bert_normalizer(normalizer: Any) -> dict[str, Any]:
    """Returns the BertNormalizer of a tokenizer.json, alone or in a sequence; {} if there is none."""
    if not isinstance(normalizer, dict):
        return {}
    if normalizer.get("type") == "BertNormalizer":
        return normalizer
    parts = normalizer.get("normalizers")
    found = (_bert_normalizer(part) for part in parts) if isinstance(parts, list) else ()
    return next((part for part in found if part), {})


def _read_vocabulary(directory: Path, fast: dict[str, Any], notes: list[str]) -> Vocabulary:
    path, fast_path = directory / "vocab.txt", directory / "tokenizer.json"
    if path.exists():
        tokens = list(Vocabulary.load(str(path)).tokens)
    elif fast:
        model = field(fast, "model", dict, fast_path, {})
        if model.get("type") != "WordPiece":
            raise UserError(
                f"{fast_path} is a {model.get('type')} tokenizer; only WordPiece is supported"
            )
        tokens = _in_order(field(model, "vocab", dict, fast_path, {}), 0, fast_path)
    else:
        raise UserError(f"{directory} has neither vocab.txt nor tokenizer.json: give --vocab_file")
    added = _added_tokens(directory, fast)
    source = fast_path if fast else directory / "added_tokens.json"
    if any(not matches(index, int) for index in added.values()):
        raise UserError(f"{source}: an added token's id is not a number")
    new = {token: index for token, index in added.items() if index >= len(tokens)}
    if new:
        tokens += _in_order(new, len(tokens), source)
        notes.append(
            f"{source}: its {len(new)} added tokens, such as {min(new)}, are plain entries of the "
            "vocabulary here"
        )
    with blamed_on(source if new or not path.exists() else path):
        return Vocabulary(tuple(tokens))


def _added_tokens(directory: Path, fast: dict[str, Any]) -> dict[str, Any]:
    """Returns the ids of tokens that were added to a tokenizer after its training, by token."""
    added: dict[str, Any] = read_json_if_there(directory / "added_tokens.json")
    path = directory / "tokenizer.json"
    for token in field(fast, "added_tokens", list, path, []):
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise UserError(f"{path}: added_tokens are not objects with id and content")
        added[token["content"]] = token.get("id")
    return added


def _in_order(ids: dict[str, Any], first: int, where: Path) -> list[str]:
    """Returns tokens in the order of their ids, which must count up from `first`."""
    if not all(matches(index, int) for index in ids.values()):
        raise UserError(f"{where}: an id of its vocabulary is not a number")
    if sorted(ids.values()) != list(range(first, first + len(ids))):
        raise UserError(f"{where}: the ids of its vocabulary have gaps")
    for token in ids:
        if "\n" in token or token.endswith("\r"):
            raise UserError(f"{where}: the token {token!r} cannot stand in a vocab.txt")
    return sorted(ids, key=ids.__getitem__)


def write_tokenizer(directory: Path, vocabulary: Vocabulary, config: ElectraConfig) -> None:
    """Writes the tokenizer.json of a model whose casing is known, which transformers runs as it is.

    The classes for BERT there make a tokenizer of the vocabulary alone, which takes every word of
    more than 100 characters for [UNK]; the original, and this library, have 200.
    """
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: index for index, token in enumerate(vocabulary.tokens)},
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
        )
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=bool(config.strip_accents),
        lowercase=bool(config.lower_case),
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix="##")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.cls_id), ("[SEP]", vocabulary.sep_id)],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(directory / "tokenizer.json"))


def tokenizer_settings(config: ElectraConfig, max_length: int) -> dict[str, Any]:
    """Returns the tokenizer_config.json of a model whose casing is known."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "do_lower_case": config.lower_case,
        "strip_accents": config.strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": max_length,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
