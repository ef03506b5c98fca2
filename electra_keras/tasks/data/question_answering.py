"""Questions about texts: SQuAD 1.1 and 2.0 (JSON), MRQA 2019 (JSONL), and a question a line.

Sources of the formats: Rajpurkar et al. (2016, 2018); mrqa/MRQA-Shared-Task-2019, README; the last is
SQuAD as the `datasets` package has it: `question`, `context`, `id`, `title`, and `answers` as lists of
`text` and `answer_start`. All offsets are in characters. google-research/electra
(finetune/qa/qa_tasks.py) leaves out, in training, answers that it does not find at their offset; here
they are looked for first.

Whether a question has an answer is said twice, by `is_impossible` and by the list of answers. The list
decides, as in evaluate-v2.0.py, which does not look at the flag: an empty one means that there is none.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.examples import QuestionExample
from electra_keras.tasks.data.files import parse_json, read_lines, warn_once
from electra_keras.tasks.metrics.squad import normalize_answer

EXTENSIONS = (".json", ".jsonl")


def read_questions(
    path: str, by_line: bool | None = None, name: str | None = None, to_answer: bool = False
) -> list[QuestionExample]:
    """Reads a file of questions, also one without answers, to predict for.

    SQuAD's is one JSON document. MRQA's, with or without its header line, has a context with `qas` a
    line, and what `datasets` writes a question a line; these objects may also stand in one JSON list.
    Ids and answers may be numbers; what is null counts as missing.

    An answer whose text is not at its offset is put where the text is, if it is in the context exactly
    once; else it is in `gold` only. Of MRQA's, `detected_answers` give the spans, whose ends are
    inclusive and whose `text` is a normalized one, so it is compared after normalization. Warnings
    count the answers that are not at their offset, and the questions whose flag and list of answers
    differ, and name the first.

    Args:
        path: of the file.
        by_line: whether each line is an object of its own; None: if the name ends in .jsonl (.gz).
        name: what errors call the file; None: its path.
        to_answer: only questions and contexts matter: the file may be empty, ids may come again, and
            nothing is said of the answers.

    Raises:
        UserError: the file cannot be read, is no such JSON, holds no question, or an id twice; the
            message names the article, the line, or the question.
    """
    if by_line is None:
        by_line = path.lower().removesuffix(".gz").endswith(".jsonl")
    reader = _Reader(name or path)
    _read_values(list(read_lines(path)), by_line, reader)
    return reader.examples if to_answer else reader.checked()


def _read_values(lines: Sequence[tuple[int, str]], by_line: bool, reader: "_Reader") -> None:
    """Gives the reader the JSON values of a file."""
    full = [(number, text) for number, text in lines if text.strip()]
    # A list is one value, whatever the file is named.
    by_line = by_line and not (full and full[0][1].lstrip().startswith("["))
    if not by_line:
        try:
            document = parse_json("\n".join(text for _, text in lines), reader.name)
        except UserError:
            # What `datasets` writes has an object a line also where it is named .json.
            stripped = [text.strip() for _, text in full]
            by_line = len(full) > 1 and all(text[0] + text[-1] == "{}" for text in stripped)
            if not by_line:
                raise
        else:
            reader.read_document(document)
    if by_line:
        for number, text in full:
            value = parse_json(text, reader.name, number)
            reader.read(value, f"{reader.name}, line {number}")


class _Reader:
    """Makes examples of JSON values, and counts what is odd about them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.examples: list[QuestionExample] = []
        self.misplaced = _Misplaced()
        # What questions' flags say against their answers: where.
        self.odd: dict[str, list[str]] = {}

    def read_document(self, document: Any) -> None:
        """Reads SQuAD's object, or a list of what may stand in `data` or on a line."""
        if isinstance(document, list) and document:
            for number, value in enumerate(document, start=1):
                self.read(value, f"{self.name}, item {number}")
            return
        for number, value in enumerate(_get(document, "data", list, self.name), start=1):
            where = f"{self.name}, article {number}"
            if isinstance(value, dict) and "question" in value:
                self.read(value, where)
            else:
                self._read_article(value, where)

    def read(self, value: Any, where: str) -> None:
        """Reads an article, a context with `qas`, or a question with its context."""
        keys = value if isinstance(value, dict) else {}
        if "header" in keys and not self.examples:  # MRQA's first line
            return
        if "data" in keys:
            raise UsageError(
                f"{self.name}: SQuAD's format is read from a file named .json, or with "
                "--input_format=json"
            )
        if "paragraphs" in keys:
            self._read_article(value, where)
        elif "qas" in keys:
            self._read_paragraph(value, "", where)
        else:
            context = _get(value, "context", str, where)
            title = _title(value, where)
            if value.get("id") is None:
                value = value | {"id": len(self.examples)}
            self._read_squad(value, context, title, where)

    def _read_article(self, article: Any, where: str) -> None:
        title = _title(article, where)
        for place, paragraph in enumerate(_get(article, "paragraphs", list, where), start=1):
            self._read_paragraph(paragraph, title, f"{where}, paragraph {place}", "id")

    def _read_paragraph(self, paragraph: Any, title: str, where: str, key: str = "qid") -> None:
        context = _get(paragraph, "context", str, where)
        for place, qa in enumerate(_get(paragraph, "qas", list, where), start=1):
            at = f"{where}, question {place}"
            if key == "id" or (isinstance(qa, dict) and "id" in qa and "qid" not in qa):
                self._read_squad(qa, context, title, at)
            else:
                identity = _text_or_number(qa, "qid", at)
                self._read_mrqa(qa, identity, context, f"{where}, question {identity}")

    def _read_squad(self, qa: Any, context: str, title: str, where: str) -> None:
        identity = _text_or_number(qa, "id", where)
        at = f"{self.name}, question {identity}"
        gold, spans = [], []
        answers = _answers(qa, at)
        for answer in answers or []:
            text = _text_or_number(answer, "text", at)
            start = _get(answer, "answer_start", int, at)
            gold.append(text)
            is_there = bool(text) and start >= 0 and context.startswith(text, start)
            spans.append(
                (text, start) if is_there else self.misplaced.repair(context, text, start, at)
            )
        self._add(qa, identity, context, None if answers is None else gold, spans, at, title)

    def _read_mrqa(self, qa: dict[str, Any], identity: str, context: str, at: str) -> None:
        found, spans = [], []
        for answer in _get(qa, "detected_answers", list, at, default=[]):
            text = _text_or_number(answer, "text", at)
            found.append(text)
            for span in _get(answer, "char_spans", list, at):
                start, end = _inclusive_span(span, at)
                there = context[start:end]
                is_there = bool(there) and normalize_answer(there) == normalize_answer(text)
                spans.append(
                    (there, start) if is_there else self.misplaced.repair(context, text, start, at)
                )
        gold = None
        if qa.get("answers") is not None:
            gold = _get(qa, "answers", list, at)
            if not all(_is_text_or_number(answer) for answer in gold):
                raise UserError(f"{at}: 'answers' should be a list of texts")
            gold = [str(answer) for answer in gold]
        self._add(qa, identity, context, gold or found or gold, spans, at)

    def _add(
        self,
        qa: dict[str, Any],
        identity: str,
        context: str,
        gold: list[str] | None,
        spans: Sequence[tuple[str, int] | None],
        where: str,
        title: str = "",
    ) -> None:
        """Adds a question; `gold` is None where nothing is said of its answers."""
        flag = qa.get("is_impossible")
        if flag is not None:
            flag = _get(qa, "is_impossible", bool, where)
        impossible = bool(flag)
        if gold is not None and not gold:
            impossible = True
            if flag is None:
                self._count("have an empty list of answers, and no is_impossible", where)
            elif not flag:
                self._count("are marked as answerable, but have an empty list of answers", where)
        elif gold and any(gold) and flag:
            impossible = False
            self._count("are marked is_impossible, but have answers", where)
        self.examples.append(
            QuestionExample(
                id=identity,
                question=_get(qa, "question", str, where),
                context=context,
                answers=() if impossible else tuple(filter(None, spans)),
                gold=tuple(gold or ()),
                is_impossible=impossible,
                title=title,
            )
        )

    def _count(self, what: str, where: str) -> None:
        self.odd.setdefault(what, []).append(where)

    def checked(self) -> list[QuestionExample]:
        """Returns the examples; warns of what was counted."""
        if not self.examples:
            raise UserError(f"{self.name} holds no questions")
        seen = set()
        for example in self.examples:
            if example.id in seen:
                raise UserError(f"{self.name}: two questions have the id {example.id!r}")
            seen.add(example.id)
        for what, places in self.odd.items():
            warn_once(
                f"{self.name}: {len(places)} of {len(self.examples)} questions {what}: the list "
                f"decides, as in the official script; the first is "
                f"{places[0].removeprefix(self.name + ', ')}"
            )
        found = self.misplaced
        if found.first:
            warn_once(
                f"{found.moved + found.lost} answers are not at their offset: {found.moved} were found "
                f"elsewhere, {found.lost} are not trained on; the first is {found.first}"
            )
        return self.examples


def training_questions(examples: Sequence[QuestionExample]) -> list[QuestionExample]:
    """Returns the questions to train on: those that have an answer in the context, or are impossible.

    Warnings count the others.
    """
    usable = [example for example in examples if example.answers or example.is_impossible]
    without = sum(not example.gold for example in examples if not example.is_impossible)
    lost = len(examples) - len(usable) - without
    for count, why in (
        (lost, "their answer is not found in the context"),
        (without, "nothing is said of their answers"),
    ):
        if count:
            logging.warning("%d of %d questions are not trained on: %s", count, len(examples), why)
    return usable


def scored_questions(
    examples: Sequence[QuestionExample], has_impossible: bool
) -> list[QuestionExample]:
    """Returns the dev questions that can be scored: all but those that come without word of their
    answers, which a warning counts.

    Another warning counts those that have no answer, if the model knows none such (`has_impossible`):
    every one is an error of the model.

    Raises:
        UserError: there is no question left.
    """
    scored = [example for example in examples if example.gold or example.is_impossible]
    if not scored:
        raise UserError("the dev questions have no answers to compare with")
    if len(scored) < len(examples):
        logging.warning(
            "%d of %d dev questions are left out of the score: nothing is said of their answers",
            len(examples) - len(scored),
            len(examples),
        )
    impossible = sum(example.is_impossible for example in scored)
    if impossible and not has_impossible:
        logging.warning(
            "%d of %d dev questions have no answer, which counts as an error of the model: it was "
            "trained without such, and answers everything",
            impossible,
            len(scored),
        )
    return scored


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


_KINDS = {list: "a list", str: "a text", int: "an integer", bool: "true or false"}


def _get(value: Any, key: str, kind: type, where: str, default: Any = None) -> Any:
    """Returns `value[key]`, of a kind; `default`, if not None, where it is missing or null."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object with {key!r}")
    found = value.get(key)
    if found is None:
        found = default
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        problem = f"should be {_KINDS[kind]}" if value.get(key) is not None else "is missing"
        raise UserError(f"{where}: {key!r} {problem}")
    return found


def _is_text_or_number(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _text_or_number(value: Any, key: str, where: str) -> str:
    """Returns `value[key]` as text: files of annotation tools have ids and answers as numbers."""
    if isinstance(value, dict) and _is_text_or_number(value.get(key)):
        return str(value[key])
    return _get(value, key, str, where)


def _title(value: Any, where: str) -> str:
    has_title = isinstance(value, dict) and value.get("title") is not None
    return _text_or_number(value, "title", where) if has_title else ""


def _answers(qa: Any, where: str) -> list[dict[str, Any]] | None:
    """Returns the answers as SQuAD has them, also where `datasets` wrote them; None: not said."""
    answers = qa.get("answers")
    if isinstance(answers, dict) and "text" in answers:
        texts = _get(answers, "text", list, where)
        starts = _get(answers, "answer_start", list, where)
        if len(texts) != len(starts):
            raise UserError(
                f"{where}: {len(texts)} texts of answers, but {len(starts)} of 'answer_start'"
            )
        return [
            {"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)
        ]
    return None if answers is None else _get(qa, "answers", list, where)


def _inclusive_span(span: Any, where: str) -> tuple[int, int]:
    """Returns start and end, the latter exclusive, of one of MRQA's spans."""
    is_pair = isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span)
    if not is_pair or span[0] < 0:
        raise UserError(f"{where}: 'char_spans' should hold pairs of offsets, not {span!r:.60}")
    return span[0], span[1] + 1
