"""TFRecords: their schema and the pipelines that read them."""
