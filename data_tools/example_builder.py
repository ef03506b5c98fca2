"""Packs tokenized lines into pre-training examples of one or two segments."""

import random
from typing import NamedTuple

# How often an example has one segment, and how often the next example's length is drawn at random
# (google-research/electra build_pretraining_dataset.py, ExampleBuilder._create_example).
ONE_SEGMENT_PROBABILITY = 0.1
RANDOM_LENGTH_PROBABILITY = 0.05
_SHORTEST_RANDOM_LENGTH = 5


class Segments(NamedTuple):
    """The token ids of one example, without [CLS], [SEP] and padding."""

    first: list[int]
    second: list[int]


class ExampleBuilder:
    """Collects the lines of a document until they fill an example.

    With `drop_overflow` it does what the original's ExampleBuilder does, drawing from `rng` in the
    same order: whole lines are collected until the target length is reached; the first segment
    takes lines up to about half of it, the second the others; both are trimmed to fit
    `max_seq_length`, and **what is trimmed is lost**. The target is `max_seq_length`, or after 5 %
    of the examples a random number in [5, max_seq_length]. 10 % of the examples have one segment.

    Without it nothing is lost, and three things differ:

    1. What does not fit is carried on: it begins the next example of the same document, a cut line
       as its rest. A line that fills several examples makes several.
    2. The second segment always continues the first. (The original lets a short line return to the
       first segment after a longer one has gone to the second.)
    3. Where two segments are due and the first line alone would leave no room for a second, it is
       cut so that the example has two halves. So also text with a paragraph a line gets its 90 %
       of two segments; the original makes one segment of it.

    Args:
        max_seq_length: length of an example, with [CLS] and [SEP].
        rng: source of the random choices.
        drop_overflow: whether to do as the original does.
    """

    def __init__(self, max_seq_length: int, rng: random.Random, drop_overflow: bool) -> None:
        self.max_seq_length = max_seq_length
        self.rng = rng
        self.drop_overflow = drop_overflow
        self._lines: list[list[int]] = []
        self._length = 0
        self._target = max_seq_length

    def add_line(self, ids: list[int]) -> list[Segments]:
        """Adds a line's token ids; returns the examples that are now complete, often none."""
        self._lines.append(ids)
        self._length += len(ids)
        examples = []
        while self._length >= self._target:
            examples.append(self._create())
        return examples

    def end_document(self) -> list[Segments]:
        """Returns examples of what is left, so that no example spans two documents."""
        examples = []
        while self._length:
            examples.append(self._create())
        return examples

    def _create(self) -> Segments:
        one_segment = self.rng.random() < ONE_SEGMENT_PROBABILITY
        # [CLS] and two [SEP] are not in the lines.
        first_target = 100_000 if one_segment else (self._target - 3) // 2
        fill = self._fill_as_the_original if self.drop_overflow else self._fill
        first, second, left = fill(first_target)
        self._lines = [left] if left else []
        self._length = len(left)
        if self.rng.random() < RANDOM_LENGTH_PROBABILITY:
            self._target = self.rng.randint(_SHORTEST_RANDOM_LENGTH, self.max_seq_length)
        else:
            self._target = self.max_seq_length
        return Segments(first, second)

    def _fill_as_the_original(self, target: int) -> tuple[list[int], list[int], list[int]]:
        first: list[int] = []
        second: list[int] = []
        for line in self._lines:
            if (
                not first
                or len(first) + len(line) < target
                or (not second and len(first) < target and self.rng.random() < 0.5)
            ):
                first += line
            else:
                second += line
        first = first[: self.max_seq_length - 2]
        return first, second[: max(0, self.max_seq_length - len(first) - 3)], []

    def _fill(self, target: int) -> tuple[list[int], list[int], list[int]]:
        """Returns both segments, and the tokens that follow them."""
        tokens: list[int] = []
        cut = 0  # where the second segment begins, once a line has gone to it
        for line in self._lines:
            size = len(tokens)
            if (
                not cut
                and size
                and size + len(line) >= target
                and not (size < target and self.rng.random() < 0.5)
            ):
                cut = size
            tokens += line
        cut = cut or len(tokens)
        room = self.max_seq_length - 3
        if cut >= room and target < room:
            cut = max(1, room // 2)
        if cut >= room:
            return tokens[: room + 1], [], tokens[room + 1 :]
        return tokens[:cut], tokens[cut:room], tokens[room:]
