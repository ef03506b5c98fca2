"""Command-line tools that turn raw text into TFRecords for pre-training."""
