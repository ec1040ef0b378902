"""The tokenizer of a graph: the ``tokenizer.json`` beside it."""

from __future__ import annotations

from rerank import FastTokens, ModelLoadError, reads_segments
from rerank_onnx.checkpoint import Checkpoint, DamagedCheckpointError


def load_tokens(checkpoint: Checkpoint) -> FastTokens:
    """Read a checkpoint's ``tokenizer.json`` unchanged.

    Raises:
        DamagedCheckpointError: The file is not a tokenizer.
    """
    try:
        return FastTokens.read(checkpoint.tokenizer, segments=reads_segments(checkpoint.tokenizer_config))
    except ModelLoadError as error:
        raise DamagedCheckpointError(str(error)) from error
