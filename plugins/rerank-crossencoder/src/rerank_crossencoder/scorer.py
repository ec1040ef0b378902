"""The scorer: texts to token ids, pairs to rows, rows through the model, values to documents."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import torch

from rerank import (
    GroupScorer,
    InvalidOptionsError,
    ModelRef,
    Options,
    PairRows,
    Request,
    Scores,
    aggregate,
    pair_rows,
    plan_batches,
)
from rerank_crossencoder.activation import calibrate, saved_activation
from rerank_crossencoder.encoder import BATCH_TOKENS, CPU_BATCH_TOKENS, Encoder, Row, Work, start_encoder
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_crossencoder.tokens import Tokens, find_pad_id, find_position_limit, find_trained_limit
from rerank_torch import DevicePool
from rerank_torch.device import choose_devices
from rerank_torch.loading import load_config, load_tokenizer

logger = logging.getLogger(__name__)

LONGEST_DEFAULT: Final = 1024
"""Tokens a row by default, where the model allows more: attention costs the square of a row's length."""


class CrossEncoder(GroupScorer):
    """Scores pairs with a sequence-classification model: one output is the logit, two are a log-odds.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it.
    """

    def __init__(self, model: ModelRef, options: CrossEncoderOptions) -> None:
        config, tokenizer = load_config(model, options), load_tokenizer(model, options)
        self.name = model.name
        self.activation = saved_activation(model)
        self.tokens = Tokens(tokenizer)
        self.layout = self.tokens.pair_layout(model)
        self.position_limit = find_position_limit(config)
        self.trained_limit = find_trained_limit(tokenizer, config)
        self.limit(options)
        self.devices = choose_devices(options)
        pad_id = find_pad_id(tokenizer, config)
        self.encoder: Encoder | None = None
        self.pool: DevicePool[Work, list[float]] | None = None
        if len(self.devices) == 1:
            self.encoder = Encoder(model, options, self.devices[0], self.layout, pad_id)
        else:
            start = partial(
                start_encoder,
                model=model,
                options=options,
                layout=self.layout,
                pad_id=pad_id,
                threads=max(1, torch.get_num_threads() // len(self.devices)),
            )
            self.pool = DevicePool(start, self.devices)

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests that share their options, in one go."""
        options = requests[0].options
        assert isinstance(options, CrossEncoderOptions)
        pairs = self._encode(requests, options)
        rows = [Row(tuple(ids), one.query_len) for one in pairs for ids in one.rows]
        distinct = list(dict.fromkeys(rows))  # equal rows run once, and score equally to the last bit
        by_row = dict(zip(distinct, self._run(distinct, options)))
        values = (by_row[row] for row in rows)
        for one in pairs:
            yield Scores(
                values=aggregate([next(values) for _ in one.rows], one.owners, options.aggregate),
                scale="logit",
                diagnostics={"truncated": one.truncated, "query_truncated": one.query_truncated},
            )

    def _encode(self, requests: Sequence[Request], options: CrossEncoderOptions) -> list[PairRows]:
        """Every text in one tokenizer call, then the rows of each request."""
        max_length = self.limit(options)
        query_max_length = options.query_max_length or max_length * 3 // 4
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
                query_max_length=query_max_length,
            )
            if one.query_truncated:
                logger.warning(
                    "a query of %d tokens was cut to %d: raise query_max_length or max_length",
                    len(query),
                    one.query_len,
                )
            pairs.append(one)
        return pairs

    def _run(self, rows: Sequence[Row], options: CrossEncoderOptions) -> list[float]:
        """One value a row; with several devices a batch at a time goes to whichever is free."""
        on_cpu = torch.device(self.devices[0]).type == "cpu"
        max_tokens = options.max_batch_tokens or (CPU_BATCH_TOKENS if on_cpu else BATCH_TOKENS)
        work = partial(Work, max_tokens=max_tokens, max_items=options.batch_size)
        if self.pool is None:
            assert self.encoder is not None
            return self.encoder(work(rows=rows, progress=options.progress))
        batches = plan_batches([len(row.ids) for row in rows], max_tokens, options.batch_size)
        answers = self.pool.map([work(rows=[rows[i] for i in batch]) for batch in batches])
        values = {i: value for batch, answer in zip(batches, answers) for i, value in zip(batch, answer)}
        return [values[i] for i in range(len(rows))]

    def limit(self, options: CrossEncoderOptions) -> int:
        """Tokens a row may have.

        Raises:
            InvalidOptionsError: ``max_length`` is beyond the positions that the model has.
        """
        if options.max_length is None:
            return min(self.trained_limit or LONGEST_DEFAULT, LONGEST_DEFAULT)
        if self.position_limit is not None and options.max_length > self.position_limit:
            raise InvalidOptionsError(
                f"max_length={options.max_length} is beyond the {self.position_limit} tokens that {self.name} has "
                "positions for: lower it, or long_documents='chunk' reads all of a document in windows"
            )
        return options.max_length

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        """Raw values through the checkpoint's own saved activation, to [0, 1]."""
        return calibrate(values, self.activation, self.name)

    def close(self) -> None:
        """End the processes of several devices."""
        if self.pool is not None:
            self.pool.close()


def _texts(request: Request, options: CrossEncoderOptions) -> list[str]:
    """The query and then the documents, each with its instruction (FlagEmbedding 1.4.2)."""
    query, documents = request.query, [document.text for document in request.documents]
    if options.query_instruction_for_rerank is not None:
        query = options.query_instruction_format.format(options.query_instruction_for_rerank, query)
    if (said := options.passage_instruction_for_rerank) is not None:
        documents = [options.passage_instruction_format.format(said, text) for text in documents]
    return [query, *documents]
