"""What a run writes for people: metrics.jsonl and TensorBoard summaries."""

import json
import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from electra_keras.console import UserError, reason
from electra_keras.files import write_whole


class SummaryWriter:
    """Writes the same numbers to `metrics.jsonl` and, as curves, to `logs/train` and `logs/validation`.

    Args:
        model_dir: the run directory.
        step: where the run continues; records of later steps, which a killed run wrote after its last
            checkpoint, are dropped.
    """

    def __init__(self, model_dir: Path, step: int) -> None:
        self.path = model_dir / "metrics.jsonl"
        self._drop_records_after(step)
        self._file = self.path.open("a", encoding="utf-8")
        for split in ("train", "validation"):
            _start_curves(model_dir / "logs" / split, step)
        self._writers = {
            split: tf.summary.create_file_writer(str(model_dir / "logs" / split))
            for split in ("train", "validation")
        }

    def _drop_records_after(self, step: int) -> None:
        """Drops what a killed run wrote after its last checkpoint, and lines that are no records."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                record = json.loads(line.decode("utf-8"))
                if record["step"] <= step:
                    kept.append(line + b"\n")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # the last line of a killed run, or a damaged one
        write_whole(self.path, b"".join(kept))

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {reason(error)}") from error

    def start(self, step: int, facts: dict[str, Any]) -> None:
        """Writes a record of a start of the run, of split "start": with which flags, where, when.

        Args:
            step: where the run goes on from.
            facts: what the record says.
        """
        self._write({"step": step, "split": "start", **facts})

    def scalars(self, split: str, step: int, metrics: dict[str, float]) -> None:
        """Writes one record: a JSON line, and a point of each curve. NaN is null and no point."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        record = {"step": step, "split": split}
        record |= {name: finite.get(name) for name in metrics}
        self._write(record)
        with self._writers[split].as_default(step=step):
            for name, value in finite.items():
                tf.summary.scalar(curve_name(name), value)

    def histograms(self, step: int, variables: list[keras.Variable]) -> None:
        """Writes the distribution of each variable's values."""
        with self._writers["train"].as_default(step=step):
            for variable in variables:
                tf.summary.histogram(variable.path, keras.ops.convert_to_numpy(variable))

    def verdicts(self, step: int, examples: list[list[dict[str, Any]]]) -> None:
        """Writes what `token_verdicts` returned as a text summary of the validation split."""
        with self._writers["validation"].as_default(step=step):
            tf.summary.text("corrupted examples", verdicts_markdown(examples))

    def flush(self) -> None:
        """Writes everything to disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        for writer in self._writers.values():
            writer.close()


def _start_curves(directory: Path, step: int) -> None:
    """Marks a start of the run: TensorBoard forgets points after the step of all but the first."""
    writer = EventFileWriter(str(directory))
    writer.add_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
    writer.close()


def curve_name(metric: str) -> str:
    """Returns a metric's name in TensorBoard, which groups by what stands before the slash."""
    network, _, rest = metric.partition("_")
    return f"{network}/{rest}" if network in ("generator", "discriminator") else f"run/{metric}"


def verdicts_markdown(examples: list[list[dict[str, Any]]]) -> str:
    """Returns examples as Markdown, with the discriminator's verdict on each token.

    Args:
        examples: as `token_verdicts` returns them.
    """

    def escaped(text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]()#+.!|~-])", r"\\\1", text).replace("<", "&lt;")

    lines = [
        "**bold**: marked as replaced (as many as were, the likeliest first, with the probability); "
        "*(was ...)*: what a replaced token was",
        "",
    ]
    for tokens in examples:
        words = []
        for token in tokens:
            text = escaped(token["text"])
            if token["marked"]:
                text = f"**{text}** {token['probability']:.0%}"
            if token["replaced"]:
                text += f" *(was {escaped(token['original'])})*"
            words.append(text)
        found = sum(token["marked"] and token["replaced"] for token in tokens)
        count = sum(token["replaced"] for token in tokens)
        lines += [f"{' '.join(words)} — {found} of {count} found", ""]
    return "\n".join(lines)


def token_verdicts(
    examples: dict[str, np.ndarray], tokens: list[str]
) -> list[list[dict[str, Any]]]:
    """Returns each example's tokens with what they were and the discriminator's verdict.

    Args:
        examples: `input_ids`, `input_mask`, `corrupted_ids`, `discriminator_logits`, all
            [batch, length] (`Evaluator.examples`).
        tokens: the vocabulary.

    Returns:
        for each example its tokens as dictionaries of `text`, `original`, `replaced`, `probability`
        and `marked`: as many tokens are marked as were replaced, those with the highest
        probability, so that a model whose probabilities stay under one half shows what it learned.
    """
    with np.errstate(over="ignore"):
        probabilities = 1 / (1 + np.exp(-examples["discriminator_logits"].astype(np.float64)))
    columns = (examples["input_ids"], examples["corrupted_ids"], examples["input_mask"])
    verdicts = []
    for rows in zip(*columns, probabilities, strict=True):
        example = [
            {
                "text": tokens[corrupted],
                "original": tokens[original],
                "replaced": bool(corrupted != original),
                "probability": float(probability),
            }
            for original, corrupted, real, probability in zip(*rows, strict=True)
            if real
        ]
        count = sum(token["replaced"] for token in example)
        ranked = sorted(example, key=lambda token: -token["probability"])
        for rank, token in enumerate(ranked):
            token["marked"] = rank < count
        verdicts.append(example)
    return verdicts
