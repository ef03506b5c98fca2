"""The transformer encoder and the heads of generator and discriminator."""
