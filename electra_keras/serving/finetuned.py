"""Exports of fine-tuned models, and the signatures of classifiers and regressors."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from electra_keras.console import UsageError, UserError
from electra_keras.interop.weights import check_finite
from electra_keras.serving import networks, quantization
from electra_keras.serving.encoding import TextEncoder, choose_buckets
from electra_keras.serving.signatures import (
    ID_INPUTS,
    PAIR_INPUTS,
    TEXT_INPUTS,
    Outputs,
    Request,
    Servable,
    Signature,
    pad_ids,
    pair_request,
    text_request,
)
from electra_keras.serving.windowed import AnswerSignatures, TagSignatures
from electra_keras.tasks import running
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.registry import family_of_settings
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, run_directory


def make_servable(
    model_dir: Path,
    which: str = "best",
    buckets: Sequence[str] | None = None,
    precision: str = "float32",
    quantize: str = "none",
) -> Servable:
    """Builds what is exported of a fine-tuned model.

    Args:
        model_dir: a run directory of electra_keras.finetune, with a task.json.
        which: its checkpoint, as in `checkpoints.find_checkpoint`.
        buckets: the values of --sequence_buckets, or None for the default ones.
        precision: "float32" or "mixed_bfloat16", what encoder and head compute in.
        quantize: "int8" to store large weights so, or "none".

    Raises:
        UsageError: impossible buckets.
        UserError: a damaged directory, or one of a task that has no signatures.
    """
    where = str(model_dir / run_directory.TASK_FILE)
    try:
        family = _SIGNATURES[family_of_settings(run_directory.read_task(model_dir), where)]
    except (UsageError, KeyError) as error:
        raise UserError(
            f"{where} is of no task of this library: it is damaged, or of a task of your own, whose "
            "models cannot be exported"
        ) from error
    with networks.precision(precision):
        model, task, tokenizer = running.load_finetuned(model_dir, which)
    config = dataclasses.replace(model.config, max_seq_length=task.max_seq_length)
    sizes = choose_buckets(config, buckets)
    if sizes[-1] != task.max_seq_length:
        raise UsageError(
            f"--sequence_buckets={','.join(buckets)} must end with {task.max_seq_length}, the length "
            f"that {model_dir} was fine-tuned with: there, texts are cut"
        )
    layers = [model.encoder, model.head]
    checkpoint = checkpoints.find_checkpoint(model_dir, which)
    arrays = {v.path: v.numpy().astype("float32") for layer in layers for v in layer.weights}
    check_finite(arrays, str(checkpoint))
    if quantize == "int8":
        quantization.quantize(layers)
    encoder = TextEncoder(tokenizer, sizes)
    signatures = family(model, task, encoder).all()
    settings = {
        "source": str(checkpoint),
        "step": checkpoints.read_state(checkpoint)["step"],
        "task": json.loads(task.to_json()),
        "precision": precision,
        "quantize": quantize,
        "lower_case": tokenizer.lower_case,
        "strip_accents": tokenizer.strip_accents,
        "vocab_sha256": tokenizer.vocabulary.sha256,
    }
    vocabulary = tokenizer.vocabulary
    return Servable(signatures, signatures[0].name, layers, vocabulary, encoder, settings)


class _Tokenizer(NamedTuple):
    """What a task's `encode` asks of a tokenizer, as one graph for all calls."""

    vocabulary: Vocabulary
    encoder: TextEncoder
    whole: bool

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns token ids, int32 [n, (tokens)]."""
        return self.encoder.token_ids(texts, self.whole)


class ClassificationSignatures:
    """The signatures of a classifier (`classify`) or a regressor (`regress`).

    Args:
        model: fine-tuned.
        task: what it was fine-tuned for; its own `encode` makes the inputs, as in training.
        encoder: tells the buckets.
    """

    def __init__(self, model: FineTuner, task: ClassificationTask, encoder: TextEncoder) -> None:
        self.model, self.task, self.encoder = model, task, encoder
        # The end of a long text is read only if some of it stays.
        whole = task.truncation != "head"
        self.tokenizer = _Tokenizer(encoder.tokenizer.vocabulary, encoder, whole)
        self.labels = tf.constant(task.labels, tf.string)
        # Its own function: both signatures use it, and the export holds its graph once.
        self._outputs = tf.function(
            self._network,
            input_signature=[tf.TensorSpec([None, None], tf.int32)] * 3,
            autograph=False,
        )

    def all(self) -> list[Signature]:
        """Returns the signatures; the first is the natural default."""
        name = "regress" if self.task.kind == "regression" else "classify"
        request = pair_request if self.task.pairs else text_request

        def ids(texts: Sequence[str]) -> Request:
            inputs, _ = self.encode(**{k: tf.constant(v) for k, v in request(texts).items()})
            return {key: value.numpy() for key, value in zip(ID_INPUTS, inputs, strict=True)}

        inputs = PAIR_INPUTS if self.task.pairs else TEXT_INPUTS
        return [
            Signature(name, inputs, self.of_text, request),
            Signature(f"{name}_ids", ID_INPUTS, self.of_ids, ids),
        ]

    def encode(
        self, text: tf.Tensor, text_pair: tf.Tensor | None = None
    ) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns ids, mask and segments, int32 [batch, bucket], and `truncated` bool [batch]."""
        packed = self.task.encode(self.tokenizer, text, text_pair)
        bucket = self.encoder.bucket(tf.reduce_max(packed.lengths))
        mask = tf.sequence_mask(packed.lengths, bucket, tf.int32)
        inputs = (packed.input_ids[:, :bucket], mask, packed.segment_ids[:, :bucket])
        return inputs, packed.truncated

    def of_text(self, text: tf.Tensor, text_pair: tf.Tensor | None = None) -> Outputs:
        """Returns `of_outputs` of texts, or of pairs, [batch], and `truncated` bool [batch]."""
        inputs, truncated = self.encode(text, text_pair)
        return self.of_outputs(self._outputs(*inputs)) | {"truncated": truncated}

    def of_ids(self, **ids: tf.Tensor) -> Outputs:
        """Returns the same of token ids, [CLS] and [SEP] among them."""
        padded = pad_ids(self.encoder, **ids)
        return self.of_outputs(self._outputs(*padded.inputs)) | {"truncated": padded.truncated}

    def of_outputs(self, outputs: tf.Tensor) -> Outputs:
        """Says what the head's outputs [batch, classes] mean; `ClassificationTask.predictions` in the
        graph.

        Returns:
            Of a regressor `score` float32 [batch]. Of a classifier `labels` string [batch, classes]
            and `probabilities` float32 [batch, classes]; and the best one, `label` and `probability`
            [batch], or, where a text may have any number of labels, the `chosen` ones, string
            [batch, classes], the first `length` int32 [batch] of which are real.
        """
        if self.task.kind == "regression":
            low, high = self.task.label_range
            return {"score": outputs[:, 0] * (high - low) + low}
        answer = {"labels": tf.broadcast_to(self.labels, tf.shape(outputs))}
        if self.task.kind == "single_label":
            probabilities = tf.nn.softmax(outputs)
            best = {
                "label": tf.gather(self.labels, tf.argmax(outputs, axis=1)),
                "probability": tf.reduce_max(probabilities, axis=1),
            }
            return answer | {"probabilities": probabilities} | best
        chosen = outputs > 0
        # The chosen labels first; the order of the labels stays.
        order = tf.argsort(tf.cast(~chosen, tf.int32), axis=1, stable=True)
        names = tf.where(chosen, self.labels, "")
        return answer | {
            "probabilities": tf.sigmoid(outputs),
            "chosen": tf.gather(names, order, batch_dims=1),
            "length": tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1),
        }

    def _network(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor
    ) -> tf.Tensor:
        """Returns the head's float32 outputs [batch, classes]."""
        batch = {
            "input_ids": input_ids,
            "segment_ids": segment_ids,
            "lengths": tf.reduce_sum(input_mask, axis=1),
        }
        return self.model.head(self.model.encoder(input_ids, input_mask, segment_ids), batch)


_SIGNATURES = {
    ClassificationTask: ClassificationSignatures,
    QuestionAnsweringTask: AnswerSignatures,
    TaggingTask: TagSignatures,
}
