"""Reading what tasks are fine-tuned and scored on: files become lists of examples; pure Python."""
