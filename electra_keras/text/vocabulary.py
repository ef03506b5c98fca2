"""WordPiece vocabularies: one token a line, the line's number (from 0) is its id."""

import codecs
import dataclasses
import functools
import hashlib
import os

from electra_keras.console import UserError
from electra_keras.files import write_whole

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What tensorflow-text's WordPiece op takes: bytes of a token without "##", and tokens.
MAX_TOKEN_BYTES = 256
MAX_TOKENS = 1 << 22
# Many times the largest vocabularies; what is larger is another file.
_MAX_FILE_BYTES = 1 << 26


class VocabularyError(UserError):
    """A vocabulary file that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a WordPiece vocabulary, in the order of their ids.

    Attributes:
        tokens: all tokens; those that continue a word begin with "##".

    Raises:
        VocabularyError: a special token is missing, a token is empty, too long or there twice, or
            there are too many.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self.tokens, "the vocabulary")

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """Reads a vocabulary file: UTF-8, one token a line, LF or CRLF.

        Raises:
            VocabularyError: the file is missing or not UTF-8, or its tokens do not make a
                vocabulary; the message names the file and the line.
        """
        if os.path.exists(path) and not os.path.isfile(path):
            raise VocabularyError(f"cannot read the vocabulary {path}: it is no file")
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                if file.size() > _MAX_FILE_BYTES:
                    raise VocabularyError(
                        f"{path} has {file.size() / 1e6:,.0f} MB: that is no WordPiece vocabulary"
                    )
                content = file.read()
        except tf.errors.OpError as error:
            raise VocabularyError(f"cannot read the vocabulary {path}: {_reason(error)}") from error
        lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
        if lines[-1] in (b"", b"\r"):
            lines.pop()
        _check_number(len(lines), path)
        tokens = []
        for number, line in enumerate(lines, start=1):
            try:
                tokens.append(line.removesuffix(b"\r").decode("utf-8"))
            except UnicodeDecodeError as error:
                raise VocabularyError(
                    f"{path}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
                ) from error
        _check(tokens, path)
        return cls(tuple(tokens))

    def save(self, path: str) -> None:
        """Writes the file that `load` reads, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        write_whole(path, "".join(token + "\n" for token in self.tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token."""
        return {token: index for index, token in enumerate(self.tokens)}

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the tokens joined by LF, in UTF-8.

        It is that of the tokens and not of the file: CRLF or a BOM make no other vocabulary.
        """
        return hashlib.sha256("\n".join(self.tokens).encode("utf-8")).hexdigest()

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""
        return self.ids["[PAD]"]

    @property
    def unk_id(self) -> int:
        """Id of [UNK]."""
        return self.ids["[UNK]"]

    @property
    def cls_id(self) -> int:
        """Id of [CLS]."""
        return self.ids["[CLS]"]

    @property
    def sep_id(self) -> int:
        """Id of [SEP]."""
        return self.ids["[SEP]"]

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self.ids["[MASK]"]

    def special_ids(self) -> dict[str, int]:
        """Returns the ids of [PAD], [CLS], [SEP] and [MASK] by their field of `ElectraConfig`."""
        ids = {"pad": self.pad_id, "cls": self.cls_id, "sep": self.sep_id, "mask": self.mask_id}
        return {f"{name}_token_id": index for name, index in ids.items()}


def _reason(error: tf.errors.OpError) -> str:
    """Returns the part of a file system error that a user can act on."""
    return (error.message or type(error).__name__).rsplit("; ", 1)[-1]


def _check_number(tokens: int, where: str) -> None:
    if tokens > MAX_TOKENS:
        raise VocabularyError(f"{where} has {tokens:,} tokens: at most {MAX_TOKENS:,} are possible")


def _check(tokens: list[str] | tuple[str, ...], where: str) -> None:
    _check_number(len(tokens), where)
    first_line: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        # White space alone is a token, though no text has it: released vocabularies have U+2028.
        if not token:
            raise VocabularyError(
                f"{where}, line {number}: blank; every line is one token, and without it all later "
                f"ids would shift: put a placeholder there, such as [unused-{number}]"
            )
        size = len(token.removeprefix("##").encode("utf-8", "surrogatepass"))
        if size > MAX_TOKEN_BYTES:
            raise VocabularyError(
                f"{where}, line {number}: {token[:20]!r}.. has {size} bytes in UTF-8, a token may "
                f"have {MAX_TOKEN_BYTES}; where nothing needs it, put a placeholder there, such as "
                f"[unused-{number}]"
            )
        if token in first_line:
            raise VocabularyError(
                f"{where}, line {number}: {token!r} stands on line {first_line[token]} already"
            )
        first_line[token] = number
    missing = [token for token in SPECIAL_TOKENS if token not in first_line]
    if missing:
        raise VocabularyError(
            f"{where} has {len(first_line)} lines but no {', '.join(missing)}: it should be a "
            "WordPiece vocabulary, one token a line, that holds the special tokens "
            f"{' '.join(SPECIAL_TOKENS)}"
        )
