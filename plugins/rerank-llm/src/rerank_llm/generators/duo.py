"""duoT5: which of two passages is better, by the decoder's first token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rerank import InvalidOptionsError, ModelRef, ScoreScale, ScoringError, query_limit, sigmoid
from rerank_listwise.generator import Generator
from rerank_listwise.questions import Answer, Asked, Kind
from rerank_listwise.recipe import AlgorithmName
from rerank_llm.generators.fid_options import (
    UNLIMITED,
    EncoderDecoderOptions,
    claim_named,
    cut_text,
    describe_named,
    refuse_prompting,
)
from rerank_llm.options import choose_loading
from rerank_llm.prompt import Prompt
from rerank_llm.recipe import Recipe

if TYPE_CHECKING:
    from rerank_torch.rows import Row

DUO: Final = Recipe(
    name="duot5",
    source="castorini/pygaggle, pygaggle/model/tokenize.py; terrierteam/pyterrier_t5 for where it cuts; arXiv 2101.05667",
    kind="t5",
    pieces=("Query: {query}", " Document0: {document}", " Relevant:"),
    ends=True,
    true="▁true",
    false="▁false",
    ids={"▁true": 1176, "▁false": 6136},
    vocabulary=32_100,
    max_length=512,
    models=("castorini/duot5-*",),
)
"""How the model reads the first passage; the second stands behind it, as ``Document1``."""

_AS_SECOND: Final = DUO.model_copy(update={"pieces": ("Query: {query}", " Document1: {document}", " Relevant:")})


class _Texts(NamedTuple):
    """A query and its passages as token ids; each passage as the first and as the second of two."""

    before: list[int]
    first: Mapping[str, list[int]]
    second: Mapping[str, list[int]]
    after: list[int]


class DuoT5:
    """duoT5: the probability that the first of two passages is better, from ``true`` and ``false`` at the decoder's first step.

    Published are all ordered pairs, whose probabilities are added up per passage (pygaggle). Where two passages are too long
    together, both lose the same number of tokens, so that ``Relevant:`` survives (pyterrier_t5); but neither is lost altogether:
    of a short one the first token stays. Nothing is written, so that no completion tokens are counted.
    ``diagnostics["truncated"]`` counts a passage each time it is read cut.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it: those of the backend and of the generator.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, or its tokenizer lacks a verdict.
        InvalidOptionsError: A device is not available.
    """

    kinds: frozenset[Kind] = frozenset(("compare",))
    algorithm: AlgorithmName = "pairwise-all-pairs"
    scale: ScoreScale = "similarity"
    window_size: int = 20

    def __init__(self, model: ModelRef, options: Any) -> None:
        model.check_files()
        from rerank_llm.forwards.t5 import T5Forward
        from rerank_torch.loading import load_config
        from rerank_torch.rows import Padding
        from rerank_torch.runner import Runner

        loading = choose_loading(options)
        config = load_config(model, loading).to_dict()
        self.name = model.name
        self.first = Prompt.load(DUO, model, loading, config)
        self.second = Prompt.load(_AS_SECOND, model, loading, config)
        self._marks = [len(ids) for ids in self.first.tokens([" Document0:", " Document1:"])]
        start = partial(T5Forward, model=model, options=loading, verdicts=self.first.verdicts)
        self.runner = Runner(start, loading, Padding(self.first.pad_id))

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Answer questions, in batches; each is one call.

        Raises:
            InvalidOptionsError: An option has no meaning for this model, or a limit leaves no room for two passages.
            ScoringError: A probability is no number.
        """
        if not asked:
            return []
        options = asked[0].options
        refuse_prompting(options, DUO.name, "max_new_tokens")
        values = self.runner(self._rows(asked, options), options)
        return [self._read(float(value), one) for value, one in zip(values, asked)]

    def _rows(self, together: Sequence[Asked], options: Any) -> list[Row]:
        """A row per question; each passage of a request is tokenised once."""
        by_request: dict[tuple[int, str], list[Asked]] = {}
        for one in together:
            by_request.setdefault((id(one.tally), one.query), []).append(one)
        texts = {key: self._encode(of_one, options) for key, of_one in by_request.items()}
        return [self._row(one, texts[id(one.tally), one.query], options) for one in together]

    def _encode(self, together: Sequence[Asked], options: Any) -> _Texts:
        """The texts of questions with one query and one tally."""
        one = together[0]
        texts = list(dict.fromkeys(text for one in together for text in one.texts))
        kept = [cut_text(self.first.tokens, text, options.max_passage_tokens) for text in texts]
        one.tally.note("truncated", sum(len(cut) < len(text) for cut, text in zip(kept, texts)))
        longest_query = query_limit(options.query_max_length, self._longest(options))
        first, second = (
            prompt.encode(
                one.query, kept, options, instruction=None, max_length=UNLIMITED, query_max_length=longest_query
            )
            for prompt in (self.first, self.second)
        )
        one.tally.note("defused", first.defused)
        start, end = first.pairs.query_len, -first.task_len
        return _Texts(
            first.pairs.rows[0][:start],
            {text: ids[start:end] for text, ids in zip(texts, first.pairs.rows)},
            {text: ids[start:end] for text, ids in zip(texts, second.pairs.rows)},
            first.pairs.rows[0][end:],
        )

    def _longest(self, options: Any) -> int:
        return int(options.max_length or DUO.max_length)

    def _row(self, one: Asked, texts: _Texts, options: Any) -> Row:
        from rerank_torch.rows import Row

        first, second = texts.first[one.texts[0]], texts.second[one.texts[1]]
        room = self._longest(options) - len(texts.before) - len(texts.after)
        kept = self._fit(len(first), len(second), room)
        ids = (*texts.before, *first[: kept[0]], *second[: kept[1]], *texts.after)
        one.tally.calls += 1
        one.tally.prompt_tokens += len(ids)
        one.tally.note("truncated", (kept[0] < len(first)) + (kept[1] < len(second)))
        return Row(ids)

    def _fit(self, first: int, second: int, room: int) -> tuple[int, int]:
        """How many tokens of two passages, with their marks, are kept.

        Raises:
            InvalidOptionsError: There is no room for both.
        """
        least = [min(length, mark + 1) for length, mark in zip((first, second), self._marks)]
        if sum(least) > room:
            raise InvalidOptionsError(
                f"beside the query, max_length leaves room for {room} tokens, and two passages need {sum(least)} at least: "
                "raise max_length, or lower query_max_length"
            )
        lost = math.ceil(max(0, first + second - room) / 2)
        kept = [max(length - lost, short) for length, short in zip((first, second), least)]
        over = max(0, sum(kept) - room)  # what a short one could not lose
        return (kept[0] - over, kept[1]) if kept[0] > kept[1] else (kept[0], kept[1] - over)

    def _read(self, value: float, one: Asked) -> Answer:
        """The answer in the log-odds of ``true``."""
        if not math.isfinite(value):
            raise ScoringError(
                f"{self.name} answered with a value that is no number, which usually means that its dtype overflowed: "
                "use dtype='bf16' or dtype='fp32'"
            )
        first, second = one.question.passages
        probability = sigmoid(value)
        order = (first, second) if probability >= 0.5 else (second, first)
        return Answer(order, {first: probability, second: 1 - probability})

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int | None:
        """How many passages one question can have."""
        return 2

    def close(self) -> None:
        """End the streams and the processes."""
        self.runner.close()


GENERATOR: Final = Generator(
    name=DUO.name,
    summary="duoT5, which says which of two passages is better",
    claim=partial(claim_named, recipe=DUO),
    options=EncoderDecoderOptions,
    load=DuoT5,
    describe=partial(describe_named, recipe=DUO, algorithm=DuoT5.algorithm),
)
"""The generator of this module."""
