"""From a query and its documents to rows of token ids, as a recipe says: the document yields, everything else stays."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rerank import (
    FastTokens,
    InvalidOptionsError,
    ModelLoadError,
    ModelRef,
    Options,
    PairRows,
    TokenLimits,
    find_pad_id,
    plan_windows,
    read_tokenizer_config,
    special_token,
)
from rerank_llm.defusing import Defuser
from rerank_llm.options import LlmOptions, LoadingOptions
from rerank_llm.recipe import END_OF_THOUGHT, PLACE, Recipe, Verdict, fill

logger = logging.getLogger(__name__)

_QUERY: Final = "{query}"
_DOCUMENT: Final = "{document}"
_END: Final = 256
"""How many characters at the end of a text are kept where its middle is left out."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One request's rows.

    Args:
        pairs: The rows, and which document each belongs to.
        task_len: How many tokens of every row stand behind the document's piece.
        target: Token ids of the query if the score is their likelihood, which follow the prompt; else empty.
        defused: How many special tokens in query, documents and instruction were made plain text.
    """

    pairs: PairRows
    task_len: int
    target: tuple[int, ...]
    defused: int


class Prompt:
    """A recipe's prompt for one tokenizer.

    Args:
        recipe: The recipe.
        tokens: The tokenizer; must be a fast one, since a document is cut where a token ends in the text.
        config: The checkpoint's configuration.
        tokenizer_config: Its ``tokenizer_config.json``.

    Attributes:
        pad_id: The id that fills short rows.
        limits: How many tokens the model reads.
    """

    @classmethod
    def load(cls, recipe: Recipe, model: ModelRef, options: LoadingOptions, config: Mapping[str, Any]) -> Prompt:
        """A recipe's prompt for a checkpoint's own tokenizer.

        Raises:
            ModelLoadError: It has none that says where in the text a token stands.
        """
        from rerank_torch.tokens import load_tokens

        tokens = load_tokens(model, options)
        if not isinstance(tokens, FastTokens):
            raise ModelLoadError(f"{model.name} has a tokenizer without offsets: save its tokenizer.json beside it")
        return cls(recipe, tokens, config, {**read_tokenizer_config(model), **options.tokenizer_kwargs})

    def __init__(
        self, recipe: Recipe, tokens: FastTokens, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]
    ) -> None:
        self.recipe, self.tokens = recipe, tokens
        self.pad_id = find_pad_id(tokens, config, tokenizer_config)
        self.limits = TokenLimits.read({} if recipe.is_encoder_decoder else config, {}, self.pad_id)
        begin, end = (_special_id(tokens, config, tokenizer_config, role) for role in ("bos", "eos"))
        if recipe.begins is None:
            begins = tokens.join("")[0][:1] == [begin]
        else:  # FlagEmbedding leaves out a token that also fills short rows
            begins = recipe.begins and begin != _special_id(tokens, {}, tokenizer_config, "pad")
        self._begin = [begin] if begins and begin is not None else []
        self._end = [end] if recipe.ends and end is not None else []
        thought = [END_OF_THOUGHT] if recipe.kind == "reasoning" else []
        self._defuse = Defuser.of(tokens, "".join((*recipe.pieces, *(recipe.instructed or ()), *thought)))

    def texts(self, query: str, document: str, instruction: str | None) -> Iterator[str]:
        """The prompt's pieces as text, for people to read, with special tokens at either end."""
        texts, (document,), _ = self._clean_all(query, [document], instruction)
        texts["document"] = document
        yield from map(self.tokens.tokenizer.id_to_token, self._begin)
        yield from (fill(piece, texts) for piece in self.recipe.choose_pieces(instruction))
        yield from map(self.tokens.tokenizer.id_to_token, self._end)

    def max_length(self, options: LlmOptions) -> int:
        """Token count per row: what the user sets, else the recipe's within what the model has positions for.

        Raises:
            InvalidOptionsError: The model has no positions for as many as the user sets.
        """
        if options.max_length is not None:
            return self.limits.check(options.max_length)
        return min(self.recipe.max_length, self.limits.positions or self.recipe.max_length)

    def encode(
        self,
        query: str,
        documents: Sequence[str],
        options: Options,
        *,
        instruction: str | None,
        max_length: int,
        query_max_length: int,
    ) -> Encoded:
        """Lay out one query with each document, or with each window of it if ``long_documents`` is ``chunk``.

        Args:
            query: The query.
            documents: Its documents.
            options: Core's ``long_documents``, ``window`` and ``overlap`` are read.
            instruction: What the user gives in place of the recipe's own instruction.
            max_length: Maximum token count per row.
            query_max_length: Maximum token count of the query; a longer one is cut, with a warning.

        Raises:
            InvalidOptionsError: The prompt without a document is as long as ``max_length``.
        """
        pieces = self.recipe.choose_pieces(instruction)
        chunked = options.long_documents == "chunk"
        texts, documents, defused = self._clean_all(
            query, documents, instruction, query_max_length, None if chunked else max_length
        )
        texts["query"], truncated_query = self._cut_query(pieces, texts, query_max_length, len(query))
        target = self._target(texts["query"])
        at = next(n for n, piece in enumerate(pieces) if _DOCUMENT in piece)
        before = [*self._begin, *self._ids([fill(piece, texts) for piece in pieces[:at]])]
        after = [*self._ids([fill(piece, texts) for piece in pieces[at + 1 :]]), *self._end]
        head, tail = (fill(part, texts) for part in pieces[at].split(_DOCUMENT))
        tail_ids = self._ids([tail])
        frame = next(n for n, piece in enumerate(pieces) if PLACE.search(piece))
        room = {
            "prompt": max_length - len(before) - len(after) - (0 if self.recipe.is_encoder_decoder else len(target)),
            "texts": max_length - len(self._ids([fill(piece, texts) for piece in pieces[frame:at]])),
            "passage": min(max_length, max_length - len(before) + len(after)),
        }[self.recipe.counts]
        rows: list[list[int]] = []
        owners: list[int] = []
        kept: list[tuple[int, int]] = []
        truncated = 0
        for owner, parts in enumerate(self._parts(head, documents, tail)):
            whole = [*parts.head, *parts.document, *parts.tail]
            if len(whole) <= room and not (chunked and options.window is not None):
                windows, cuts = [whole], [(0, len(parts.document))]
            else:
                end_ids = parts.tail if parts.tail_is_whole else tail_ids
                budget = room - len(parts.head) - len(end_ids)
                if budget < 1:
                    raise InvalidOptionsError(
                        f"the prompt takes {max_length - budget} tokens without a document, and max_length is "
                        f"{max_length}: raise max_length, lower query_max_length, or shorten the instruction"
                    )
                if chunked:
                    size = budget if options.window is None else min(budget, options.window)
                    cuts = plan_windows(0, len(parts.document), size, options.overlap)
                else:
                    cuts = [(0, min(budget, len(parts.document)))]
                    truncated += budget < len(parts.document)
                windows = [
                    [*parts.head, *parts.document[start:end], *(parts.tail if end == len(parts.document) else end_ids)]
                    for start, end in cuts
                ]
            rows += [[*before, *window, *after] for window in windows]
            owners += [owner] * len(windows)
            kept += cuts
        pairs = PairRows(rows, len(before), owners, truncated, truncated_query, kept)
        return Encoded(pairs, len(after), target, defused)

    def _parts(self, head: str, documents: Sequence[str], tail: str) -> list[_Parts]:
        """The tokens of the piece with the document, which is tokenised as a whole, in three parts."""
        encodings = self.tokens.tokenizer.encode_batch(
            [head + document + tail for document in documents], add_special_tokens=False
        )
        return [
            _Parts.of(encoding, len(head), len(head) + len(document))
            for encoding, document in zip(encodings, documents)
        ]

    def _cut_query(
        self, pieces: Sequence[str], texts: Mapping[str, str], longest: int, characters: int
    ) -> tuple[str, bool]:
        """The query, cut where its last token that fits ends in the text, and whether it was cut; it had so many characters."""
        query = texts["query"]
        piece = next((piece for piece in pieces if _QUERY in piece and _DOCUMENT not in piece), _QUERY)
        head, tail = (fill(part, texts) for part in piece.split(_QUERY))
        encoding = self.tokens.tokenizer.encode(head + query + tail, add_special_tokens=False)
        if len(encoding.ids) <= longest:
            return query, False
        parts = _Parts.of(encoding, len(head), len(head) + len(query))
        kept = longest - len(parts.head) - len(parts.tail)
        if kept < 1:
            raise InvalidOptionsError(
                f"what stands beside the query takes {longest - kept} tokens, and query_max_length is {longest}: "
                "raise query_max_length or max_length, or shorten the instruction"
            )
        logger.warning(
            "a query of %d characters was cut to %d tokens: raise query_max_length or max_length", characters, kept
        )
        return query[: encoding.offsets[len(parts.head) + kept - 1][1] - len(head)], True

    def _target(self, query: str) -> tuple[int, ...]:
        """The tokens whose likelihood is the score: those of the query, and of an encoder-decoder the end token."""
        if not self.recipe.is_likelihood:
            return ()
        return (*self._ids([query]), *(self._end if self.recipe.is_encoder_decoder else ()))

    def _ids(self, texts: Sequence[str]) -> list[int]:
        return [i for ids in self.tokens([text for text in texts if text]) for i in ids]

    def _clean_all(
        self,
        query: str,
        documents: Sequence[str],
        instruction: str | None,
        longest_query: int | None = None,
        longest_document: int | None = None,
    ) -> tuple[dict[str, str], list[str], int]:
        """Query and instruction by their places, the documents, and how many special tokens in them all were broken."""
        cleaned_query, defused = self._clean(query, "query", longest_query)
        texts = {"query": cleaned_query or self.recipe.empty, "instruction": self.recipe.instruction}
        if instruction is not None:
            texts["instruction"], count = self._clean(instruction, "instruction")
            defused += count
        cleaned = [self._clean(document, "document", longest_document) for document in documents]
        defused += sum(count for _, count in cleaned)
        return texts, [text or self.recipe.empty for text, _ in cleaned], defused

    def _clean(self, text: str, place: str, longest: int | None = None) -> tuple[str, int]:
        """A text as it goes into its place, and how many special tokens in it were broken.

        Of a text that is cut to ``longest`` tokens, the middle is left out before. Its end stays, since what follows the text
        in the prompt may be joined with it.
        """
        text = text.strip() if place in self.recipe.strip else text
        beginning = text if longest is None else self.tokens.shorten(text, longest)
        if len(beginning) + _END < len(text):
            text = beginning + text[-_END:]
        return self._defuse(text)

    @property
    def verdicts(self) -> tuple[int, ...]:
        """The ids of the recipe's verdicts: relevant first.

        Raises:
            ModelLoadError: As for `verdict`, or two are the same token.
        """
        ids = tuple(map(self.verdict, self.recipe.verdicts))
        if len({*ids}) < len(ids):
            raise ModelLoadError(
                f"the verdicts {' and '.join(map(repr, self.recipe.verdicts))} are the same token, so that every score "
                "would be 0: give two"
            )
        return ids

    def _says(self, token: int, verdict: str) -> bool:
        """Whether a token is the verdict's text, and not one for unknown words."""
        said = str(self.tokens.tokenizer.decode([token], skip_special_tokens=False))
        return said.strip() == verdict.replace("▁", " ").strip()

    def verdict(self, verdict: Verdict) -> int:
        """The id of a verdict.

        Raises:
            ModelLoadError: The vocabulary has no one token for it, or not with the published id.
        """
        size = self.tokens.tokenizer.get_vocab_size()
        if isinstance(verdict, int):
            if verdict >= size:
                raise ModelLoadError(f"the verdict {verdict} is beyond the vocabulary of {size} tokens: fix the recipe")
            return verdict
        (ids,) = self.tokens([verdict])
        found = ids[0] if len(ids) == 1 and self._says(ids[0], verdict) else self.tokens.find(verdict)
        if found is None:
            raise ModelLoadError(
                f"the tokenizer has no one token for the verdict {verdict!r} of recipe {self.recipe.name!r} (it makes "
                f"{len(ids)}): choose the recipe that the model was trained with, or give its token"
            )
        published = self.recipe.ids.get(verdict, found)
        if found != published and size == self.recipe.vocabulary:
            raise ModelLoadError(
                f"the verdict {verdict!r} has the id {found}, and {published} in the published vocabulary: "
                "fetch the tokenizer again"
            )
        return found


@dataclass(frozen=True, slots=True)
class _Parts:
    """Token ids before, of and after a document in one piece; a token that reaches into it belongs to it."""

    head: list[int]
    document: list[int]
    tail: list[int]
    tail_is_whole: bool
    """Whether no token of the document reaches into the text after it."""

    @classmethod
    def of(cls, encoding: Any, start: int, end: int) -> _Parts:
        """The parts of an encoding in which the document's text is between two places."""
        offsets = encoding.offsets
        first = bisect_left([stop for _, stop in offsets], start + 1)
        last = max(first, bisect_left([begin for begin, _ in offsets], end)) if end > start else first
        ids = encoding.ids
        tail_is_whole = last < len(ids) and offsets[last][0] == end
        return cls(ids[:first], ids[first:last], ids[last:], tail_is_whole)


def _special_id(
    tokens: FastTokens, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], role: str
) -> int | None:
    """The id of a special token: the tokenizer's, and the model's if the tokenizer says nothing of it."""
    text = special_token(tokenizer_config, role)
    if text is not None or f"{role}_token" in tokenizer_config:
        return None if text is None else tokens.find(text)
    by_model = config.get(f"{role}_token_id")
    return by_model[0] if isinstance(by_model, list) else by_model
