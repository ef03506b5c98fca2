"""The BERT tokenizer of the original ELECTRA, as plain Python and as TensorFlow ops.

Both do what google-research/electra model/tokenization.py (`FullTokenizer`) does: clean the text,
put spaces around CJK characters, lower-case, strip accents, split at white space and punctuation,
then cut every word greedily into the longest WordPieces. `ReferenceTokenizer` is that, step by
step and slow. `Tokenizer` is made of graph ops: the data builder, fine-tuning and exported models
all use it, so that training and serving cannot disagree.

tensorflow-text's own BertTokenizer and FastBertTokenizer are not used, as they fold case with NFKC
("½", "²" and "…" come out as other characters). Unicode properties are those of Python's own
`unicodedata` when the graph is built, as the original takes them when it runs; characters that it
does not know are dropped. An exported model keeps the tables it was built with.

What may still differ from the original: accents (NFD) of characters that are newer than the ICU
inside TensorFlow. With Python 3.11 (Unicode 14) there are none below U+20000.
"""

import functools
import re
import unicodedata
from collections.abc import Callable

import numpy as np

from electra_keras.console import reason  # sets TensorFlow's log level before it is imported
from electra_keras.text.offsets import SourceCharacters, row_ids
from electra_keras.text.vocabulary import Vocabulary, VocabularyError

# isort: split
import tensorflow as tf
import tensorflow_text as tf_text

# Longer words become [UNK] (`max_input_chars_per_word` of the original's WordpieceTokenizer).
MAX_WORD_CHARACTERS = 200
_MAX_UTF8_BYTES = 4

# What the original counts as CJK ideographs; kana and hangul are words like any other script.
_CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


# --- Character classes ---------------------------------------------------------------------------


def is_dropped(char: str) -> bool:
    """Tells what vanishes from the text: U+FFFD and all of Unicode's "other" categories.

    They are control, format, surrogate, private and unassigned characters.
    """
    if char in "\t\n\r":
        return False
    return char == "\ufffd" or unicodedata.category(char).startswith("C")


def is_whitespace(char: str) -> bool:
    """Tells where words end: what Python's `str.split` or the original holds for white space."""
    return char.isspace() or unicodedata.category(char) == "Zs"


def is_cjk(char: str) -> bool:
    """Tells CJK ideographs, each of which is a word of its own."""
    return any(first <= ord(char) <= last for first, last in _CJK_RANGES)


def is_accent(char: str) -> bool:
    """Tells the combining marks that `strip_accents` removes after NFD."""
    return unicodedata.category(char) == "Mn"


def is_punctuation(char: str) -> bool:
    """Tells punctuation: every ASCII symbol ("$" and "`" too), and Unicode's P* categories."""
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


# --- The reference -------------------------------------------------------------------------------


def basic_tokenize(text: str, lower_case: bool = True, strip_accents: bool = True) -> list[str]:
    """Splits `text` into words and punctuation marks (the original's `BasicTokenizer`)."""
    cleaned = []
    for char in text:
        if is_dropped(char):
            continue
        if is_whitespace(char):
            char = " "
        cleaned.append(f" {char} " if is_cjk(char) else char)
    words = []
    for word in "".join(cleaned).split():
        if lower_case:
            word = word.lower()
            if strip_accents:
                word = "".join(c for c in unicodedata.normalize("NFD", word) if not is_accent(c))
        spaced = "".join(f" {char} " if is_punctuation(char) else char for char in word)
        words += spaced.split()
    return words


def wordpiece_tokenize(word: str, ids: dict[str, int]) -> list[str]:
    """Cuts a word into the longest pieces of `ids` from the left; ["[UNK]"] if that fails."""
    if len(word) > MAX_WORD_CHARACTERS:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in ids:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


class ReferenceTokenizer:
    """The original's tokenizer in plain Python: readable and slow, to check `Tokenizer` against.

    Args:
        vocabulary: the WordPieces.
        lower_case: whether to lower-case the text.
        strip_accents: whether to remove accents too; without `lower_case` they stay.
    """

    def __init__(
        self, vocabulary: Vocabulary, lower_case: bool = True, strip_accents: bool | None = None
    ) -> None:
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self.strip_accents = lower_case and strip_accents is not False

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the WordPieces of `text`; bytes that are not UTF-8 are left out."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "ignore")
        words = basic_tokenize(text, self.lower_case, self.strip_accents)
        return [piece for w in words for piece in wordpiece_tokenize(w, self.vocabulary.ids)]

    def tokenize_with_offsets(self, text: str | bytes) -> list[tuple[str, int, int]]:
        """Returns (WordPiece, start, end) for each; text/offsets.py has the rules."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        # For every character of the words [start, end] of its source; siblings share one list.
        spans: list[list[int]] = []
        owner = None  # of an accent that follows
        for index, char in enumerate(text):
            if is_dropped(char):
                continue
            given = "".join(basic_tokenize(char, self.lower_case, self.strip_accents))
            if given:
                owner = [index, index + 1]
                spans += [owner] * len(given)
            elif is_whitespace(char):
                owner = None
            elif owner:
                owner[1] = index + 1
        tokens, first = [], 0
        for word in basic_tokenize(text, self.lower_case, self.strip_accents):
            for piece in wordpiece_tokenize(word, self.vocabulary.ids):
                # No word begins with "##" itself: it is punctuation.
                length = len(word if piece == "[UNK]" else piece.removeprefix("##"))
                tokens.append((piece, spans[first][0], spans[first + length - 1][1]))
                first += length
        return tokens


# --- In the graph --------------------------------------------------------------------------------


def _regex_class(chars: list[str]) -> str:
    """Writes characters, given in order, as the inside of an RE2 character class."""
    ranges: list[list[int]] = []
    for code in map(ord, chars):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(
        f"\\x{{{first:X}}}" + (f"-\\x{{{last:X}}}" if last > first else "")
        for first, last in ranges
    )


@functools.cache
def _regex_classes() -> dict[str, str]:
    """Returns the inside of a regex class for every class of characters that the graph needs."""
    # Surrogates are no characters, and RE2 refuses them.
    kept: list[str] = []
    dropped: list[str] = []
    for char in (chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF):
        (dropped if is_dropped(char) else kept).append(char)

    def matching(predicate: Callable[[str], bool]) -> str:
        return _regex_class([char for char in kept if predicate(char)])

    # Python keeps the properties Cased and Case_Ignorable to itself, but lower() shows them:
    # a capital sigma becomes a final one if a cased letter stands before it, with nothing but
    # case-ignorable characters between, and none stands after.
    candidates = [char for char in kept if not is_cjk(char) and not "가" <= char <= "힣"]
    cased = [char for char in candidates if f"{char}Σ".lower().endswith("ς")]
    known = set(cased)
    ignorable = [c for c in candidates if c not in known and f"A{c}Σ".lower().endswith("ς")]
    return {
        "dropped": _regex_class(dropped),
        # ASCII white space is left to tf.strings.split.
        "whitespace": matching(lambda char: not char.isascii() and is_whitespace(char)),
        "cjk": "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in _CJK_RANGES),
        "accent": matching(is_accent),
        "punctuation": matching(is_punctuation),
        "cased": _regex_class(cased),
        "ignorable": _regex_class(ignorable),
    }


@functools.cache
def _newer_lower_case() -> dict[str, str]:
    """Returns letters, with their lower case, on which tf.strings.lower cannot be relied.

    Its Unicode is older than Python's, and it follows the locale of the process: in a Turkish or
    Lithuanian one some letters have another lower case. (The ASCII letters are lowered apart.)
    """
    letters = [char for char in map(chr, range(0x110000)) if char.lower() != char and char != "Σ"]
    with tf.init_scope():  # also when the first call is inside a tf.function
        known = tf.strings.lower(tf.constant(letters), encoding="utf-8").numpy()
    return {
        char: char.lower()
        for char, lower in zip(letters, known, strict=True)
        if char.lower() != lower.decode() or char in "İĮÌÍĨ"
    }


class Tokenizer(tf.Module):
    """The original's tokenizer as TensorFlow ops, for tf.data and for serving.

    Args:
        vocabulary: the WordPieces.
        lower_case: whether to lower-case the text.
        strip_accents: whether to remove accents too. None means as `lower_case`; without
            `lower_case` accents stay in any case, as in the original.

    Example:
        >>> tokenizer = Tokenizer(Vocabulary.load("vocab.txt"))
        >>> tokenizer.tokenize(["Hello, world!"])
        <tf.RaggedTensor [[7592, 1010, 2088, 999]]>
    """

    def __init__(
        self, vocabulary: Vocabulary, lower_case: bool = True, strip_accents: bool | None = None
    ) -> None:
        super().__init__(name="tokenizer")
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self.strip_accents = lower_case and strip_accents is not False
        # In characters; no word begins with "##" itself (it is punctuation).
        lengths = [len(token.removeprefix("##")) for token in vocabulary.tokens]
        self._piece_lengths = np.array(lengths, np.int32)
        # A word of more bytes becomes [UNK]; see `_shorten` for what that is used for.
        self._max_word_bytes = MAX_WORD_CHARACTERS * _MAX_UTF8_BYTES
        try:
            self._wordpiece = tf_text.FastWordpieceTokenizer(
                vocab=list(vocabulary.tokens),
                token_out_type=tf.int32,
                unknown_token="[UNK]",
                max_bytes_per_word=self._max_word_bytes,
                no_pretokenization=True,
            )
        except RuntimeError as error:
            raise VocabularyError(f"the vocabulary cannot be used: {reason(error)}") from error

    def basic_tokenize(self, texts: tf.Tensor, valid_utf8: bool = False) -> tf.RaggedTensor:
        """Splits texts into words and punctuation marks.

        Args:
            texts: strings [n], UTF-8; bytes that are not are left out.
            valid_utf8: promises that all texts are UTF-8, which saves a fifth of the time.

        Returns:
            Strings [n, (words)].
        """
        classes = _regex_classes()
        replace = tf.strings.regex_replace
        texts = tf.convert_to_tensor(texts, tf.string)
        if not valid_utf8:
            texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        texts = replace(texts, f"[{classes['dropped']}]+", "")
        texts = replace(texts, f"[{classes['whitespace']}]", " ")
        texts = replace(texts, f"[{classes['cjk']}]", r" \0 ")
        if self.lower_case:
            texts = self._lower(texts)
        if self.strip_accents:
            texts = tf_text.normalize_utf8(texts, "NFD")
            texts = replace(texts, f"[{classes['accent']}]+", "")
        texts = replace(texts, f"[{classes['punctuation']}]", r" \0 ")
        return tf.strings.split(texts)

    def tokenize_words(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Cuts words that `basic_tokenize` made into WordPieces.

        Args:
            words: strings [n, (words)].

        Returns:
            Token ids, int32 [n, (words), (pieces)].
        """
        return self._wordpiece.tokenize(words.with_flat_values(self._shorten(words.flat_values)))

    def tokenize(self, texts: tf.Tensor, valid_utf8: bool = False) -> tf.RaggedTensor:
        """Turns texts into token ids, without [CLS] or [SEP].

        Args:
            texts: strings [n]; see `basic_tokenize`.
            valid_utf8: see `basic_tokenize`.

        Returns:
            Token ids, int32 [n, (tokens)].
        """
        return self.tokenize_words(self.basic_tokenize(texts, valid_utf8)).merge_dims(-2, -1)

    def tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Turns texts into token ids and the offsets of what they come from.

        Args:
            texts: strings [n], UTF-8; bytes that are not are left out.

        Returns:
            The ids that `tokenize` gives, and the tokens' first character and the one after their
            last, all int32 [n, (tokens)]; text/offsets.py says what is counted.
        """
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        words = self.basic_tokenize(tf.strings.unicode_encode(codes, "UTF-8"), valid_utf8=True)
        pieces = self.tokenize_words(words)
        ids = pieces.merge_dims(-2, -1)
        word_lengths = tf.strings.length(words.flat_values, unit="UTF8_CHAR")
        lengths = tf.where(
            ids.flat_values == self.vocabulary.unk_id,
            tf.gather(word_lengths, row_ids(pieces.values.row_splits)),
            tf.gather(self._piece_lengths, ids.flat_values),
        )
        starts, ends = self._source_characters.spans(codes, lengths)
        return ids, ids.with_flat_values(starts), ids.with_flat_values(ends)

    @functools.cached_property
    def _source_characters(self) -> SourceCharacters:
        return SourceCharacters(self.basic_tokenize, is_dropped, is_whitespace)

    def _lower(self, texts: tf.Tensor) -> tf.Tensor:
        """Lower-cases texts as Python does."""
        texts = tf.strings.lower(texts)  # ASCII alone: no locale changes that
        classes = _regex_classes()
        replace = tf.strings.regex_replace
        final_sigma = (
            f"([{classes['cased']}][{classes['ignorable']}]*)Σ([{classes['ignorable']}]*)"
            f"([^{classes['cased']}{classes['ignorable']}]|\\z)"
        )
        texts = replace(texts, final_sigma, r"\1ς\2\3")
        texts = replace(texts, "Σ", "σ")
        newer = _newer_lower_case()
        if newer:

            def replaced() -> tf.Tensor:
                lowered = texts
                for char, lower in newer.items():
                    lowered = replace(lowered, char, lower)
                return lowered

            anywhere = f"(?s).*[{_regex_class(list(newer))}].*"
            found = tf.reduce_any(tf.strings.regex_full_match(texts, anywhere))
            texts = tf.cond(found, replaced, lambda: texts)
        return tf.strings.lower(texts, encoding="utf-8")

    def _shorten(self, words: tf.Tensor) -> tf.Tensor:
        """Sees to it that words ([n] strings) of too many characters become [UNK].

        The WordPiece op limits bytes, the original limits characters. So the op's limit is set
        where no word of 200 characters reaches it, and longer words are replaced by one that does.
        """

        def replaced() -> tf.Tensor:
            too_long = tf.strings.length(words, unit="UTF8_CHAR") > MAX_WORD_CHARACTERS
            return tf.where(too_long, "x" * (self._max_word_bytes + 1), words)

        # Counting characters takes longer than counting bytes, and such words are rare.
        any_long = tf.reduce_any(tf.strings.length(words) > MAX_WORD_CHARACTERS)
        return tf.cond(any_long, replaced, lambda: words)


def detokenize(tokens: list[str]) -> str:
    """Joins WordPieces to words, for people to read; what the tokenizer dropped stays lost."""
    return re.sub(r"(?<!\[CLS\])(?<!\[SEP\]) ##", "", " ".join(tokens))
