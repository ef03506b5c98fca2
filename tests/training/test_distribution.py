"""What a run sets for the whole process."""

import keras
import tensorflow as tf

from electra_keras.options import RunOptions
from electra_keras.training import distribution


def test_precision():
    distribution.set_precision(RunOptions(precision="mixed_bfloat16", allow_tf32=False))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    distribution.set_precision(RunOptions())
    assert keras.config.dtype_policy().name == "float32"
    assert tf.config.experimental.tensor_float_32_execution_enabled()
