"""Weights in and out: the original's checkpoints, Hugging Face directories, keras-hub presets."""
