"""From requests to scores: request → algorithm → questions → prompts → the model, in rounds that all requests share."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from rerank import GroupScorer, InvalidOptionsError, Request, Scores, ScoreScale
from rerank_http.portal import result_of
from rerank_listwise.derive import derive, native_kind
from rerank_listwise.generator import Answerer, RemoteWriter, Writer
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.plan import ASKS, Outcome, Plan, Planned, as_scores, question_size
from rerank_listwise.prompted import Prompted, largest_group
from rerank_listwise.questions import Answer, Asked, Kind, Question, Tally
from rerank_listwise.recipe import Completion, Prompt, Recipe
from rerank_listwise.recipes import recipe_for
from rerank_listwise.rounds import Algorithm, Work, run, through, together, translate, without_repeats

logger = logging.getLogger(__name__)

V = TypeVar("V")

_CHILDREN: Final = 3
"""Children per node of a heap, for a model that is asked about two or names the best (ielab/llm-rankers)."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One request under way."""

    request: Request
    tally: Tally
    scale: ScoreScale
    shown: dict[str, Any]

    def scores(self, outcome: Outcome) -> Scores:
        return as_scores(outcome, self.request, self.scale, self.tally, **self.shown)


class WriterAsker:
    """Starts the works of requests for a model that continues prompts.

    Args:
        writer: The model.
        own: The recipe that it was trained with, or that the user gives; None if neither.
    """

    def __init__(self, writer: Writer | RemoteWriter, own: Recipe | None) -> None:
        self._writer, self._own = writer, own
        self._defuse = None if isinstance(writer, RemoteWriter) else writer.defuse

    def start(self, request: Request) -> tuple[_Job, Work[Prompt, Completion, Outcome]]:
        """A request's job, and its work in rounds of prompts.

        Raises:
            InvalidOptionsError: The recipe does not fit the algorithm, or the context not even two passages.
        """
        options: Any = request.options
        tally = Tally()
        name: Planned = options.algorithm_for(self._own)
        recipe = recipe_for(self._own, ASKS[name], options)
        left = partial(self._left, room=self._room(options))
        prompted = Prompted(recipe, self._writer.measure, self._defuse, left)
        request = prompted.prepare_request(request, tally)
        options = request.options
        texts = [document.text for document in request.documents[: options.depth]]
        prepared = prompted.prepare(texts, options, tally)
        plan = self._plan(name, prompted, request, prepared, tally)
        algorithm = translate(plan.start(len(texts), request), lambda question: derive(question, {recipe.kind}))
        work = translate(
            _counted(without_repeats(algorithm), tally),
            lambda question: prompted.converse(_asked(question, request, prepared, tally)),
        )
        scale: ScoreScale = "probability" if ASKS[name] in ("grade", "judge") else "ordinal"
        return _Job(request, tally, scale, {"algorithm": name, "recipe": recipe.name}), work

    def _plan(self, name: Planned, prompted: Prompted, request: Request, prepared: Sequence[str], tally: Tally) -> Plan:
        """The algorithm with questions that the recipe has identifiers for, and that fit into the context."""
        options: Any = request.options
        recipe = prompted.recipe
        window_size, stride = options.windows_for(recipe.window_size, recipe.stride)
        children = getattr(options, "children", None) or recipe.children
        if recipe.kind == "compare":  # whatever the algorithm asks, the model is asked about two
            self._fit(prompted, request, prepared, 2, tally)
            return Plan(algorithm=name, window_size=window_size, stride=stride, children=children)
        wanted = question_size(name, len(prepared), window_size=window_size, children=children)
        if recipe.most_passages is not None and wanted > recipe.most_passages:
            raise InvalidOptionsError(
                f"recipe {recipe.name!r} has identifiers for {recipe.most_passages} passages, and {name} asks about {wanted}: "
                "lower window_size or children"
            )
        size = self._fit(prompted, request, prepared, wanted, tally)
        if name == "one-pass" and size < wanted:
            raise InvalidOptionsError(
                f"the context holds {size} of {wanted} passages, and one-pass asks about all: choose algorithm='groups', or "
                "lower max_passage_tokens or depth"
            )
        if ASKS[name] == "best":
            children = size - 1
        elif ASKS[name] != "compare":
            window_size, stride = size, _shrink(stride, window_size, size)
        return Plan(algorithm=name, window_size=window_size, stride=stride, children=children)

    def _fit(self, prompted: Prompted, request: Request, prepared: Sequence[str], wanted: int, tally: Tally) -> int:
        """How many passages fit into the context, with a warning where that is fewer than wanted."""
        options: Any = request.options
        room = self._room(options)
        if room is None or wanted < 2 or len(prepared) < 2:
            return wanted
        largest = largest_group(
            prompted,
            request.query,
            prepared,
            options,
            wanted=wanted,
            room=room,
            count_tokens=self._writer.prompt_tokens,
        )
        if largest < min(wanted, len(prepared)):
            logger.warning(
                "a context of %d tokens holds %d passages of this request, not %d: questions shrink; lower "
                "max_passage_tokens to keep them",
                room,
                largest,
                wanted,
            )
            tally.notes["window_size"] = largest
            return largest
        return wanted

    def _room(self, options: Any) -> int | None:
        """How many tokens a prompt and its answer may have together; None if that is unknown."""
        limits = [self._writer.context_size, getattr(options, "max_length", None)]
        return min((limit for limit in limits if limit is not None), default=None)

    def _left(self, prompt: Prompt, room: int | None) -> int | None:
        """How many tokens a prompt leaves for its answer; None if that is unknown."""
        return None if room is None else room - self._writer.prompt_tokens(prompt)


class AnswererAsker:
    """Starts the works of requests for a model that answers questions in a way of its own.

    Args:
        answerer: The model.
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def start(self, request: Request) -> tuple[_Job, Work[Asked, Answer, Outcome]]:
        """A request's job, and its work in rounds of questions.

        Raises:
            InvalidOptionsError: The model judges nothing, as ``llm-filter`` needs.
        """
        options = request.options
        if not isinstance(options, ListwiseOptions):
            raise InvalidOptionsError("this model orders passages and judges none: take a chat model for llm-filter")
        tally = Tally()
        texts = [document.text for document in request.documents[: options.depth]]
        name: Planned = options.algorithm or self._answerer.algorithm
        native = native_kind(ASKS[name], self._answerer.kinds)
        if native is None:
            raise InvalidOptionsError(
                f"algorithm={name!r} needs a model that grades passages, and this one answers to "
                f"{', '.join(sorted(self._answerer.kinds))}: leave algorithm out, or choose another"
            )
        plan = self._plan(name, native, request, texts, tally)
        algorithm = translate(plan.start(len(texts), request), lambda question: derive(question, self._answerer.kinds))
        work = translate(
            _counted(without_repeats(algorithm), tally),
            lambda question: _ask(_asked(question, request, texts, tally)),
        )
        scale: ScoreScale = self._answerer.scale if ASKS[name] == "grade" else "ordinal"
        return _Job(request, tally, scale, {"algorithm": name}), work

    def _plan(self, name: Planned, native: Kind, request: Request, texts: Sequence[str], tally: Tally) -> Plan:
        """The algorithm with questions that the model can be asked."""
        options: Any = request.options
        window_size, stride = options.windows_for(self._answerer.window_size, None)
        shows_many = native in ("order", "grade")
        children = options.children or (window_size - 1 if shows_many else _CHILDREN)
        most = self._answerer.most_passages(request.query, texts, options) if shows_many else None
        wanted = question_size(name, len(texts), window_size=window_size, children=children)
        if most is not None and most < wanted:
            if most < min(wanted, len(texts)):
                logger.warning(
                    "the model can be asked about %d passages at once, not %d: questions shrink", most, wanted
                )
                tally.notes["window_size"] = most
            stride = _shrink(stride, window_size, min(window_size, most))
            window_size, children = min(window_size, most), min(children, most - 1)
        return Plan(algorithm=name, window_size=window_size, stride=stride, children=children)


def _shrink(stride: int, window_size: int, size: int) -> int:
    """The stride of windows that shrink to ``size``, so that they overlap as much as before."""
    return max(1, min(stride * size // window_size, size))


def _asked(question: Question, request: Request, texts: Sequence[str], tally: Tally) -> Asked:
    shown = [texts[passage] for passage in question.passages]
    return Asked(question, request.query, shown, tally, request.options)


def _ask(asked: Asked) -> Work[Asked, Answer, Answer]:
    (answer,) = yield [asked]
    return answer


def _counted(algorithm: Algorithm[V], tally: Tally) -> Algorithm[V]:
    """The algorithm, whose rounds are counted."""

    def ask(questions: Sequence[Question]) -> Algorithm[Sequence[Answer]]:
        tally.rounds += 1
        return (yield questions)

    return through(algorithm, ask)


class LocalScorer(GroupScorer):
    """Scores with a model in this process: the rounds of all requests of a group run together.

    Args:
        asker: Starts the requests' works.
        do: Continues the prompts or answers the questions of one round, with the options of the call.
        close: Releases the model.
    """

    def __init__(
        self,
        asker: WriterAsker | AnswererAsker,
        do: Callable[[Any, Any], Sequence[Any]],
        close: Callable[[], None],
    ) -> None:
        self._asker, self._do, self._close = asker, do, close

    def score_group(self, requests: Sequence[Request]) -> Iterable[Scores]:
        """Score requests with the same options together."""
        jobs, works = zip(*map(self._asker.start, requests))
        options = requests[0].options
        outcomes: list[Outcome] = run(together(works), lambda items: self._do(items, options))
        return [job.scores(outcome) for job, outcome in zip(jobs, outcomes)]

    def close(self) -> None:
        """Release the model."""
        self._close()


class RemoteScorer:
    """Scores with a model behind a network: every request goes on at its own pace.

    Args:
        writer: The model.
        asker: Starts the requests' works.
    """

    def __init__(self, writer: RemoteWriter, asker: WriterAsker) -> None:
        self._writer, self._asker = writer, asker

    def score(self, request: Request) -> Scores:
        """Score one request, from any thread, inside a running event loop or not."""
        job, future = self._submit(request)
        return job.scores(result_of(future))

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        """Score several requests, as many at a time as requests may be sent; answers come in order."""
        waiting: deque[tuple[_Job, Future[Outcome]]] = deque()
        try:
            for request in requests:
                waiting.append(self._submit(request))
                if len(waiting) >= self._writer.max_concurrency:
                    job, future = waiting.popleft()
                    yield job.scores(result_of(future))
            while waiting:
                job, future = waiting.popleft()
                yield job.scores(result_of(future))
        finally:
            for _, future in waiting:
                future.cancel()

    async def ascore(self, request: Request) -> Scores:
        """Like `score`, without blocking the caller's event loop; cancelling it cancels its requests."""
        job, future = self._submit(request)
        return job.scores(await asyncio.wrap_future(future))

    def _submit(self, request: Request) -> tuple[_Job, Future[Outcome]]:
        job, work = self._asker.start(request)
        return job, self._writer.submit(work, request.options, job.tally)

    def close(self) -> None:
        """Cancel pending requests and close every connection."""
        self._writer.close()

    async def aclose(self) -> None:
        """Like `close`, without blocking the event loop."""
        await asyncio.to_thread(self._writer.close)
