"""Forward passes over one padded batch, one module per kind of model; imported when a model loads."""
