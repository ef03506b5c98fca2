"""What a signature refuses before the networks see it."""

import pytest
import tensorflow as tf

from electra_keras.serving.encoding import TextEncoder
from electra_keras.serving.signatures import (
    ID_INPUTS,
    QUESTION_INPUTS,
    Signature,
    checked,
    pad_ids,
)
from electra_keras.text.tokenizer import Tokenizer
from tests.interop.models import VOCABULARY


def sizes(**inputs):
    return {key: tf.strings.length(value) for key, value in inputs.items()}


def graph(reads_all, max_text_bytes):
    signature = Signature("x", QUESTION_INPUTS, sizes, list, reads_all)
    return tf.function(checked(signature, max_text_bytes)).get_concrete_function(**QUESTION_INPUTS)


def test_texts_that_belong_together_are_equally_many():
    function = graph(False, 10)
    two = function(question=tf.constant(["a", "bc"]), context=tf.constant(["", "x" * 100]))
    assert two["context"].numpy().tolist() == [0, 100]
    none = tf.constant([], tf.string)
    assert function(question=none, context=none)["question"].shape == (0,)
    for context in ([], ["x", "y", "z"]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be equally many"):
            function(question=tf.constant(["a"]), context=tf.constant(context, tf.string))


def test_texts_that_are_read_to_the_end_are_bounded():
    function = graph(True, 10)
    fits = {"question": tf.constant(["abc"]), "context": tf.constant(["1234567"])}
    assert function(**fits)["context"].numpy() == [7]
    fits["context"] = tf.constant(["1234567é"])
    assert graph(True, 0)(**fits)["context"].numpy() == [9]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"10 bytes \(--max_text_bytes\)"):
        function(**fits)


def test_a_mask_is_of_zeros_and_ones():
    encoder = TextEncoder(Tokenizer(VOCABULARY, True, True), [8, 16])
    ids = {key: tf.constant([[2, 7, 3, 0]]) for key in ID_INPUTS}
    ids |= {"segment_ids": tf.zeros([1, 4], tf.int32), "input_mask": tf.constant([[1, 1, 1, 0]])}
    assert pad_ids(encoder, **ids).inputs[1].numpy().tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    for wrong in (2, -1, 1 << 30):
        ids["input_mask"] = tf.constant([[1, 1, wrong, 0]])
        with pytest.raises(tf.errors.InvalidArgumentError, match="input_mask must be 0 or 1"):
            pad_ids(encoder, **ids)
