"""Questions about texts: SQuAD 1.1 and 2.0 (JSON) and MRQA 2019 (JSONL).

Sources of the formats: Rajpurkar et al. (2016, 2018); mrqa/MRQA-Shared-Task-2019, README. All offsets
are in characters. google-research/electra (finetune/qa/qa_tasks.py) leaves out, in training, answers
that it does not find at their offset; here they are looked for first.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from absl import logging

from electra_keras.console import UserError
from electra_keras.tasks.data.examples import QuestionExample
from electra_keras.tasks.data.files import parse_json, read_lines
from electra_keras.tasks.metrics.squad import normalize_answer

EXTENSIONS = (".json", ".jsonl")


def read_questions(path: str) -> list[QuestionExample]:
    """Reads a file by its name: MRQA if it ends in .jsonl or .jsonl.gz, else SQuAD."""
    return read_mrqa(path) if path.removesuffix(".gz").endswith(".jsonl") else read_squad(path)


def read_squad(path: str) -> list[QuestionExample]:
    """Reads a SQuAD file of any version, also one without answers, to predict for.

    An answer whose text is not at its offset is put where the text is, if it is in the context exactly
    once; else it is in `gold` only. A warning counts both and names the first.

    Raises:
        UserError: the file cannot be read, is no such JSON, holds no question, or an id twice.
    """
    document = parse_json("\n".join(text for _, text in read_lines(path)), path)
    examples, misplaced = [], _Misplaced()
    for number, article in enumerate(_get(document, "data", list, path), start=1):
        where = f"{path}, article {number}"
        for paragraph in _get(article, "paragraphs", list, where):
            context = _get(paragraph, "context", str, where)
            for qa in _get(paragraph, "qas", list, where):
                identity = _get(qa, "id", str, where)
                at = f"{path}, question {identity}"
                gold, spans = [], []
                for answer in _get(qa, "answers", list, at, default=[]):
                    text = _get(answer, "text", str, at)
                    start = _get(answer, "answer_start", int, at)
                    gold.append(text)
                    is_there = bool(text) and start >= 0 and context.startswith(text, start)
                    spans.append(
                        (text, start) if is_there else misplaced.repair(context, text, start, at)
                    )
                impossible = _get(qa, "is_impossible", bool, at, default=False)
                examples.append(
                    QuestionExample(
                        id=identity,
                        question=_get(qa, "question", str, at),
                        context=context,
                        answers=() if impossible else tuple(filter(None, spans)),
                        gold=tuple(gold),
                        is_impossible=impossible,
                        title=_get(article, "title", str, where, default=""),
                    )
                )
    return _checked(examples, misplaced, path)


def read_mrqa(path: str, lines: Iterable[tuple[int, str]] | None = None) -> list[QuestionExample]:
    """Reads a file of the MRQA 2019 shared task, with or without its header line.

    `lines` are the numbers and texts of its lines, where they have been read already.

    `detected_answers` give the spans, all of them and in their order; their ends are inclusive, and
    their `text` is a normalized one, so it is compared after normalization. Those that differ are
    treated as by `read_squad`. `answers` are the gold ones.

    Raises:
        UserError: as `read_squad`; the message names the line.
    """
    examples, misplaced = [], _Misplaced()
    for line, content in read_lines(path) if lines is None else lines:
        where = f"{path}, line {line}"
        if not content.strip():
            continue
        paragraph = parse_json(content, path, line)
        if line == 1 and isinstance(paragraph, dict) and "header" in paragraph:
            continue
        context = _get(paragraph, "context", str, where)
        for qa in _get(paragraph, "qas", list, where):
            at = f"{where}, question {_get(qa, 'qid', str, where)}"
            spans = []
            for answer in _get(qa, "detected_answers", list, at, default=[]):
                text = _get(answer, "text", str, at)
                for span in _get(answer, "char_spans", list, at):
                    start, end = _inclusive_span(span, at)
                    found = context[start:end]
                    is_there = bool(found) and normalize_answer(found) == normalize_answer(text)
                    spans.append(
                        (found, start) if is_there else misplaced.repair(context, text, start, at)
                    )
            gold = _get(qa, "answers", list, at, default=[])
            if not all(isinstance(answer, str) for answer in gold):
                raise UserError(f"{at}: 'answers' should be a list of texts")
            impossible = _get(qa, "is_impossible", bool, at, default=False)
            examples.append(
                QuestionExample(
                    id=qa["qid"],
                    question=_get(qa, "question", str, at),
                    context=context,
                    answers=() if impossible else tuple(filter(None, spans)),
                    gold=tuple(gold),
                    is_impossible=impossible,
                )
            )
    return _checked(examples, misplaced, path)


def training_questions(examples: Sequence[QuestionExample]) -> list[QuestionExample]:
    """Returns the questions to train on: those that have an answer in the context, or are impossible.

    A warning counts the others.
    """
    usable = [example for example in examples if example.answers or example.is_impossible]
    if len(usable) < len(examples):
        logging.warning(
            "%d of %d questions are not trained on: their answer is not found in the context",
            len(examples) - len(usable),
            len(examples),
        )
    return usable


def article(example: QuestionExample) -> str:
    """Returns a name of what a question is about: its article, or its context where there are no
    titles, as in MRQA. Such questions are not parted when some are held out.
    """
    return example.title or example.context


def gold_articles(examples: Sequence[QuestionExample]) -> list[dict[str, Any]]:
    """Returns what `metrics.squad.evaluate_v1` and `evaluate_v2` take, made of ids and gold answers."""
    questions = [
        {"id": example.id, "answers": [{"text": text} for text in example.gold]}
        for example in examples
    ]
    return [{"paragraphs": [{"qas": questions}]}]


@dataclasses.dataclass
class _Misplaced:
    """Collects the answers that are not at their offset: how many, and where the first one is."""

    moved: int = 0
    lost: int = 0
    first: str = ""

    def repair(self, context: str, text: str, start: int, where: str) -> tuple[str, int] | None:
        """Returns (text, start) where the text is in the context exactly once, else None."""
        self.first = self.first or f"{where}: {text!r:.60} at {start}"
        found = context.find(text) if text else -1
        if found < 0 or context.find(text, found + 1) >= 0:
            self.lost += 1
            return None
        self.moved += 1
        return text, found


def _checked(
    examples: list[QuestionExample], misplaced: _Misplaced, path: str
) -> list[QuestionExample]:
    if not examples:
        raise UserError(f"{path} holds no questions")
    seen = set()
    for example in examples:
        if example.id in seen:
            raise UserError(f"{path}: two questions have the id {example.id!r}")
        seen.add(example.id)
    if misplaced.first:
        logging.warning(
            "%d answers are not at their offset: %d were found elsewhere, %d are not trained on; the "
            "first is %s",
            misplaced.moved + misplaced.lost,
            misplaced.moved,
            misplaced.lost,
            misplaced.first,
        )
    return examples


_KINDS = {list: "a list", str: "a text", int: "an integer", bool: "true or false"}


def _get(value: Any, key: str, kind: type, where: str, default: Any = None) -> Any:
    """Returns `value[key]`, which must be of a kind; `default`, if not None, where it is missing."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object with {key!r}")
    found = value.get(key, default)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        problem = f"should be {_KINDS[kind]}" if key in value else "is missing"
        raise UserError(f"{where}: {key!r} {problem}")
    return found


def _inclusive_span(span: Any, where: str) -> tuple[int, int]:
    """Returns start and end, the latter exclusive, of one of MRQA's spans."""
    is_pair = isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span)
    if not is_pair or span[0] < 0:
        raise UserError(f"{where}: 'char_spans' should hold pairs of offsets, not {span!r:.60}")
    return span[0], span[1] + 1
