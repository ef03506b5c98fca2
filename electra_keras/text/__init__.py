"""Text to token ids: vocabulary and tokenizer."""
