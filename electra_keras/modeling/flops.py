"""How many floating-point operations a training step takes, for the model FLOPs utilisation."""

from electra_keras.config import ElectraConfig, EncoderConfig


def encoder_flops(config: EncoderConfig, length: int) -> int:
    """Returns the forward matrix-product operations of one example (a multiply-add is two)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    projections = 4 * hidden * hidden + 2 * hidden * inner
    attention = 2 * length * hidden  # scores and weighted sum
    per_token = config.num_hidden_layers * 2 * (projections + attention)
    if config.embedding_size != hidden:
        per_token += 2 * config.embedding_size * hidden
    return length * per_token


def training_flops(config: ElectraConfig) -> int:
    """Returns the operations of one example's training step: three times the forward pass."""
    length, predictions = config.max_seq_length, config.max_predictions_per_seq
    generator, discriminator = config.generator, config.discriminator
    forward = encoder_flops(generator, length) + encoder_flops(discriminator, length)
    head = generator.embedding_size * (generator.hidden_size + generator.vocab_size)
    forward += 2 * predictions * head
    forward += 2 * length * (discriminator.hidden_size**2 + discriminator.hidden_size)
    return 3 * forward
