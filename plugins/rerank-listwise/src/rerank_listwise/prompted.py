"""A language model that answers questions about passages: a question becomes a prompt, and its completion an answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rerank import InvalidOptionsError, MalformedRankingError, Request, sigmoid
from rerank_listwise.generator import TextMeasure
from rerank_listwise.options import PromptOptions
from rerank_listwise.permutation import identifiers, parse_choice, parse_permutation
from rerank_listwise.questions import Answer, Asked, Question, Tally
from rerank_listwise.readings import VERDICTS, Reading, read_grades, read_verdicts
from rerank_listwise.recipe import Completion, Example, Message, Prompt, Recipe
from rerank_listwise.rounds import Work

_PER_PASSAGE: Final = 8
_PER_VERDICT: Final = 96
_BESIDES: Final = 16
_PER_LABEL: Final = 4
"""Tokens that an answer needs for each passage it names, for each that it judges with a reason, and besides; and for a label, which
may follow a bracket, a quote or a word.
"""


@dataclass(frozen=True, slots=True)
class Prompted:
    """A recipe for the model at hand.

    Args:
        recipe: The recipe.
        measure: The model's tokens.
        defuse: Makes special tokens of the model's in a text plain text, and says how many; None where they are not known.
        left: How many tokens of the context a prompt leaves for its answer; None if that is unknown.
    """

    recipe: Recipe
    measure: TextMeasure
    defuse: Callable[[str], tuple[str, int]] | None = None
    left: Callable[[Prompt], int | None] = lambda prompt: None

    def prepare_request(self, request: Request, tally: Tally) -> Request:
        """A request with its query and its examples as they go into prompts."""
        options: Any = request.options
        query, defused = self._clean(request.query)
        tally.note("defused", defused)
        examples = tuple(
            Example(
                query=self._clean(example.query)[0],
                passages=tuple(self._clean(passage)[0] for passage in example.passages),
                answer=example.answer,
            )
            for example in options.examples
        )
        return replace(request, query=query, options=options.model_copy(update={"examples": examples}))

    def prepare(self, texts: Sequence[str], options: PromptOptions, tally: Tally) -> list[str]:
        """Passages as they go into prompts: without imitations of identifiers and special tokens, and cut."""
        longest = options.max_passage_tokens or self.recipe.max_passage_tokens
        prepared = []
        for text in texts:
            cleaned, defused = self._clean(text)
            kept = self.measure.cut(cleaned, longest)
            tally.note("defused", defused)
            tally.note("truncated", len(kept) < len(cleaned))
            prepared.append(kept)
        return prepared

    def _clean(self, text: str) -> tuple[str, int]:
        cleaned, count = self.recipe.clean(text)
        if self.defuse is None:
            return cleaned, count
        defused, more = self.defuse(cleaned)
        return defused, count + more

    def prompt(self, question: Question, query: str, texts: Sequence[str], options: PromptOptions) -> Prompt:
        """The prompt of a question about prepared texts, with the user's examples and settings."""
        prompt = self.recipe.prompt(query, texts, select=question.count, examples=options.examples)
        changed: dict[str, Any] = {"usual_tokens": self.answer_tokens(len(texts), options)}
        if self.recipe.structured:
            changed["schema"] = VERDICTS
        if options.temperature is not None:
            changed["temperature"] = options.temperature
        if options.max_new_tokens is not None:
            changed["max_new_tokens"] = options.max_new_tokens
        return replace(prompt, **changed)

    def answer_tokens(self, count: int, options: PromptOptions) -> int:
        """How long an answer about so many passages may be, in tokens."""
        if self.recipe.labels:
            return _PER_LABEL
        each = _PER_VERDICT if self.recipe.reads == "verdicts" else _PER_PASSAGE
        return options.max_new_tokens or self.recipe.answer_tokens or _BESIDES + each * count

    def converse(self, asked: Asked) -> Work[Prompt, Completion, Answer]:
        """Ask a question, and ask again where the options say so.

        Raises:
            MalformedRankingError: The answer is malformed and ``malformed`` is ``error``.
        """
        options: PromptOptions = asked.options
        first = prompt = self.prompt(asked.question, asked.query, asked.texts, options)
        retries = options.retries if options.malformed == "retry" and not prompt.labels else 0
        while True:
            (completion,) = yield [self._limit(prompt)]
            asked.tally.calls += 1
            asked.tally.prompt_tokens += completion.prompt_tokens
            asked.tally.completion_tokens += completion.completion_tokens
            reading = self.read(completion, asked.question)
            asked.tally.count({**reading.faults, "cut": int(completion.cut and not reading.is_whole)})
            if reading.is_whole or not retries:
                break
            retries -= 1
            prompt = self._again(first, completion.text, asked.question)
            if (left := self.left(prompt)) is not None and left < _BESIDES:
                break
            asked.tally.note("asked_again", 1)
        if not reading.is_whole and options.malformed == "error":
            raise MalformedRankingError(
                f"the model's answer about {len(asked.question.passages)} passages is malformed "
                f"({_list_faults(reading.faults)}; it begins {completion.text[:80]!r}): "
                "leave malformed='error' out to repair it, or take another model"
            )
        return reading.answer

    def _limit(self, prompt: Prompt) -> Prompt:
        """A prompt whose answer is allowed no more than the context leaves; some endpoints refuse more."""
        if prompt.max_new_tokens is None or (left := self.left(prompt)) is None:
            return prompt
        return replace(prompt, max_new_tokens=max(1, min(left, prompt.max_new_tokens)))

    def _again(self, prompt: Prompt, said: str, question: Question) -> Prompt:
        """A question with its last answer, and what was wrong with that; an empty one, which endpoints refuse, is passed over."""
        names = identifiers(len(question.passages), letters=self.recipe.letters, first=self.recipe.first)
        one = "Answer with the identifier of one passage, and nothing else."
        whole = "Answer again, for every passage, in the form described above."
        wanted = {
            "best": one,
            "compare": one,
            "select": f"Answer with the identifiers of {question.count} passages, and nothing else.",
            "grade": whole,
            "judge": whole,
            "order": f"Answer with every passage from [{names[0]}] to [{names[-1]}] exactly once, and nothing else.",
        }[question.kind]
        if said.strip():
            correction = Message("user", f"This cannot be read. {wanted}")
            return replace(
                prompt, messages=(*prompt.messages, Message("assistant", self.recipe.begun + said), correction)
            )
        *before, asked = prompt.messages
        return replace(prompt, messages=(*before, Message("user", f"{asked.content}\n\n{wanted}")))

    def read(self, completion: Completion, question: Question) -> Reading:
        """The answer in a completion."""
        recipe, passages = self.recipe, question.passages
        count = len(passages)
        if recipe.labels and completion.logits is not None:
            return self._read_labels(completion.logits, question)
        text = recipe.begun + completion.text
        if recipe.reads == "grades":
            return read_grades(text, question, recipe)
        if recipe.reads == "verdicts":
            return read_verdicts(text, question, recipe.first)
        if recipe.reads == "choice" or recipe.labels:
            choice = parse_choice(text, count, letters=recipe.letters, first=recipe.first)
            if choice is None:
                return _unreadable(question)
            rest = passages[:choice] + passages[choice + 1 :] if question.kind not in ("best", "select") else ()
            return Reading(Answer((passages[choice], *rest), named=1), {}, True)
        ties = passages if recipe.reads == "ties" else False
        permutation = parse_permutation(text, count, letters=recipe.letters, ties=ties, first=recipe.first)
        order = tuple(passages[position] for position in permutation.order)
        if question.kind == "select":
            named = min(permutation.named, question.count)
            faults = dict(permutation.faults)
            if permutation.is_given:
                faults["missing"] = question.count - named
            return Reading(Answer(order[:named]), faults, named == question.count)
        return Reading(Answer(order, named=permutation.named), permutation.faults, permutation.is_whole)

    def _read_labels(self, logits: Mapping[str, float], question: Question) -> Reading:
        """Passages by the probability of their identifiers; those that are not known come last."""
        names = identifiers(len(question.passages), letters=self.recipe.letters, first=self.recipe.first)
        known = {passage: logits[name] for passage, name in zip(question.passages, names) if name in logits}
        if not known:
            return _unreadable(question)
        if question.kind == "compare" and len(known) == 2:
            return Reading(_preferred(known), {}, True)
        order = sorted(question.passages, key=lambda passage: -known.get(passage, float("-inf")))
        answer = Answer(tuple(order[:1] if question.kind == "best" else order), named=len(known))
        return Reading(answer, {"unlisted": len(names) - len(known)}, True)


def _unreadable(question: Question) -> Reading:
    """What is left of an answer that names no passage: an order is that of the question."""
    order = question.passages if question.kind == "order" else ()
    return Reading(Answer(order, named=0), {"unreadable": 1}, False)


def _preferred(logits: Mapping[int, float]) -> Answer:
    """Which of two passages is better, with the probability that each is."""
    (first, logit), (second, other) = logits.items()
    probability = sigmoid(logit - other)
    order = (first, second) if probability >= 0.5 else (second, first)
    return Answer(order, {first: probability, second: 1 - probability})


def _list_faults(faults: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in faults.items() if number) or "no identifier"


def largest_group(
    prompted: Prompted,
    query: str,
    texts: Sequence[str],
    options: PromptOptions,
    *,
    wanted: int,
    room: int,
    count_tokens: Callable[[Prompt], int],
) -> int:
    """How many of some passages one question can have, whichever they are: at most ``wanted``.

    Args:
        prompted: The recipe for the model at hand.
        query: The query, prepared.
        texts: All passages, prepared; two at least.
        options: The options of the call.
        wanted: At most so many.
        room: How many tokens prompt and answer may have together.
        count_tokens: How many tokens a prompt has.

    Raises:
        InvalidOptionsError: Not even two passages fit.
    """
    longest = sorted(prompted.measure.count(texts), reverse=True)

    def is_too_large(size: int) -> bool:
        empty = prompted.prompt(Question("order", tuple(range(size))), query, [""] * size, options)
        answer = prompted.answer_tokens(size, options)
        if options.max_new_tokens is None:  # a recipe allows what a large context has
            answer = min(answer, room // 2)
        return count_tokens(empty) + sum(longest[:size]) + answer > room

    sizes = range(2, min(wanted, len(texts)) + 1)
    fitting = bisect_left(sizes, True, key=is_too_large)
    if fitting:
        return sizes[fitting - 1]
    raise InvalidOptionsError(
        f"a context of {room} tokens holds no question with two passages of up to {longest[0]} tokens: "
        "lower max_passage_tokens or max_new_tokens, or take a model with a longer context"
    )
