"""Question answering: an answer is a span of a context, or there is none."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.console import ProgressLine, UsageError, UserError
from electra_keras.files import write_whole
from electra_keras.tasks import answers
from electra_keras.tasks.answer_heads import ElectraAnswerHead, PlainAnswerHead
from electra_keras.tasks.data.examples import QuestionExample
from electra_keras.tasks.data.question_answering import (
    EXTENSIONS,
    article,
    gold_articles,
    read_questions,
    scored_questions,
    training_questions,
)
from electra_keras.tasks.features import Features
from electra_keras.tasks.interface import settings_from_json, settings_to_json
from electra_keras.tasks.metrics.squad import evaluate_v1, evaluate_v2
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.reading import read_questions_to_answer, read_split
from electra_keras.text.tokenizer import Tokenizer

FAMILY = "question_answering"
# Questions that are tokenized, or answered, at a time.
_CHUNK = 256
_BEST = 20
# finetune/qa/squad_official_eval.py, set_opts.
_ELECTRA_THRESHOLD = -2.75


@dataclasses.dataclass(frozen=True)
class QuestionAnsweringTask:
    """What a model that answers questions is, beyond its encoder; task.json of a model directory.

    Attributes:
        name: "question_answering".
        has_impossible: some questions of the training data have no answer.
        answer_head: "electra" or "plain".
        max_seq_length: tokens per window, the question and special ones included.
        stride, max_query_length, max_answer_length: in tokens.
        beam_size: starts, and ends for each, that are looked at.
        null_threshold: where the null odds are above, there is no answer, if `has_impossible`.
    """

    name: str
    has_impossible: bool
    answer_head: str
    max_seq_length: int
    stride: int
    max_query_length: int
    max_answer_length: int
    beam_size: int
    null_threshold: float

    targets: ClassVar = ("start_positions", "end_positions", "is_impossible")
    unit: ClassVar = "in percent"
    default_epochs: ClassVar = 2

    @property
    def metrics(self) -> tuple[str, ...]:
        """Of the official scripts; with impossible questions the best threshold's come first."""
        if self.has_impossible:
            return ("best_f1", "best_exact", "f1", "exact")
        return ("f1", "exact_match")

    @classmethod
    def read(
        cls, options: TaskOptions, split: str, task: Self | None = None
    ) -> list[QuestionExample]:
        """Reads a file of questions; those of an article are not parted; of dev questions, those that
        can be scored (`scored_questions`).
        """
        if options.input_format in ("tsv", "csv"):
            raise UsageError(f"--input_format={options.input_format} is for texts to classify")
        by_line = {"json": False, "jsonl": True}.get(options.input_format)

        def read(path: str) -> list[QuestionExample]:
            return read_questions(path, by_line)

        examples = read_split(options, split, EXTENSIONS, read, article)
        if split == "dev":
            return scored_questions(examples, task is None or task.has_impossible)
        return examples

    @classmethod
    def of_data(
        cls,
        options: TaskOptions,
        examples: Sequence[QuestionExample],
        held_out: Sequence[QuestionExample] = (),
    ) -> Self:
        """Returns the task that training examples make, with those that are held out of their file.

        Raises:
            UsageError: lengths that leave no room for the context.
        """
        length = options.max_seq_length or 512
        if options.max_query_length + 3 >= length:
            raise UsageError(
                f"--max_query_length={options.max_query_length} leaves no room for the context in "
                f"--max_seq_length={length}"
            )
        threshold = options.null_threshold
        if threshold is None:
            threshold = _ELECTRA_THRESHOLD if options.answer_head == "electra" else 0.0
        return cls(
            name=FAMILY,
            has_impossible=any(example.is_impossible for example in [*examples, *held_out]),
            answer_head=options.answer_head,
            max_seq_length=length,
            stride=options.stride or 128,
            max_query_length=options.max_query_length,
            max_answer_length=options.max_answer_length,
            beam_size=options.beam_size,
            null_threshold=threshold,
        )

    def to_json(self) -> str:
        """Returns the settings as indented JSON."""
        return settings_to_json(FAMILY, self)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parses what `to_json` wrote.

        Raises:
            UserError: it is something else; names `where`.
        """
        task = settings_from_json(cls, FAMILY, text, where)
        numbers = ("stride", "max_query_length", "max_answer_length", "beam_size")
        fine = (
            task.answer_head in ("electra", "plain")
            and all(getattr(task, name) > 0 for name in numbers)
            and task.max_query_length + 3 < task.max_seq_length
        )
        if not fine:
            raise UserError(f"{where} holds an impossible value")
        return task

    def describe(self) -> str:
        """Returns the head and the lengths, for the log."""
        kind = "with" if self.has_impossible else "without"
        return (
            f"{self.name} {kind} impossible questions, {self.answer_head} head, windows of "
            f"{self.max_seq_length} tokens every {self.stride}"
        )

    def training_examples(
        self, options: TaskOptions, examples: Sequence[QuestionExample]
    ) -> list[QuestionExample]:
        """Returns the questions that have a place to learn from.

        Raises:
            UserError: there are none.
        """
        usable = training_questions(examples)
        if not usable:
            raise UserError("no training question has an answer that is in its context")
        return usable

    # --- inputs ---------------------------------------------------------------------------------

    def windows(
        self, tokenizer: Tokenizer, questions: tf.Tensor, contexts: tf.Tensor
    ) -> answers.AnswerWindows:
        """Returns windows of UTF-8 texts, strings [n]; training and serving call it."""
        return answers.make_windows(
            tokenizer,
            questions,
            contexts,
            self.max_seq_length,
            self.stride,
            self.max_query_length,
        )

    def features(
        self, examples: Sequence[QuestionExample], tokenizer: Tokenizer
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of windows.

        Beside the inputs and targets: `starts`, `ends`, `tokens`, `is_best` [windows, length], as of
        `answers.AnswerWindows`, and `example` [windows], the number of the example. A window that does
        not hold the whole answer has the positions 0, [CLS].
        """
        chunks = []
        progress = ProgressLine(len(examples), "questions")
        for first in range(0, len(examples), _CHUNK):
            chunk = examples[first : first + _CHUNK]
            made = self.windows(
                tokenizer,
                tf.constant([example.question for example in chunk]),
                tf.constant([example.context for example in chunk]),
            )
            arrays = {
                name: getattr(made.windows, name).numpy()
                for name in ("input_ids", "segment_ids", "lengths", "tokens", "is_best")
            }
            text = made.windows.text.numpy()
            arrays |= {"starts": made.starts.numpy(), "ends": made.ends.numpy()}
            arrays["truncated"] = made.truncated.numpy()[text]
            arrays |= self._targets(chunk, text, arrays)
            arrays["example"] = first + text
            chunks.append(arrays)
            progress.update(first + len(chunk))
        progress.clear()
        # Each name's parts are let go when they are joined: all of them twice may be too much.
        names = list(chunks[0])
        return {name: np.concatenate([chunk.pop(name) for chunk in chunks]) for name in names}

    def _targets(
        self, examples: Sequence[QuestionExample], text: np.ndarray, arrays: Features
    ) -> dict[str, np.ndarray]:
        """Returns the first and the last token of the first answer in each window."""
        spans = np.array([(e.answers[0][1], e.answers[0][1] + len(e.answers[0][0]))
                          if e.answers else (0, 0) for e in examples])  # fmt: skip
        first, last = spans[text, 0, np.newaxis], spans[text, 1, np.newaxis]
        inside = (arrays["tokens"] >= 0) & (arrays["ends"] > first) & (arrays["starts"] < last)
        # How many tokens the answer has: each is in one window where it has most context.
        total = np.bincount(text, (inside & arrays["is_best"]).sum(axis=1), len(examples))
        whole = (inside.sum(axis=1) == total[text]) & (total[text] > 0)
        length = inside.shape[1]
        starts, ends = inside.argmax(axis=1), length - 1 - inside[:, ::-1].argmax(axis=1)
        impossible = np.array([example.is_impossible for example in examples])
        return {
            "start_positions": np.where(whole, starts, 0).astype(np.int32),
            "end_positions": np.where(whole, ends, 0).astype(np.int32),
            "is_impossible": impossible[text].astype(np.int32),
        }

    # --- outputs --------------------------------------------------------------------------------

    def make_head(self, encoder: EncoderConfig) -> ElectraAnswerHead | PlainAnswerHead:
        """Returns the head for an encoder."""
        kinds = {"electra": ElectraAnswerHead, "plain": PlainAnswerHead}
        return kinds[self.answer_head](encoder, self.beam_size)

    def decode(
        self, outputs: Mapping[str, tf.Tensor], made: answers.AnswerWindows, best: int = 1
    ) -> answers.Answers:
        """Returns the `best` answers to every question; prediction and serving call it."""
        return answers.decode(
            outputs, made, self.max_answer_length, self.answer_head == "plain", best
        )

    def _decode_all(
        self, outputs: Features, features: Features, number: int
    ) -> list[answers.Answers]:
        """Returns arrays of answers for the examples, in chunks."""
        chunks = []
        bounds = np.searchsorted(features["example"], range(0, number + _CHUNK, _CHUNK))
        for chunk, (first, last) in enumerate(itertools.pairwise(bounds)):
            rows = slice(first, last)
            text = features["example"][rows] - chunk * _CHUNK
            part = {name: tf.constant(values[rows]) for name, values in features.items()}
            size = min(_CHUNK, number - chunk * _CHUNK)
            made = answers.AnswerWindows(
                answers.Windows(
                    part["input_ids"],
                    part["segment_ids"],
                    part["lengths"],
                    tf.constant(text, tf.int32),
                    part["tokens"],
                    part["is_best"],
                ),
                part["starts"],
                part["ends"],
                tf.constant(np.bincount(text, minlength=size), tf.int32),
                part["truncated"],
            )
            scores = {name: tf.constant(values[rows]) for name, values in outputs.items()}
            decoded = self.decode(scores, made, _BEST)
            chunks.append(answers.Answers(*(value.numpy() for value in decoded)))
        return chunks

    def predictions(
        self, outputs: Features, features: Features, examples: Sequence[QuestionExample]
    ) -> list[dict[str, Any]]:
        """Returns the answers.

        Each has `answer`, the text ("" for none), its span `start`, `end` in the context (none without
        an answer), `null_odds`, and `best`, up to 20 texts with span, score and their probability
        among these. If some training questions had no answer, null odds above the threshold make it
        none; `best` says what it would be.
        """
        rows = []
        number = 0
        for chunk in self._decode_all(outputs, features, len(examples)):
            for first, last, scores, found, null_odds in zip(*chunk, strict=True):
                context = examples[number].context
                rows.append(self._prediction(context, first, last, scores, found, null_odds))
                number += 1
        return rows

    def _prediction(
        self,
        context: str,
        starts: np.ndarray,
        ends: np.ndarray,
        scores: np.ndarray,
        found: np.ndarray,
        null_odds: float,
    ) -> dict[str, Any]:
        best: dict[str, dict[str, Any]] = {}
        for start, end, score in zip(starts[found], ends[found], scores[found], strict=True):
            text = context[start:end]
            best.setdefault(
                text, {"text": text, "start": int(start), "end": int(end), "score": float(score)}
            )
        entries = list(best.values())
        weights = [math.exp(entry["score"] - entries[0]["score"]) for entry in entries]
        for entry, weight in zip(entries, weights, strict=True):
            entry["probability"] = weight / sum(weights)
        row: dict[str, Any] = {"answer": "", "null_odds": float(null_odds), "best": entries}
        if entries and not (self.has_impossible and null_odds > self.null_threshold):
            row |= {"answer": entries[0]["text"]}
            row |= {name: entries[0][name] for name in ("start", "end", "probability")}
        return row

    def evaluate(
        self, outputs: Features, features: Features, examples: Sequence[QuestionExample]
    ) -> dict[str, float]:
        """Returns the official scripts' figures, in percent; see metrics/squad.py.

        Where some of the examples have no answer they are SQuAD 2.0's, also of a model that knows no
        such questions and answers them all.
        """
        rows = self.predictions(outputs, features, examples)
        texts = {
            example.id: row["best"][0]["text"] if row["best"] else ""
            for example, row in zip(examples, rows, strict=True)
        }
        if not self.has_impossible and all(example.gold for example in examples):
            metrics = evaluate_v1(gold_articles(examples), texts)
        elif not self.has_impossible:
            metrics = evaluate_v2(gold_articles(examples), texts)
            metrics["exact_match"] = metrics["exact"]  # its name among this task's metrics
        else:
            odds = {e.id: row["null_odds"] for e, row in zip(examples, rows, strict=True)}
            metrics = evaluate_v2(gold_articles(examples), texts, odds, self.null_threshold)
        return {name: value for name, value in metrics.items() if name != "missing"}

    def failed(
        self, outputs: Features, features: Features, examples: Sequence[QuestionExample]
    ) -> bool:
        """Whether no question is answered right although some have an answer."""
        metrics = self.evaluate(outputs, features, examples)
        f1 = metrics.get("HasAns_f1", metrics["f1"])
        return f1 == 0 and any(example.gold for example in examples)

    # --- prediction's files ---------------------------------------------------------------------

    def read_inputs(self, options: InputOptions) -> list[QuestionExample]:
        """Reads a file of questions; answers need not be there."""
        return read_questions_to_answer(options)

    def write_submission(
        self,
        directory: str,
        split: str,
        examples: Sequence[QuestionExample],
        rows: Sequence[dict[str, Any]],
    ) -> str:
        """Writes predictions.json, of the best spans, and null_odds.json, as the official scripts
        take them.

        Raises:
            UserError: two questions have the same id, and the files a place for one.
        """
        if len({example.id for example in examples}) < len(examples):
            raise UserError("--submission_dir: the questions' ids are not all different")
        best = [row["best"][0]["text"] if row["best"] else "" for row in rows]
        named = {
            "predictions.json": best if self.has_impossible else [row["answer"] for row in rows],
            "null_odds.json": [row["null_odds"] for row in rows],
        }
        for name, values in named.items():
            content = {e.id: value for e, value in zip(examples, values, strict=True)}
            text = json.dumps(content, ensure_ascii=False) + "\n"
            write_whole(Path(directory) / name, text)
        return str(Path(directory) / "predictions.json")
