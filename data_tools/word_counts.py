"""Counts the words of a corpus in bounded memory."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable

from absl import logging

from data_tools.text_files import Part, TextCounts, read_batches
from electra_keras.console import ProgressLine
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS, Tokenizer, is_accent

# isort: split
import tensorflow as tf

# Of this many different words, which take about 1.5 GB, the rarest are dropped.
_MAX_DIFFERENT = 10_000_000
# Bytes of each batch in which marks are counted.
_SAMPLE_BYTES = 1 << 14
# Combining marks of Latin, Greek and Cyrillic letters. Other scripts write vowels with theirs.
_ACCENTS = ((0x0300, 0x036F), (0x0483, 0x0489), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF))


class WordCounter:
    """How often each word occurs.

    Words that are too long for the tokenizer are not kept; their characters are. Where there are
    more than `max_different` words, those that occurred once are dropped, then those that occurred
    twice, and so on, until half of them are left; a frequent word loses little by that.

    Attributes:
        words: the counts; may lack rare words.
        long_letters: how often each character occurs in the words that are too long.
        total: how many words there were in all.
        characters: how many characters they had.
        marks: in a sample of the text, how often each mark occurs that `strip_accents` removes.
        sampled: characters of that sample, white space not counted.
        text: what was read.
    """

    def __init__(self, max_different: int = _MAX_DIFFERENT) -> None:
        self.max_different = max_different
        self.words: Counter[str] = Counter()
        self.long_letters: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.total = self.characters = self.sampled = 0
        self.text = TextCounts()

    def count_files(self, files: list[str], tokenizer: Tokenizer, strict: bool = False) -> None:
        """Counts the words of all files, as the tokenizer splits them.

        Raises:
            TextError: see `read_batches`.
        """
        graph = tf.function(
            lambda texts: tokenizer.basic_tokenize(texts, valid_utf8=True),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )
        progress = ProgressLine(sum(map(os.path.getsize, files)) / 1e6, "MB")
        done = 0.0
        for path in files:
            counts = TextCounts()
            for batch in read_batches(Part(path), counts, strict):
                self.add_words(graph(batch).flat_values.numpy().tolist())
                self._sample(batch)
                progress.update(done, path)
            self.text.add(counts)
            done += os.path.getsize(path) / 1e6
            progress.update(done, path)
        progress.clear()

    def add_words(self, words: Iterable[bytes]) -> None:
        """Counts words in UTF-8."""
        for encoded, count in Counter(words).items():
            word = encoded.decode()
            self.total += count
            self.characters += count * len(word)
            if len(word) > MAX_WORD_CHARACTERS:
                for char, times in Counter(word).items():
                    self.long_letters[char] += count * times
            else:
                self.words[word] += count
        if len(self.words) > self.max_different:
            self._drop_rare()

    def _drop_rare(self) -> None:
        before = left = len(self.words)
        how_many = Counter(self.words.values())
        for rarest in sorted(how_many):
            left -= how_many[rarest]
            if left <= self.max_different // 2:
                break
        self.words = Counter({word: n for word, n in self.words.items() if n > rarest})
        logging.warning(
            "%d different words: those that occurred up to %d times so far are dropped, %d are left",
            before,
            rarest,
            left,
        )

    def _sample(self, lines: list[bytes]) -> None:
        text = b"".join(lines)[:_SAMPLE_BYTES].decode("utf-8", "ignore")
        decomposed = "".join(unicodedata.normalize("NFD", text).split())
        self.sampled += len(decomposed)
        self.marks.update(char for char in decomposed if is_accent(char))

    @property
    def long_share(self) -> float:
        """The share of all characters that stand in words that are too long."""
        return self.long_letters.total() / max(1, self.characters)

    def foreign_marks(self) -> tuple[float, str]:
        """Returns what `strip_accents` costs scripts that write vowels as marks.

        Returns:
            The share of the sample's characters that are marks other than the accents of Latin,
            Greek and Cyrillic letters; and the script of the most frequent one.
        """
        foreign = Counter(
            {
                mark: count
                for mark, count in self.marks.items()
                if not any(first <= ord(mark) <= last for first, last in _ACCENTS)
            }
        )
        if not foreign:
            return 0.0, ""
        name = unicodedata.name(max(foreign, key=foreign.__getitem__))
        script = name.removeprefix("COMBINING ").split()[0].split("-")[0].capitalize()
        return foreign.total() / self.sampled, script
