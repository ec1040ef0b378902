"""Sequence-classification cross-encoders on torch: the backend ``cross-encoder``."""
