"""From a prompt's messages to the text that a model on this machine continues. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from rerank import InvalidOptionsError, ModelLoadError
from rerank_listwise.recipe import Message, Prompt


class Render(Protocol):
    """A checkpoint's chat template."""

    def __call__(self, messages: Sequence[Mapping[str, str]], **arguments: Any) -> str:
        """The text of a conversation, up to where the model answers; raises where the template refuses it."""
        ...


VICUNA: Final = ("USER:", "ASSISTANT:")
"""How Vicuna marks who speaks (FastChat's conversation ``vicuna_v1.1``)."""

_ROOM_TO_THINK: Final = 1_024
"""Tokens of an answer from which on a model that can think before it answers may do so."""

_MARK: Final = re.compile(rf"<[^<>\s]{{1,40}}>+|<<[A-Z]+>>|\[/?[A-Z_]+\]|{'|'.join(VICUNA)}")
"""What chat templates mark turns with, be it a token or plain text, such as ``<|user|>``, ``[INST]`` and ``<<SYS>>``."""


def write_frame(name: str, render: Render | None) -> str:
    """A conversation about nothing, of which only the marks of its turns are left.

    Args:
        name: The model's name, for errors.
        render: The chat template; None where the checkpoint has none.

    Raises:
        ModelLoadError: The chat template refuses a plain conversation.
    """
    if render is None:
        return " ".join(VICUNA)
    said = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "0"}, {"role": "user", "content": "0"}]
    try:
        return render(said)
    except Exception as error:  # a template raises whatever it likes
        raise ModelLoadError(
            f"the chat template of {name} cannot be rendered ({type(error).__name__}: {error}): fetch the checkpoint again"
        ) from error


def find_marks(frame: str) -> frozenset[str]:
    """What a text must not contain, or it might imitate a turn of a conversation of this frame."""
    return frozenset(_MARK.findall(frame))


def check_arguments(name: str, template: str | None, arguments: Mapping[str, Any]) -> None:
    """Check that a chat template reads its further arguments.

    Args:
        name: The model's name, for errors.
        template: The chat template's source; None where the checkpoint has none.
        arguments: The arguments.

    Raises:
        InvalidOptionsError: It does not read one, or there is no template.
    """
    if arguments and not template:
        raise InvalidOptionsError(f"{name} has no chat template: leave chat_template_kwargs out")
    if unread := next((one for one in arguments if not re.search(rf"\b{re.escape(one)}\b", str(template))), None):
        raise InvalidOptionsError(
            f"the chat template of {name} does not read {unread!r}: take it out of chat_template_kwargs"
        )


class Conversation:
    """How a model on this machine is spoken to: by its chat template, or as the recipe says where it has none.

    A model that can think first, such as Qwen3, is told to do so (``enable_thinking``) where its answer may have 1,024 tokens or
    more, as with recipes of reasoning models, and not to do so otherwise: its thoughts would be cut.

    Args:
        name: The model's name, for errors.
        render: Its chat template; None where the checkpoint has none.
        arguments: Further arguments of the template.
    """

    def __init__(
        self,
        name: str,
        render: Render | None,
        arguments: Mapping[str, Any],
    ) -> None:
        self._name, self._render, self._arguments = name, render, arguments

    def write(self, prompt: Prompt) -> str:
        """The text that the model continues.

        Raises:
            InvalidOptionsError: The chat template refuses the conversation.
        """
        if self._render is not None:
            text = self._by_template(self._render, prompt)
        elif prompt.without_chat_template == "vicuna":
            text = _as_vicuna(prompt.messages)
        else:
            text = "\n".join(message.content for message in prompt.messages) + "\n"
        return text.removesuffix(prompt.begun) + prompt.begun  # some templates begin the answer like that themselves

    def _by_template(self, render: Render, prompt: Prompt) -> str:
        room = 0 if prompt.labels else prompt.max_new_tokens or 0
        arguments = {"enable_thinking": room >= _ROOM_TO_THINK, **self._arguments}
        refused: Exception | None = None
        for tried in dict.fromkeys((prompt.messages, _join_system(prompt.messages, prompt.joins_system))):
            try:
                text = render([{"role": m.role, "content": m.content} for m in tried], **arguments)
            except Exception as error:  # a template raises whatever it likes
                refused = error
                continue
            given = [message.content.strip() for message in tried if message.role != "assistant"]
            if all(content in text for content in given):  # some templates leave out the system message
                return text
        reason = "it leaves out a message" if refused is None else f"{type(refused).__name__}: {refused}"
        raise InvalidOptionsError(
            f"the chat template of {self._name} cannot write this conversation ({reason}): choose a recipe= with one user "
            "message, or check chat_template_kwargs"
        ) from refused


def _join_system(messages: tuple[Message, ...], joint: str) -> tuple[Message, ...]:
    """The conversation with its system message at the beginning of the first user message."""
    system, *rest = messages
    if system.role != "system" or not rest:
        return messages
    return Message(rest[0].role, system.content + joint + rest[0].content), *rest[1:]


def _as_vicuna(messages: Sequence[Message]) -> str:
    """``system USER: … ASSISTANT: …</s>USER: … ASSISTANT:`` (FastChat's ``vicuna_v1.1``)."""
    user, assistant = VICUNA
    text = ""
    for message in messages:
        if message.role == "assistant":
            text += f"{assistant} {message.content}</s>"
        else:
            text += message.content + " " if message.role == "system" else f"{user} {message.content} "
    return text + assistant
