"""jina-reranker-v3 and v3.5: one pass over a query and many documents, one vector for each, and their cosines.

Sources: the model card of jinaai/jina-reranker-v3; ``vllm/model_executor/models/jina.py`` of vllm-project/vllm;
``recipes/jina-reranker-v3`` of cohere-ai/rcp-ndcg; for v3.5 arXiv 2607.18152 and ``omlx/models/reranker.py`` of jundot/omlx.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rerank import (
    Claim,
    Confidence,
    FastTokens,
    InvalidOptionsError,
    ModelLoadError,
    ModelRef,
    ScoreScale,
    find_pad_id,
    read_tokenizer_config,
)
from rerank_listwise.generator import Generator
from rerank_listwise.questions import Answer, Asked, Kind
from rerank_listwise.recipe import AlgorithmName
from rerank_llm.defusing import Defuser
from rerank_llm.generators.fid_options import refuse_prompting
from rerank_torch import TorchOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rerank_torch.rows import Row

logger = logging.getLogger(__name__)

MODELS: Final = (
    "jinaai/jina-reranker-v3",
    "jinaai/jina-reranker-v3-mlx",
    "jinaai/jina-reranker-v3.5",
    "jinaai/jina-reranker-v3.5-mlx",
)
"""Names on the hub."""

EMBED, RERANK = "<|embed_token|>", "<|rerank_token|>"
"""The tokens whose vectors stand for a document and for the query."""

_ARCHITECTURE: Final = "JinaForRanking"
_SYSTEM: Final = (
    "You are a search relevance expert who can determine a ranking of the passages based on how relevant they are to the "
    "query. If the query is a question, how relevant a passage is depends on how well it answers the question. If not, "
    "try to analyze the intent of the query and assess how well each passage satisfies the intent. If an instruction is "
    "provided, you should follow the instruction when determining the ranking."
)
_READ: Final = re.compile("|".join(map(re.escape, (EMBED, RERANK))))
_NESTED: Final = 8
"""How often they are removed, since around a removed one another may come together; what is left then is broken."""
_QUERY_TOKENS: Final = 512
_DOCUMENT_TOKENS: Final = 2_048
_BLOCK_TOKENS: Final = 131_072
_BLOCK_DOCUMENTS: Final = 125
_MORE_DIGITS: Final = 2
"""Tokens that a passage's number may have beyond the first digit's."""


class JinaOptions(TorchOptions):
    """Options of the generator ``jina``, besides those of every torch backend.

    ``query_max_length`` is 512 by default, and ``max_passage_tokens`` 2,048. Documents are read in blocks of at most
    ``window_size``, by default 125, and of about ``max_length`` tokens, by default 131,072; lower that where memory is short.

    Args:
        instruction: What to look for; the models were published without one.
    """

    instruction: str | None = None


def prompt(query: str, texts: Sequence[str], instruction: str | None, *, twice: bool) -> str:
    """What the model reads, with all special tokens; the texts must contain none.

    Args:
        query: The query.
        texts: The documents of one block.
        instruction: What to look for; None leaves its block out.
        twice: Whether the query's token also follows it where it is first named, as v3.5 has it.
    """
    passages = "\n".join(f'<passage id="{number}">\n{text}{EMBED}\n</passage>' for number, text in enumerate(texts))
    instructed = "" if instruction is None else f"<instruct>\n{instruction}\n</instruct>\n"
    return (
        f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n"
        f"<|im_start|>user\nI will provide you with {len(texts)} passages, each indicated by a numerical identifier. "
        f"Rank the passages based on their relevance to query: {query}{RERANK if twice else ''}\n"
        f"{instructed}{passages}\n<query>\n{query}{RERANK}\n</query><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def plan_blocks(lengths: Sequence[int], room: int, *, most: int, reserve: int | None = None) -> list[range]:
    """Divide documents, in order, into blocks.

    Args:
        lengths: Token count per document.
        room: Token count that the documents of a block may have.
        most: At most this many documents per block.
        reserve: A block is full if no more than this is left of its room; None means that the next document does not fit.

    Returns:
        The documents of each block, by position.
    """
    starts, left = [0], room
    for position, length in enumerate(lengths):
        if position > starts[-1]:
            is_full = left < length if reserve is None else left <= reserve
            if is_full or position - starts[-1] == most:
                starts.append(position)
                left = room
        left -= length
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(lengths)])]


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it goes into a prompt.

    Args:
        text: Without special tokens, and cut.
        length: Its token count.
        truncated: Whether it was cut.
        defused: How many special tokens it imitated.
    """

    text: str
    length: int
    truncated: bool
    defused: int


class Cleaner:
    """Takes special tokens out of texts, and cuts them.

    The two tokens whose vectors are read are removed, as the published code does; of the others, such as ``<|im_end|>``,
    the mark is broken: ``< |im_end|>``.

    Args:
        tokens: The checkpoint's tokenizer.
    """

    def __init__(self, tokens: FastTokens) -> None:
        self._tokens = tokens
        self._defuse = Defuser.of(tokens, prompt("", [""], None, twice=False))

    def prepare(self, texts: Sequence[str], longest: int) -> list[Text]:
        """The texts without special tokens, of at most ``longest`` tokens; longer ones are decoded from their first tokens."""
        cleaned = [self._clean(text, longest) for text in texts]
        prepared = []
        for (text, defused), ids in zip(cleaned, self._tokens([text for text, _ in cleaned])):
            cut = len(ids) > longest
            kept = self._tokens.tokenizer.decode(ids[:longest], skip_special_tokens=False) if cut else text
            prepared.append(Text(kept, min(len(ids), longest), cut, defused))
        return prepared

    def _clean(self, text: str, longest: int) -> tuple[str, int]:
        taken = 0
        for _ in range(_NESTED):
            text, count = _READ.subn("", text)
            taken += count
            if not count:
                break
        text, broken = self._defuse(self._tokens.shorten(text, longest))
        return text, taken + broken


class JinaAnswerer:
    """Grades passages by their cosine with the query, in one pass over as many as fit into a block.

    Args:
        model: Where the checkpoint is.
        options: The options given at construction: those of `JinaOptions`, and others, which are not read.

    Attributes:
        kinds: It grades.
        algorithm: All passages at once.
        scale: Cosines.
        window_size: Passages per block.

    Raises:
        ModelLoadError: The checkpoint is incomplete or damaged, or this transformers cannot run it.
        InvalidOptionsError: A device is not available, or an option has no effect.
    """

    kinds: frozenset[Kind] = frozenset(("grade",))
    algorithm: AlgorithmName = "one-pass"
    scale: ScoreScale = "similarity"
    window_size = _BLOCK_DOCUMENTS

    def __init__(self, model: ModelRef, options: Any) -> None:
        model.check_files()
        from rerank_llm.forwards.jina import JinaForward
        from rerank_torch.rows import Padding
        from rerank_torch.runner import Runner
        from rerank_torch.tokens import load_tokens

        options = JinaOptions(**{name: getattr(options, name) for name in JinaOptions.model_fields})
        tokens = load_tokens(model, options)
        if not isinstance(tokens, FastTokens):
            raise ModelLoadError(f"{model.name} has no fast tokenizer: save its tokenizer.json beside it")
        embed_id, rerank_id = tokens.find(EMBED), tokens.find(RERANK)
        if embed_id is None or rerank_id is None:
            raise ModelLoadError(
                f"the tokenizer of {model.name} lacks {EMBED if embed_id is None else RERANK}: fetch it again, or give "
                f"{MODELS[0]}"
            )
        self._tokens, self._cleaner, self._twice = tokens, Cleaner(tokens), names_query_twice(model)
        pad_id = find_pad_id(tokens, model.config, {**read_tokenizer_config(model), **options.tokenizer_kwargs})
        start = partial(JinaForward, model=model, options=options, embed_id=embed_id, rerank_id=rerank_id)
        self._runner = Runner(start, options, Padding(pad_id))

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Grade the passages of each question; the blocks of all questions run together.

        Raises:
            InvalidOptionsError: ``max_length`` leaves no room for a document, or an option has no effect.
        """
        from rerank_torch.rows import Row

        if not asked:
            return []
        prompts = [self._prompts(one) for one in asked]
        rows = [Row(tuple(ids)) for ids in self._tokens([text for texts in prompts for text in texts])]
        ran = iter(zip(rows, self._runner(rows, asked[0].options)))
        return [_grade(one, [next(ran) for _ in texts]) for one, texts in zip(asked, prompts)]

    def _prompts(self, asked: Asked) -> list[str]:
        """One prompt per block."""
        options, tally = asked.options, asked.tally
        refuse_prompting(options, "a model with a vector per passage", "max_new_tokens")
        (query,) = self._cleaner.prepare([asked.query], options.query_max_length or _QUERY_TOKENS)
        if query.truncated:
            logger.warning("a query was cut to %d tokens: raise query_max_length", query.length)
        given = [] if options.instruction is None else self._cleaner.prepare([options.instruction], _BLOCK_TOKENS)
        write = partial(prompt, query.text, instruction=given[0].text if given else None, twice=self._twice)
        longest: int = options.max_passage_tokens or _DOCUMENT_TOKENS
        room, each = _BLOCK_TOKENS - 2 * query.length, 0
        reserve: int | None = longest
        if options.max_length is not None:
            one, two = map(len, self._tokens([write([""]), write(["", ""])]))
            frame, per_document = 2 * one - two, two - one
            room, each, reserve = options.max_length - frame, per_document + _MORE_DIGITS, None
            longest = min(longest, room - each)
        if longest < 1:
            raise InvalidOptionsError(
                f"the prompt leaves no room for a document in max_length {options.max_length}: raise it, lower "
                "query_max_length, or shorten the instruction"
            )
        texts = self._cleaner.prepare(asked.texts, longest)
        tally.note("defused", sum(text.defused for text in (query, *given, *texts)))
        tally.note("truncated", sum(text.truncated for text in texts))
        tally.note("query_truncated", query.truncated)
        lengths = [text.length + each for text in texts]
        most = options.window_size or self.window_size
        blocks = plan_blocks(lengths, room, most=most, reserve=reserve)
        return [write([texts[position].text for position in block]) for block in blocks]

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int | None:
        """No limit: more passages are read in several blocks."""
        return None

    def close(self) -> None:
        """End the streams or the processes."""
        self._runner.close()


def _grade(asked: Asked, ran: Sequence[tuple[Row, NDArray[np.float32]]]) -> Answer:
    """The answer to a question out of its blocks' rows and vectors, whose cost is counted."""
    from rerank_llm.forwards.jina import score_blocks

    asked.tally.calls += len(ran)
    asked.tally.prompt_tokens += sum(len(row.ids) for row, _ in ran)
    cosines = score_blocks([vectors for _, vectors in ran]).tolist()
    scores = dict(zip(asked.question.passages, cosines))
    return Answer(tuple(sorted(scores, key=lambda passage: -scores[passage])), scores)


def names_query_twice(model: ModelRef) -> bool:
    """Whether a checkpoint is v3.5: by its name, or by its layers with sliding attention, which v3 has none of."""
    if "v3.5" in model.hub_name or (model.name in MODELS and not model.is_local):
        return "v3.5" in model.hub_name
    return "sliding_attention" in (model.config.get("layer_types") or ())


def claim(model: ModelRef, options: Any) -> Claim:
    """Claim the published models, and folders with a checkpoint of their architecture."""
    if model.is_one_of(MODELS):
        return Claim(Confidence.CERTAIN, "its name is that of a listwise jina-reranker")
    if model.is_local and _ARCHITECTURE in (model.config.get("architectures") or ()):
        return Claim(Confidence.CERTAIN, f"its architecture is {_ARCHITECTURE}")
    return Claim(Confidence.NONE, "no listwise jina-reranker")


def describe(model: ModelRef, options: Any) -> Iterator[str]:
    """What the model reads about two sample passages."""
    yield f"algorithm: {options.algorithm or JinaAnswerer.algorithm}"
    yield "the prompt about two sample passages:"
    texts = ["The giant panda is a bear of China.", "Hello."]
    asked = prompt("what is a panda?", texts, options.instruction, twice=names_query_twice(model))
    yield f"  {json.dumps(asked, ensure_ascii=False)}"


GENERATOR: Final = Generator(
    name="jina",
    summary="jina-reranker-v3 and v3.5: all passages in one pass, a vector for each, on torch",
    claim=claim,
    options=JinaOptions,
    load=JinaAnswerer,
    describe=describe,
)
"""The generator of these models."""
