"""The scorer: texts to token ids, pairs to rows, rows through the model, values to documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rerank import (
    GroupScorer,
    ModelRef,
    Options,
    PairRows,
    Request,
    Scores,
    ScoringError,
    TokenLimits,
    encode_pairs,
    find_pad_id,
    knows_positions,
    probe_limits,
    probe_rows,
    query_limit,
    read_tokenizer_config,
    saved_prompt,
)
from rerank_crossencoder.activation import calibrate, saved_activation
from rerank_crossencoder.encoder import Encoder
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding, Row
from rerank_torch.runner import RowError, Runner
from rerank_torch.tokens import load_tokens


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
        self.prompt = saved_prompt(model)
        self.tokens = load_tokens(model, options)
        self.layout = self.tokens.pair_layout()
        pad_id = find_pad_id(self.tokens, config, tokenizer_config)
        self.limits = TokenLimits.read(config, tokenizer_config, pad_id)
        self.limits.of_row(options.max_length)
        start = partial(Encoder, model=model, options=options, types=self.layout.types, pad_id=pad_id)
        probe = tuple(self._row(*row) for row in probe_rows(self.tokens, self.layout, self.limits.default))
        self.runner = Runner(start, options, Padding(pad_id, probe=probe))
        if not knows_positions(config) and self.runner.on_cpu:  # elsewhere an index beyond a table ends the process

            def reads(ids: tuple[int, ...], query_len: int) -> bool:
                return self.runner.reads(self._row(ids, query_len), options)

            self.limits = probe_limits(self.limits, self.tokens, self.layout, reads)
            self.limits.of_row(options.max_length)

    def _row(self, ids: Sequence[int], query_len: int) -> Row:
        return Row(tuple(ids), self.layout.first_len(query_len))

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, CrossEncoderOptions)
        max_length = self.limits.of_row(options.max_length)
        pairs = encode_pairs(
            [_texts(request, options, self.prompt) for request in requests],
            self.tokens,
            self.layout,
            options,
            max_length=max_length,
            query_max_length=query_limit(options.query_max_length, max_length),
        )
        rows = [self._row(ids, one.query_len) for one in pairs for ids in one.rows]
        try:
            values = (float(value) for value in self.runner(rows, options))
        except RowError as error:
            raise ScoringError(f"{self._owner(error.row, pairs, requests)}: {error}") from error
        for one in pairs:
            yield one.scores(values, options, "logit")

    def _owner(self, row: Row, pairs: Sequence[PairRows], requests: Sequence[Request]) -> str:
        """The document that a row belongs to."""
        for one, request in zip(pairs, requests):
            for ids, owner in zip(one.rows, one.owners):
                if tuple(ids) == row.ids:
                    return f"document {request.documents[owner].doc_id!r} of the query {request.query!r:.60}"
        return "a document"

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        """Raw values through the checkpoint's own saved activation, to [0, 1]."""
        return calibrate(values, self.activation, self.name)

    def close(self) -> None:
        """End the streams and the processes."""
        self.runner.close()


def _texts(request: Request, options: CrossEncoderOptions, prompt: str) -> tuple[str, list[str]]:
    """The query and the documents, each with its instruction (FlagEmbedding 1.4.2); else the query with the saved prompt."""
    query, documents = request.query, [document.text for document in request.documents]
    if options.query_instruction_for_rerank is None:
        query = prompt + query
    else:
        query = options.query_instruction_format.format(options.query_instruction_for_rerank, query)
    if (instruction := options.passage_instruction_for_rerank) is not None:
        documents = [options.passage_instruction_format.format(instruction, text) for text in documents]
    return query, documents
