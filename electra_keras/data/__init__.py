"""TFRecords of pre-training examples: schema, metadata, input pipeline."""
