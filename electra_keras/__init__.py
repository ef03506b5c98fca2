"""ELECTRA in Keras 3 on TensorFlow: from raw text to a trained, served encoder."""

__version__ = "0.1.0"
