"""Fusion-in-decoder models that rank: LiT5-Distill, LiT5-Score and ListT5.

The encoder reads each passage of a question apart, with the query; the decoder reads all of them together. LiT5-Distill and
ListT5 write an order. LiT5-Score writes an answer to the query, and how much it attends to a passage meanwhile is the passage's
grade.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rerank import MalformedRankingError, ModelLoadError, ModelRef, Options, ScoreScale, ScoringError, query_limit
from rerank_listwise.generator import Generator
from rerank_listwise.permutation import CLOSING, OPENING, Permutation, parse_permutation
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
from rerank_llm.prompt import Encoded, Prompt
from rerank_llm.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rerank_llm.forwards.fid import FusionForward, Task
    from rerank_torch.rows import Row

DISTILL: Final = Recipe(
    name="lit5-distill",
    source="castorini/LiT5, FiD/LiT5-Distill.py and FiD/src/data.py; arXiv 2312.16098",
    kind="t5",
    pieces=("Search Query: {query}", " Passage: {document} Relevance Ranking: "),
    true="</s>",
    ends=True,
    max_length=150,
    models=("castorini/LiT5-Distill*",),
)
SCORE: Final = Recipe(
    name="lit5-score",
    source="castorini/LiT5, FiD/LiT5-Score.py and FiD/src/model.py; arXiv 2312.16098",
    kind="t5",
    pieces=("question: {query}", " context: {document}"),
    true="</s>",
    ends=True,
    max_length=150,
    models=("castorini/LiT5-Score*",),
)
LISTT5: Final = Recipe(
    name="listt5",
    source="soyoung97/ListT5, run_listt5.py and beir_length_mapping.py; arXiv 2402.15838",
    kind="t5",
    pieces=("Query: {query}, Index: {document}",),
    true="</s>",
    ends=True,
    max_length=512,
    models=("Soyoung97/ListT5*",),
)
"""How each family's encoder reads a passage. The token that is read from the decoder, ``true``, is the one that ends an answer."""


class FusionAnswerer(ABC):
    """A fusion-in-decoder model that answers questions about passages.

    Only a passage is ever cut, so that what follows it survives, and a query only past its own limit, with a warning; the
    published code cuts the end of the whole text. ``diagnostics["truncated"]`` counts a passage each time it is read cut.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it: those of the backend and of the generator.

    Attributes:
        window_size: Passages per question that it was published with.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, or its tokenizer is not of T5's kind.
        InvalidOptionsError: A device is not available.
    """

    kinds: frozenset[Kind] = frozenset(("order",))
    algorithm: AlgorithmName
    scale: ScoreScale = "ordinal"
    recipe: ClassVar[Recipe]
    imitation: ClassVar[re.Pattern[str] | None] = None
    """Finds in a passage what looks like the mark of another; its number is put in parentheses instead."""

    def __init__(self, model: ModelRef, options: Any) -> None:
        model.check_files()
        from rerank_torch.loading import load_config
        from rerank_torch.rows import Padding
        from rerank_torch.runner import Runner

        loading = choose_loading(options)
        self.name, self.window_size = model.name, self.choose_window(model)
        self.prompt = Prompt.load(self.recipe, model, loading, load_config(model, loading).to_dict())
        (end,) = self.prompt.verdicts
        if self._encode("", [""], loading, UNLIMITED, UNLIMITED).pairs.rows[0][-1] != end:
            raise ModelLoadError(
                f"the tokenizer of {model.name} does not end a text with {self.recipe.true}: fetch the checkpoint again"
            )
        start = partial(self.forward(), model=model, options=loading, end=end)
        self.runner = Runner(start, loading, Padding(self.prompt.pad_id))

    def choose_window(self, model: ModelRef) -> int:
        """How many passages per question a model was published with."""
        return 20

    @abstractmethod
    def forward(self) -> Callable[..., FusionForward]:
        """What runs the model on a device."""

    @abstractmethod
    def task(self, options: Any) -> Task:
        """How long answers may be, and how large the encoder's batches."""

    @abstractmethod
    def show(self, texts: Sequence[str]) -> list[str]:
        """The passages that the encoder reads for a question, with what marks them."""

    @abstractmethod
    def read(self, value: NDArray[Any], one: Asked) -> Answer:
        """The answer in what the model returns for a question; counts its tokens and faults."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Answer questions, in batches; each is one call.

        Raises:
            InvalidOptionsError: An option has no meaning for this model, or a limit leaves no room for a passage.
            MalformedRankingError: An answer is malformed and ``malformed`` is ``error``. ``retry`` is ``repair`` here, since
                asked again, the model writes the same.
            ScoringError: A grade is no number.
        """
        if not asked:
            return []
        options = asked[0].options
        refuse_prompting(options, self.recipe.name)
        values = self.runner([self._row(one, options) for one in asked], options, shared=self.task(options))
        return list(map(self.read, values, asked))

    def _row(self, one: Asked, options: Any) -> Row:
        """A question's passages, one after another, and how many tokens of each are the query's."""
        from rerank_torch.rows import Row

        texts, truncated = list(one.texts), 0
        for n, text in enumerate(one.texts):
            plain, defused = self.imitation.subn(r"(\1)", text) if self.imitation is not None else (text, 0)
            texts[n] = cut_text(self.prompt.tokens, plain, options.max_passage_tokens)
            truncated += len(texts[n]) < len(plain)
            one.tally.note("defused", defused)
        longest = options.max_length or self.recipe.max_length
        encoded = self._encode(
            one.query, self.show(texts), options, longest, query_limit(options.query_max_length, longest)
        )
        row = Row(tuple(chain.from_iterable(encoded.pairs.rows)), encoded.pairs.query_len)
        one.tally.calls += 1
        one.tally.prompt_tokens += len(row.ids)
        one.tally.note("truncated", min(len(texts), truncated + encoded.pairs.truncated))
        one.tally.note("defused", encoded.defused)
        return row

    def _encode(
        self, query: str, passages: Sequence[str], options: Options, longest: int, longest_query: int
    ) -> Encoded:
        return self.prompt.encode(
            query, passages, options, instruction=None, max_length=longest, query_max_length=longest_query
        )

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int | None:
        """How many passages one question can have: as many as the model was trained to name."""
        return self.window_size

    def close(self) -> None:
        """End the streams and the processes."""
        self.runner.close()


class OrderAnswerer(FusionAnswerer):
    """A fusion-in-decoder model that writes an order."""

    def forward(self) -> Callable[..., FusionForward]:
        """What runs the model on a device."""
        from rerank_llm.forwards.fid import WritingForward

        return WritingForward

    @abstractmethod
    def parse(self, text: str, count: int) -> Permutation:
        """The order of so many passages in what the model wrote."""

    def read(self, value: NDArray[Any], one: Asked) -> Answer:
        """The order that the model wrote; counts its tokens and faults."""
        text = self.prompt.tokens.tokenizer.decode([int(token) for token in value], skip_special_tokens=True)
        passages = one.question.passages
        permutation = self.parse(text, len(passages))
        one.tally.completion_tokens += len(value)
        one.tally.count(permutation.faults)
        if one.options.malformed == "error" and not permutation.is_whole:
            raise MalformedRankingError(
                f"the answer of {self.name} about {len(passages)} passages is malformed (it begins {text[:80]!r}): "
                "leave malformed='error' out to repair it, or take another model"
            )
        order = tuple(passages[position] for position in permutation.order)
        return Answer(order, named=permutation.named)


class LiT5Distill(OrderAnswerer):
    """LiT5-Distill: writes ``[3] > [1] > …``, best first.

    It is published with windows of 20 and a stride of 10, the checkpoints named ``-v2`` with all of 100 passages in one window.
    It was trained with full windows: the published code fills a shorter one with empty passages, which the model does read, so
    that its answer is another one without them. So do we, but for ``-v2`` (castorini/rank_llm asks it with windows of any
    size). Empty passages that it names are no fault. An answer has at most 140 tokens, the start token included, or seven per
    passage where that is more; the published order of 20 has 80, that of 100 has 400.
    """

    algorithm: AlgorithmName = "sliding-window"
    recipe = DISTILL
    imitation = re.compile(rf"[{re.escape(OPENING)}]\s*(\d+)\s*[{re.escape(CLOSING)}]")

    def __init__(self, model: ModelRef, options: Any) -> None:
        self._filled = 0 if _is_second(model) else self.choose_window(model)
        super().__init__(model, options)

    def choose_window(self, model: ModelRef) -> int:
        """How many passages per question a model was published with."""
        return 100 if _is_second(model) else 20

    def task(self, options: Any) -> Task:
        """How long answers may be, and how large the encoder's batches."""
        from rerank_llm.forwards.fid import Task

        if options.max_new_tokens is not None:
            return Task(1 + options.max_new_tokens, max_tokens=options.max_batch_tokens)
        return Task(140, per_passage=7, max_tokens=options.max_batch_tokens)

    def show(self, texts: Sequence[str]) -> list[str]:
        """The passages with their numbers, and empty ones where a window is not full."""
        filled = [*texts, *[""] * (self._filled - len(texts))]
        return [f"[{number}] {text}" for number, text in enumerate(filled, start=1)]

    def parse(self, text: str, count: int) -> Permutation:
        """The order of so many passages in what the model wrote."""
        named = parse_permutation(text, count)
        if count >= self._filled:
            return named
        return replace(named, unknown=parse_permutation(text, self._filled).unknown)


def _is_second(model: ModelRef) -> bool:
    return model.hub_name.endswith("-v2")


class ListT5(OrderAnswerer):
    """ListT5: writes the numbers of five passages from the least to the most relevant, such as ``3 1 4 2 5``.

    The published code asks about exactly five passages, and repeats them where there are fewer; what it names last is the best.
    So do we. It finds the ten best in a tournament: it takes the best two of each group of five up to the root, puts another
    passage in the winner's place, and goes on with the answers it has. The nearest algorithm here is a heap of groups of five
    (``setwise-heapsort`` with ``children=4``), which also takes out the best again and again. Texts have 256, 512 or 1024
    tokens, by data set; we take 512.
    """

    algorithm: AlgorithmName = "setwise-heapsort"
    recipe = LISTT5
    imitation = re.compile(r"\bIndex\s*[:：]\s*(\d+)", re.IGNORECASE)

    def choose_window(self, model: ModelRef) -> int:
        """How many passages per question a model was published with."""
        return 5

    def task(self, options: Any) -> Task:
        """How long answers may be, and how large the encoder's batches."""
        from rerank_llm.forwards.fid import Task

        tokens = self.window_size + 1 if options.max_new_tokens is None else options.max_new_tokens
        return Task(1 + tokens, max_tokens=options.max_batch_tokens)

    def show(self, texts: Sequence[str]) -> list[str]:
        """The passages with their numbers, repeated where there are fewer than five."""
        filled = [texts[n % len(texts)] for n in range(max(self.window_size, len(texts)))]
        return [f"{number}, Context: {text}" for number, text in enumerate(filled, start=1)]

    def parse(self, text: str, count: int) -> Permutation:
        """The order of so many passages in what the model wrote, best first."""
        shown = max(self.window_size, count)
        numbers = " ".join(reversed(re.findall(r"\d+", text)))
        named = replace(parse_permutation(numbers, shown), chatter=parse_permutation(text, shown).chatter)
        order = list(dict.fromkeys(position % count for position in named.order[: named.named]))
        missing = [position for position in range(count) if position not in order]
        return replace(named, order=(*order, *missing), named=len(order), missing=len(missing))


class LiT5Score(FusionAnswerer):
    """LiT5-Score: while it writes an answer to the query, its attention to a passage is the passage's grade.

    It is published with 100 passages in one pass; grades of one pass can be compared, those of two cannot. It reads as many as a
    question has. The published code fills up to 100 with empty ones, which take a share of the attention and so lower all
    grades; castorini/rank_llm does not, and nor do we. It writes at most 20 tokens, the start token included.
    """

    kinds: frozenset[Kind] = frozenset(("grade",))
    algorithm: AlgorithmName = "one-pass"
    scale: ScoreScale = "similarity"
    recipe = SCORE

    def choose_window(self, model: ModelRef) -> int:
        """How many passages per question a model was published with."""
        return 100

    def forward(self) -> Callable[..., FusionForward]:
        """What runs the model on a device."""
        from rerank_llm.forwards.fid import AttentionForward

        return AttentionForward

    def task(self, options: Any) -> Task:
        """How long answers may be, and how large the encoder's batches."""
        from rerank_llm.forwards.fid import Task

        least = 20 if options.max_new_tokens is None else 1 + options.max_new_tokens
        return Task(least, max_tokens=options.max_batch_tokens)

    def show(self, texts: Sequence[str]) -> list[str]:
        """The passages as they are."""
        return list(texts)

    def read(self, value: NDArray[Any], one: Asked) -> Answer:
        """The passages by their grades; counts the tokens that were written."""
        written, *grades = map(float, value)
        if not all(map(math.isfinite, grades)):
            raise ScoringError(
                f"{self.name} answered with a grade that is no number, which usually means that its dtype overflowed: "
                "use dtype='bf16' or dtype='fp32'"
            )
        one.tally.completion_tokens += int(written)
        scores = dict(zip(one.question.passages, grades))
        return Answer(tuple(sorted(scores, key=lambda passage: -scores[passage])), scores)

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int | None:
        """How many passages one question can have: any number."""
        return None


def _describe(kind: type[FusionAnswerer], summary: str) -> Generator:
    return Generator(
        name=kind.recipe.name,
        summary=summary,
        claim=partial(claim_named, recipe=kind.recipe),
        options=EncoderDecoderOptions,
        load=kind,
        describe=partial(describe_named, recipe=kind.recipe, algorithm=kind.algorithm),
    )


GENERATORS: Final = (
    _describe(LiT5Distill, "LiT5-Distill, which writes an order of up to 20 passages, or 100 (-v2)"),
    _describe(LiT5Score, "LiT5-Score, which grades passages by its attention to them, in one pass"),
    _describe(ListT5, "ListT5, which writes an order of five passages"),
)
"""The generators of this module."""
