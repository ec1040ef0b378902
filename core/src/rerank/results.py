"""A document before ranking, a result after it, and the ranked list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from rerank.display import visible
from rerank.errors import DocumentNotFoundError, InvalidInputError

ScoreScale = Literal["logit", "probability", "similarity", "ordinal"]
"""What a score means: unbounded log-odds (``logit``), a probability, a similarity, or only an order (``ordinal``)."""

DocId = StrictStr | StrictInt


class Document(BaseModel):
    """One candidate.

    Args:
        text: The text that the model reads.
        doc_id: The caller's identifier.
        metadata: Passed on to the result unchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    doc_id: DocId
    metadata: Mapping[str, Any] = Field(default_factory=dict)


class Result(BaseModel):
    """One ranked document; its fields can also be read as ``result["text"]``.

    Args:
        doc_id: The document's identifier.
        text: The document's text.
        score: Higher is better; None if the model only orders (scale ``ordinal``).
        rank: Position in the ranking, from 1.
        index: Position among the candidates, from 0.
        metadata: The document's metadata.
        details: What the backend reports about this document (layer scores, token matches): plain data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    doc_id: DocId
    text: str
    score: float | None
    rank: int
    index: int | None = None
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    details: Mapping[str, Any] = Field(default_factory=dict)

    def __getitem__(self, field: str) -> Any:
        if field not in type(self).model_fields:
            raise KeyError(field)
        return getattr(self, field)


class RankedResults(BaseModel):
    """Documents from best to worst, and what produced them. A sequence of `Result`.

    Args:
        results: Best first.
        query: The query they were ranked for.
        has_scores: False if the model only orders.
        model: The model's name.
        backend: The backend that ran it.
        scale: What the scores mean (`ScoreScale`).
        diagnostics: What the backend reports about the call (usage, calls, truncated, malformed).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    results: list[Result]
    query: str
    has_scores: bool
    model: str = ""
    backend: str = ""
    scale: ScoreScale = "logit"
    diagnostics: Mapping[str, Any] = Field(default_factory=dict)

    def __iter__(self) -> Iterator[Result]:  # type: ignore[override]
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, position: int) -> Result: ...
    @overload
    def __getitem__(self, position: slice) -> list[Result]: ...
    def __getitem__(self, position: int | slice) -> Result | list[Result]:
        return self.results[position]

    def top_k(self, k: int) -> list[Result]:
        """The best ``k`` results (all of them if there are fewer).

        Raises:
            InvalidInputError: ``k`` is below 1.
        """
        return self.results[: check_top_k(k)]

    def above(self, threshold: float) -> RankedResults:
        """Only the results whose score is at least ``threshold``, ranks unchanged.

        Raises:
            InvalidInputError: The results have an order but no scores.
        """
        if not self.has_scores:
            raise InvalidInputError(
                f"a threshold needs scores, but {self.model or 'this model'} only orders: use top_k(k)"
            )
        kept = [result for result in self.results if result.score is not None and result.score >= threshold]
        return self.model_copy(update={"results": kept})

    def get_result_by_docid(self, doc_id: str | int) -> Result:
        """The result of one document.

        Raises:
            DocumentNotFoundError: No result has this id.
        """
        for result in self.results:
            if result.doc_id == doc_id:
                return result
        raise DocumentNotFoundError(f"no result has the id {doc_id!r}: {self._near_ids(doc_id)}")

    def get_score_by_docid(self, doc_id: str | int) -> float | None:
        """The score of one document.

        Raises:
            DocumentNotFoundError: No result has this id.
        """
        return self.get_result_by_docid(doc_id).score

    def _near_ids(self, doc_id: object) -> str:
        """Which ids there are instead of one that is absent."""
        for result in self.results:
            if str(result.doc_id) == str(doc_id):
                return f"there is {result.doc_id!r}, of type {type(result.doc_id).__name__}"
        shown = ", ".join(repr(result.doc_id) for result in self.results[:5]) or "none"
        more = f" and {len(self) - 5} more" if len(self) > 5 else ""
        return f"the ids are {shown}{more} (top_k may have left it out)"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain mappings with ``id``, ``text``, ``meta`` and ``score``, best first."""
        return [{"id": r.doc_id, "text": r.text, "meta": dict(r.metadata), "score": r.score} for r in self.results]

    def __str__(self) -> str:
        return self.table(width=100)

    def table(self, width: int) -> str:
        """The ranking as text, one line per result, cut to ``width`` characters."""
        rows = [("rank", "score", "id", "text")]
        for r in self.results:
            score = "-" if r.score is None else f"{r.score:.4f}"
            doc_id, text = (visible(" ".join(cell.split())) for cell in (str(r.doc_id), r.text))
            rows.append((str(r.rank), score, doc_id, text))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{r[0]:>{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:<{widths[2]}}  {r[3]}".rstrip() for r in rows]
        return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


def check_top_k(top_k: int) -> int:
    """Return ``top_k`` unchanged.

    Raises:
        InvalidInputError: It is not a whole number of at least 1.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, Integral) or top_k < 1:
        raise InvalidInputError(f"top_k must be a whole number of at least 1, not {top_k!r}: leave it out to keep all")
    return int(top_k)
