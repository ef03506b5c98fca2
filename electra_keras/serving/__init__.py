"""Exported models: SavedModels over raw text for TensorFlow Serving, and a client for it."""
