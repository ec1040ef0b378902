"""The scorer: texts to token ids, pairs to rows, rows through the model, values to documents."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from rerank import (
    GroupScorer,
    ModelRef,
    Options,
    PairRows,
    Request,
    Scores,
    TokenLimits,
    aggregate,
    find_pad_id,
    pair_rows,
    query_limit,
    read_tokenizer_config,
)
from rerank_crossencoder.activation import calibrate, saved_activation
from rerank_crossencoder.encoder import Encoder
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding, Row
from rerank_torch.runner import Runner
from rerank_torch.tokens import load_tokens

logger = logging.getLogger(__name__)


class CrossEncoder(GroupScorer):
    """Scores pairs with a sequence-classification model: one output is the logit, two give the log-odds.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it.
    """

    def __init__(self, model: ModelRef, options: CrossEncoderOptions) -> None:
        config = load_config(model, options).to_dict()
        tokenizer_config = {**read_tokenizer_config(model), **options.tokenizer_kwargs}
        self.name = model.name
        self.activation = saved_activation(model)
        self.tokens = load_tokens(model, options)
        self.layout = self.tokens.pair_layout()
        pad_id = find_pad_id(self.tokens, config, tokenizer_config)
        self.limits = TokenLimits.read(config, tokenizer_config, pad_id)
        self.limits.of_row(options.max_length)
        start = partial(Encoder, model=model, options=options, types=self.layout.types, pad_id=pad_id)
        self.runner = Runner(start, options, Padding(pad_id))

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, CrossEncoderOptions)
        pairs = self._encode(requests, options)
        rows = [self._row(ids, one) for one in pairs for ids in one.rows]
        values = (float(value) for value in self.runner(rows, options))
        for one in pairs:
            yield Scores(
                values=aggregate([next(values) for _ in one.rows], one.owners, options.aggregate),
                scale="logit",
                diagnostics={"truncated": one.truncated, "query_truncated": one.query_truncated},
            )

    def _encode(self, requests: Sequence[Request], options: CrossEncoderOptions) -> list[PairRows]:
        """Every text in one tokenizer call, then the rows of each request."""
        max_length = self.limits.of_row(options.max_length)
        encoded = iter(self.tokens([text for request in requests for text in _texts(request, options)]))
        pairs = []
        for request in requests:
            query = next(encoded)
            one = pair_rows(
                query,
                [next(encoded) for _ in request.documents],
                self.layout,
                options,
                max_length=max_length,
                query_max_length=query_limit(options.query_max_length, max_length),
            )
            if one.query_truncated:
                logger.warning(
                    "a query of %d tokens was cut to %d: raise query_max_length or max_length",
                    len(query),
                    one.query_len,
                )
            pairs.append(one)
        return pairs

    def _row(self, ids: Sequence[int], pair: PairRows) -> Row:
        return Row(tuple(ids), len(self.layout.before) + pair.query_len + len(self.layout.between))

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        """Raw values through the checkpoint's own saved activation, to [0, 1]."""
        return calibrate(values, self.activation, self.name)

    def close(self) -> None:
        """End the streams and the processes."""
        self.runner.close()


def _texts(request: Request, options: CrossEncoderOptions) -> list[str]:
    """The query and then the documents, each with its instruction (FlagEmbedding 1.4.2)."""
    query, documents = request.query, [document.text for document in request.documents]
    if options.query_instruction_for_rerank is not None:
        query = options.query_instruction_format.format(options.query_instruction_for_rerank, query)
    if (instruction := options.passage_instruction_for_rerank) is not None:
        documents = [options.passage_instruction_format.format(instruction, text) for text in documents]
    return [query, *documents]
