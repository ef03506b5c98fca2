"""Scores of fine-tuned models: pure functions of gold labels and predictions, without TensorFlow."""
