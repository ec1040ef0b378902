"""A chat endpoint on loopback whose model ranks by the grade written in each passage; a module, not tests.

It reads the prompt as a model would: passages are what stands at the beginnings of lines or messages behind an identifier.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from loopback import Hit, Response

_LISTED = re.compile(r"^\[(\w+)\][:.]? (?!RELEVANT|NOT_RELEVANT)(.*)$", re.MULTILINE)
_LETTERED = re.compile(r"^Passage ([A-Z]): \"(.*)\"$", re.MULTILINE)
_NUMBERED = re.compile(r"^Document (\d+): (.*)$", re.MULTILINE)
_GRADE = re.compile(r"grade (\d+)")

Say = Callable[[dict[str, str], dict[str, Any]], str]
"""Takes the passages by identifier and the request's body, and returns the model's answer."""


def passages_in(body: dict[str, Any]) -> dict[str, str]:
    """The passages of a request by their identifiers."""
    said = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
    for pattern in (_NUMBERED, _LETTERED, _LISTED):
        if found := pattern.findall(said):
            return dict(found)
    return {}


def grade(text: str) -> int:
    """The grade that a passage has; 0 if it has none."""
    found = _GRADE.search(text)
    return int(found[1]) if found else 0


def best_first(passages: dict[str, str]) -> list[str]:
    """Identifiers by their passages' grades."""
    return sorted(passages, key=lambda name: -grade(passages[name]))


def honest(passages: dict[str, str], body: dict[str, Any]) -> str:
    """What a model that follows the prompt answers."""
    asked = body["messages"][-1]["content"]
    order = best_first(passages)
    if "top" in asked and "Document" in asked:
        wanted = int(re.search(r"top (\d+)", asked)[1])  # type: ignore[index]
        return ", ".join(f"Document {name}" for name in order[:wanted])
    if "Score these documents" in asked:
        return "{" + ", ".join(f'"[{name}]": {grade(text) / 4}' for name, text in passages.items()) + "}"
    if "Output Passage A or Passage B" in asked or "passage label" in asked:
        return f"Passage {order[0]}"
    if "verdicts" in asked:
        rows = [
            f'{{"passage": {name}, "explanation": "it says grade {grade(text)}", "relevant": {str(grade(text) > 4).lower()}}}'
            for name, text in passages.items()
        ]
        return f'{{"verdicts": [{", ".join(rows)}]}}'
    if "RELEVANT" in asked:
        return "\n".join(
            f"[{name}] {'RELEVANT' if grade(text) > 4 else 'NOT_RELEVANT'}: it says grade {grade(text)}"
            for name, text in passages.items()
        )
    return " > ".join(f"[{name}]" for name in order)


def answering(say: Say = honest, **more: Any) -> Callable[[Hit], Response]:
    """A handler that answers every request with what ``say`` returns; ``more`` are fields of the response."""

    def handle(hit: Hit) -> Response:
        text = say(passages_in(hit.body), hit.body)
        return Response(reply(text), **more)

    return handle


def reply(text: str, *, reason: str = "stop", logprobs: Any = None) -> dict[str, Any]:
    """A response of OpenAI's chat API."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{**choice, **({"logprobs": logprobs} if logprobs is not None else {})}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def with_logprobs(hit: Hit) -> Response:
    """A response whose second token is an identifier, with log-probabilities by the passages' grades."""
    passages = passages_in(hit.body)
    order = best_first(passages)
    listed = [{"token": f" {name}", "logprob": -0.5 * rank} for rank, name in enumerate(order)]
    tokens = [{"token": " [", "logprob": -0.1, "top_logprobs": []}, {**listed[0], "top_logprobs": listed[:20]}]
    return Response(reply(f"[{order[0]}", logprobs={"content": tokens}))
