"""Loads a .keras file as another process would; prints the sum of the squares of all its weights.

python -m tests.load_saved FILE
"""

import sys

import keras

import electra_keras.models  # noqa: F401  (registers the layers)

if __name__ == "__main__":
    model = keras.models.load_model(sys.argv[1])
    print(sum(float(keras.ops.sum(variable * variable)) for variable in model.weights))
