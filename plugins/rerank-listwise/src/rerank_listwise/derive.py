"""Any algorithm with any model: a question that a model does not answer becomes questions that it does."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rerank_listwise.pairwise import all_pairs
from rerank_listwise.questions import Answer, Kind, Question
from rerank_listwise.rounds import Algorithm

_FROM: tuple[Kind, ...] = ("order", "grade", "compare", "best")


def native_kind(kind: Kind, kinds: Collection[Kind]) -> Kind | None:
    """The kind of question that a model is asked in place of another: itself, or one that says as much; None if none does.

    Nothing else says which passages are relevant, or grades them.
    """
    if kind in kinds:
        return kind
    if kind in ("judge", "grade"):
        return None
    return next((other for other in _FROM if other in kinds), None)


def derive(question: Question, kinds: Collection[Kind]) -> Algorithm[Answer]:
    """Ask a question of a model that answers only questions of some kinds.

    Of one passage nothing is asked but its grade or verdict. An order says which passage is best, which of two is better,
    and which are the best few; so do grades. Of a model that only compares two, all pairs are asked, and of one that only
    names the best, the best of what is left, again and again.

    Args:
        question: The question.
        kinds: What the model answers: ``order``, ``grade``, ``compare`` or ``best`` among them.
    """
    passages, wanted = question.passages, question.wanted
    if len(passages) == 1 and question.kind not in ("grade", "judge"):
        return Answer(passages)
    native = native_kind(question.kind, kinds)
    if native == question.kind:
        (answer,) = yield [question]
        return answer
    if native == "order" or native == "grade":
        (answer,) = yield [Question(native, passages)]
        return Answer(answer.order[:wanted])
    if native == "compare":
        sums = yield from all_pairs(passages)
        return Answer(tuple(sorted(passages, key=lambda passage: -sums[passage]))[:wanted])
    return Answer((yield from _best_again(passages, wanted)))


def _best_again(passages: Sequence[int], wanted: int) -> Algorithm[tuple[int, ...]]:
    left, order = list(passages), list[int]()
    while left and len(order) < wanted:
        best = left[0]
        if len(left) > 1:
            (answer,) = yield [Question("best", tuple(left))]
            best = answer.order[0] if answer.order else best
        left.remove(best)
        order.append(best)
    return tuple(order)
