"""Fine-tuning: one module per family of tasks, and what scores them."""
