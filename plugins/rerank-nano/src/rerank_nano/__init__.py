"""The embedded default model: a small English encoder, int8, with its weights in the wheel."""
