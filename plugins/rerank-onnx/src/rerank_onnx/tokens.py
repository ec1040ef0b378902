"""The tokenizer of a graph: the ``tokenizer.json`` beside it."""

from __future__ import annotations

from tokenizers import Tokenizer

from rerank import FastTokens, reads_segments
from rerank_onnx.checkpoint import Checkpoint, DamagedCheckpointError


def load_tokens(checkpoint: Checkpoint) -> FastTokens:
    """Read a checkpoint's ``tokenizer.json`` unchanged.

    Raises:
        DamagedCheckpointError: The file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DamagedCheckpointError(
            f"{checkpoint.tokenizer} is not a tokenizer ({error}): fetch the checkpoint again"
        ) from error
    return FastTokens(tokenizer, segments=reads_segments(checkpoint.tokenizer_config))
