"""Replaced-token detection: masking, losses and the keras.Model that trains both networks."""
