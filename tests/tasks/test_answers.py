"""Answers: targets and offsets on hostile text, the choice over windows, both heads."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from electra_keras.config import EncoderConfig
from electra_keras.console import UserError
from electra_keras.modeling.layers import DropoutNoise
from electra_keras.tasks import answers
from electra_keras.tasks.answer_heads import ElectraAnswerHead, PlainAnswerHead
from electra_keras.tasks.data.examples import QuestionExample
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-", "é", "東", "京", "한"]
VOCABULARY = Vocabulary(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *("##" + c for c in LETTERS)]
)
TOKENIZER = Tokenizer(VOCABULARY)


def make_task(**values):
    options = TaskOptions(
        task="question_answering",
        **({"max_seq_length": 24, "max_query_length": 6, "stride": 7} | values),
    )
    return QuestionAnsweringTask.of_data(options, [QuestionExample("0", "q", "c", (("c", 0),))])


def perfect_outputs(features, beam=3):
    """What a head would say that is sure of the gold positions; [CLS] where there is no answer."""
    rows = len(features["lengths"])
    starts = np.zeros((rows, beam), np.int32)
    starts[:, 0] = features["start_positions"]
    ends = np.zeros((rows, beam, beam), np.int32)
    ends[:, :, 0] = features["end_positions"][:, np.newaxis]
    scores = np.full((rows, beam), -9.0, np.float32)
    scores[:, 0] = -0.1
    end_scores = np.full((rows, beam, beam), -9.0, np.float32)
    end_scores[:, :, 0] = -0.1
    return {
        "start_scores": scores, "starts": starts, "end_scores": end_scores, "ends": ends,
        "null_scores": np.arange(rows, dtype=np.float32),
    }  # fmt: skip


CHARACTERS = st.sampled_from(
    [*"abcxyz09 .,!?'-\n\r\t", "é", "e\u0301", "東", "한", "😀", "\u200d", "ß", "İ"]
)
CONTEXTS = st.lists(CHARACTERS, min_size=1, max_size=60).map("".join)


@settings(max_examples=150, deadline=None)
@given(CONTEXTS, st.data())
def test_a_predicted_span_is_the_exact_text(context, data):
    """Accents, CJK, emoji, CRLF: gold characters -> tokens -> the same characters.

    What no token comes from (spaces, emoji's joiners) may be missing at the edges.
    """
    start = data.draw(st.integers(0, len(context) - 1))
    # Windows of 17 tokens, 7 apart: what has up to 11 lies in one of them as a whole.
    end = data.draw(st.integers(start + 1, min(len(context), start + 11)))
    gold = context[start:end]
    task = make_task()
    example = QuestionExample("0", "who?", context, ((gold, start),), (gold,))
    features = task.features([example], TOKENIZER)
    (row,) = task.predictions(perfect_outputs(features), features, [example])
    _, starts, ends = TOKENIZER.tokenize_with_offsets([context])
    inside = [
        (a, b)
        for a, b in zip(starts.flat_values.numpy(), ends.flat_values.numpy(), strict=True)
        if b > start and a < end
    ]
    if not inside:
        assert row["answer"] == ""
        return
    assert (row["start"], row["end"]) == (inside[0][0], inside[-1][1])
    assert row["answer"] == context[row["start"] : row["end"]]
    assert not gold[: max(0, row["start"] - start)].strip("\u200d\n\r\t ")


def test_long_contexts_have_targets_in_the_windows_that_hold_the_answer():
    context = " ".join("abcdefghijklmnopqrstuvwxyz" * 3)
    start = context.index("u v w")
    example = QuestionExample("0", "who", context, (("u v w", start),), ("u v w",))
    task = make_task()
    features = task.features([example], TOKENIZER)
    assert len(features["lengths"]) > 3
    with_answer = features["start_positions"] > 0
    assert with_answer.any() and not with_answer.all()
    for row in np.flatnonzero(with_answer):
        first, last = features["start_positions"][row], features["end_positions"][row]
        assert context[features["starts"][row, first] : features["ends"][row, last]] == "u v w"
    np.testing.assert_array_equal(features["end_positions"][~with_answer], 0)


def test_impossible_spans_are_not_chosen():
    """Too long, backwards, in the question, and without most context: against a plain search."""
    rng = np.random.default_rng(0)
    contexts = [" ".join(rng.choice(list("abcdefgh"), size)) for size in (3, 30, 50)]
    task = make_task(max_answer_length=4)
    examples = [QuestionExample(str(i), "who", context) for i, context in enumerate(contexts)]
    features = task.features(examples, TOKENIZER)
    rows, beam = len(features["lengths"]), 7
    outputs = {
        "start_scores": rng.normal(size=(rows, beam)).astype(np.float32),
        "starts": rng.integers(0, 24, (rows, beam)).astype(np.int32),
        "end_scores": rng.normal(size=(rows, beam, beam)).astype(np.float32),
        "ends": rng.integers(0, 24, (rows, beam, beam)).astype(np.int32),
        "null_scores": rng.normal(size=rows).astype(np.float32),
    }
    predicted = task.predictions(outputs, features, examples)
    answered = 0
    for number, row in enumerate(predicted):
        candidates = []
        for w in np.flatnonzero(features["example"] == number):
            for i in range(beam):
                for j in range(beam):
                    s, e = outputs["starts"][w, i], outputs["ends"][w, i, j]
                    fine = features["is_best"][w, s] and features["tokens"][w, e] >= 0
                    if fine and 0 <= e - s < 4:
                        score = outputs["start_scores"][w, i] + outputs["end_scores"][w, i, j]
                        span = (features["starts"][w, s], features["ends"][w, e])
                        candidates.append((score, *span))
        if not candidates:
            assert row["answer"] == "" and row["best"] == []
            continue
        answered += 1
        score, start, end = max(candidates)
        assert (row["start"], row["end"]) == (start, end)
        assert row["best"][0]["score"] == pytest.approx(score)
        mine = features["example"] == number
        assert row["null_odds"] == pytest.approx(outputs["null_scores"][mine].min())
        assert sum(entry["probability"] for entry in row["best"]) == pytest.approx(1)
    assert answered == 2


def test_the_threshold_withholds_answers():
    example = QuestionExample("0", "who", "a b c", (("b", 2),), ("b",))
    impossible = QuestionExample("1", "who", "a b c", is_impossible=True)
    options = TaskOptions(
        task="question_answering", max_seq_length=24, max_query_length=6, null_threshold=0.5
    )
    task = QuestionAnsweringTask.of_data(options, [example, impossible])
    assert task.has_impossible and task.metrics[0] == "best_f1"
    features = task.features([example, impossible], TOKENIZER)
    outputs = perfect_outputs(features)  # null scores 0 and 1
    first, second = task.predictions(outputs, features, [example, impossible])
    assert first["answer"] == "b" and second["answer"] == ""
    metrics = task.evaluate(outputs, features, [example, impossible])
    assert metrics["exact"] == metrics["best_f1"] == metrics["NoAns_exact"] == 100


ENCODER = EncoderConfig(
    vocab_size=len(VOCABULARY), embedding_size=8, hidden_size=8, num_hidden_layers=1,
    num_attention_heads=1, intermediate_size=16, max_position_embeddings=32,
)  # fmt: skip


def random_batch(rows=3, length=12):
    rng = np.random.default_rng(1)
    segments = np.zeros((rows, length), np.int32)
    segments[:, 4:10] = 1
    return {
        "hidden": tf.constant(rng.normal(size=(rows, length, 8)).astype(np.float32)),
        "segment_ids": tf.constant(segments),
        "lengths": tf.fill([rows], 10),
        "start_positions": tf.constant([0, 5, 6]),
        "end_positions": tf.constant([0, 7, 6]),
        "is_impossible": tf.constant([1, 0, 0]),
    }


def test_the_electra_head_is_the_originals():
    """The loss and the beam, computed by numpy from one concatenated kernel as qa_tasks.py has it."""
    keras.utils.set_random_seed(3)
    head, batch = ElectraAnswerHead(ENCODER, 2), random_batch()
    hidden = batch["hidden"].numpy()
    weights = {w.path.removeprefix("task_head/"): np.array(w) for w in head.weights}
    mask = np.concatenate(
        [np.ones((3, 1)), batch["segment_ids"].numpy()[:, 1:]], axis=1
    )  # [CLS] and segment 1

    def dense(name, x):
        return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0)

    def gelu(x):
        return np.array(tf.nn.gelu(x.astype(np.float32), approximate=False))

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    kernel = np.concatenate([weights["end_start_dense/kernel"], weights["end_token_dense/kernel"]])

    def end_log_probs(starts):
        of_start = hidden[np.arange(3), starts][:, np.newaxis].repeat(hidden.shape[1], axis=1)
        both = np.concatenate([of_start, hidden], axis=-1)
        inner = gelu(both @ kernel + weights["end_token_dense/bias"])
        return log_softmax(dense("end_dense", inner)[..., 0] + 1000 * (mask - 1))

    start_logits = dense("start_dense", hidden)[..., 0] + 1000 * (mask - 1)
    start_log_probs = log_softmax(start_logits)
    feature = np.einsum("bl,blh->bh", np.exp(start_log_probs), hidden)
    null = dense(
        "answerable_dense",
        gelu(dense("answerable_hidden_dense", np.concatenate([hidden[:, 0], feature], -1))),
    )[:, 0]
    rows, starts, ends = np.arange(3), [0, 5, 6], [0, 7, 6]
    labels = np.array([1, 0, 0])
    expected = (
        -start_log_probs[rows, starts] / 2
        - end_log_probs(starts)[rows, ends] / 2
        + 0.5 * (np.log1p(np.exp(-np.abs(null))) + np.maximum(null, 0) - null * labels)
    )
    loss = head.loss(batch["hidden"], batch, DropoutNoise(tf.constant([1, 2])))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)

    outputs = head(batch["hidden"], batch)
    order = np.argsort(-start_log_probs, axis=1)[:, :2]
    np.testing.assert_array_equal(outputs["starts"], order)
    for beam in range(2):
        log_probs = end_log_probs(order[:, beam])
        best = np.sort(log_probs, axis=1)[:, ::-1][:, :2]
        np.testing.assert_allclose(outputs["end_scores"][:, beam], best, atol=1e-4)
    np.testing.assert_allclose(outputs["null_scores"], null, atol=1e-5)


def test_the_plain_head_is_two_logits():
    keras.utils.set_random_seed(3)
    head, batch = PlainAnswerHead(ENCODER, 2), random_batch()
    kernel = np.array(head.output_dense.kernel)
    logits = batch["hidden"].numpy() @ kernel
    outputs = head(batch["hidden"], batch)
    np.testing.assert_allclose(outputs["null_scores"], logits[:, 0].sum(axis=1), atol=1e-5)
    allowed = logits[:, [0, *range(4, 10)]]
    np.testing.assert_allclose(
        outputs["start_scores"][:, 0], allowed[..., 0].max(axis=1), atol=1e-5
    )
    losses = head.loss(batch["hidden"], batch, None)
    real = logits[:, :10]
    expected = [
        np.mean([
            np.log(np.exp(real[row, :, k]).sum()) - real[row, position, k]
            for k, position in enumerate(positions)
        ])
        for row, positions in enumerate([(0, 0), (5, 7), (6, 6)])
    ]  # fmt: skip
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_chosen_span_does_not_depend_on_the_padding():
    """A head's outputs of shorter batches are padded with zeros, which must never win."""
    example = QuestionExample("0", "who", "a b c")
    task = make_task()
    features = task.features([example], TOKENIZER)
    position = np.array([6])
    outputs = perfect_outputs(features | {"start_positions": position, "end_positions": position})
    padded = {
        name: np.pad(values, [(0, 0)] + [(0, 4)] * (values.ndim - 1))
        for name, values in outputs.items()
    }
    ours, theirs = (task.predictions(o, features, [example])[0] for o in (outputs, padded))
    assert ours["answer"] and ours == theirs


def squad_file(path, *questions):
    qas = [
        {"id": str(number), "question": "who", "is_impossible": answer is None,
         "answers": [{"text": answer, "answer_start": 2}] if answer else []}
        for number, answer in enumerate(questions)
    ]  # fmt: skip
    data = [{"title": "", "paragraphs": [{"context": "a b c", "qas": qas}]}]
    path.write_text(json.dumps({"data": data}))
    return str(path)


def test_no_dev_question_vanishes_from_a_score(tmp_path, caplog):
    """The figures of evaluate-v2.0.py: a model without impossible questions answers them all."""
    task = make_task()
    assert not task.has_impossible
    dev = squad_file(tmp_path / "dev.json", "b", None, "b", None)
    options = TaskOptions(task="question_answering", dev_file=dev)
    with caplog.at_level("WARNING"):
        examples = QuestionAnsweringTask.read(options, "dev", task)
    assert [example.id for example in examples] == ["0", "1", "2", "3"]
    assert "2 of 4 dev questions have no answer, which counts as an error" in caplog.text
    features = task.features(examples, TOKENIZER)
    position = np.full(4, features["tokens"][0].tolist().index(1))
    outputs = perfect_outputs(features | {"start_positions": position, "end_positions": position})
    metrics = task.evaluate(outputs, features, examples)
    assert {row["answer"] for row in task.predictions(outputs, features, examples)} == {"b"}
    assert metrics["exact_match"] == metrics["exact"] == metrics["f1"] == 50.0
    assert (metrics["NoAns_exact"], metrics["HasAns_exact"], metrics["total"]) == (0.0, 100.0, 4)
    assert set(task.metrics) <= set(metrics)
    assert not task.failed(outputs, features, examples)


def test_what_cannot_be_scored_is_counted(tmp_path, caplog):
    document = json.loads(Path(squad_file(tmp_path / "dev.json", "b", "b")).read_text())
    qas = document["data"][0]["paragraphs"][0]["qas"]
    del qas[1]["answers"]
    (tmp_path / "dev.json").write_text(json.dumps(document))
    options = TaskOptions(task="question_answering", dev_file=str(tmp_path / "dev.json"))
    with caplog.at_level("WARNING"):
        assert len(QuestionAnsweringTask.read(options, "dev", make_task())) == 1
    assert "1 of 2 dev questions are left out of the score: nothing is said" in caplog.text
    del qas[0]["answers"]
    (tmp_path / "dev.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="no answers to compare with"):
        QuestionAnsweringTask.read(options, "dev", make_task())


def test_impossible_questions_that_are_held_out_belong_to_the_task(tmp_path):
    options = TaskOptions(task="question_answering", train_file=str(tmp_path / "x"))
    possible, impossible = QuestionExample("0", "who", "a"), QuestionExample("1", "?", "a")
    impossible = dataclasses.replace(impossible, is_impossible=True)
    assert not QuestionAnsweringTask.of_data(options, [possible]).has_impossible
    assert QuestionAnsweringTask.of_data(options, [possible], [impossible]).has_impossible


def test_training_needs_an_answer_to_learn_from():
    lost = QuestionExample("0", "who", "a b c", gold=("d",))
    options = TaskOptions(task="question_answering")
    with pytest.raises(UserError, match="no training question has an answer"):
        make_task().training_examples(options, [lost])


def test_a_submission_needs_different_ids(tmp_path):
    examples = [QuestionExample("0", question, "a b c") for question in ("who", "where")]
    rows = [{"answer": "a", "null_odds": 0.0, "best": [{"text": "a"}]}] * 2
    with pytest.raises(UserError, match="ids are not all different"):
        make_task().write_submission(str(tmp_path), "test", examples, rows)
    assert not list(tmp_path.iterdir())


def test_a_context_without_tokens_is_one_window():
    made = answers.make_windows(TOKENIZER, tf.constant(["who"]), tf.constant([""]), 16, 4, 8)
    assert made.count.numpy().tolist() == [1] and made.windows.tokens.numpy().max() == -1


def test_the_head_looks_at_one_start_at_a_time():
    """All at once take beam_size times the memory, and so would a loop that runs ahead."""
    encoder = EncoderConfig(9, 8, 8, 1, 2, 8)
    head = ElectraAnswerHead(encoder, beam_size=4)
    batch = {name: tf.ones([2, 6], tf.int32) for name in ("input_ids", "segment_ids")}
    batch["lengths"] = tf.constant([6, 4])
    call = tf.function(lambda hidden: head(hidden, batch))
    graph = call.get_concrete_function(tf.TensorSpec([2, 6, 8])).graph
    loops = [op for op in graph.get_operations() if "While" in op.type]
    assert [op.get_attr("parallel_iterations") for op in loops] == [1]
