"""GGUF chat models through llama-cpp-python: FlashRank's RankZephyr and any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rerank import InvalidOptionsError, ModelRef
from rerank_listwise.generator import Generator, TextMeasure
from rerank_listwise.permutation import open_thought
from rerank_listwise.recipe import Completion, Prompt
from rerank_llm.defusing import Defuser
from rerank_llm.generators.conversation import Conversation, check_arguments, find_marks, write_frame
from rerank_llm.generators.gguf_files import claim, find_file
from rerank_llm.generators.gguf_options import GgufOptions

if TYPE_CHECKING:
    from rerank_llm.forwards.gguf import GgufModel


class GgufTokens:
    """The tokens of a GGUF model.

    Args:
        model: The model.
    """

    def __init__(self, model: GgufModel) -> None:
        self._model = model

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without special tokens."""
        return [len(self._model.encode(text)) for text in texts]

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most so many tokens; a character is not cut."""
        ids = self._model.encode(text)
        if len(ids) <= tokens:
            return text
        pieces = self._model.pieces(ids)
        whole = b"".join(pieces).decode("utf-8", errors="replace")
        kept = b"".join(pieces[:tokens]).decode("utf-8", errors="ignore")
        return kept[len(whole) - len(text) :] if whole.endswith(text) else kept  # some put a space before the text


class GgufWriter:
    """A GGUF chat model. Prompts run one after another, and no answer depends on the prompts before.

    ``completion_tokens`` counts the end token. At a temperature above 0 a prompt always gets the same answer.

    Args:
        model: Where the file is.
        options: How to load it: those of the backend and of the generators.

    Attributes:
        measure: Its tokens.
        defuse: Makes special tokens in a text plain text, and says how many there were.
        context_size: How many tokens prompt and answer may have together.

    Raises:
        ModelLoadError: The file is missing, damaged, or of an architecture that llama.cpp does not know.
        InvalidOptionsError: llama-cpp-python is not installed, or an option names what does not exist.
    """

    context_size: int | None

    def __init__(self, model: ModelRef, options: Any) -> None:
        try:
            from rerank_llm.forwards.gguf import GgufModel
        except ImportError as error:
            raise InvalidOptionsError(
                f"the generator 'gguf' needs llama-cpp-python ({error}): pip install 'rerank-llm[gguf]'"
            ) from error

        self._name = model.name
        own = GgufOptions(**{name: getattr(options, name) for name in GgufOptions.model_fields})
        self._model = GgufModel(find_file(model, own.gguf_file), own)
        self.measure: TextMeasure = GgufTokens(self._model)
        self.context_size = self._model.context_size
        template = self._model.template
        check_arguments(model.name, template and template.template, own.chat_template_kwargs)
        render = None if template is None else self._model.render
        self.defuse = Defuser(find_marks(write_frame(model.name, render)) | self._model.marks)
        self._conversation = Conversation(model.name, render, own.chat_template_kwargs)

    def write(self, prompts: Sequence[Prompt], options: Any) -> Sequence[Completion]:
        """Continue prompts, one after another.

        Raises:
            InvalidOptionsError: A prompt does not fit into the context, the chat template refuses it, or the vocabulary has no
                token for any of its labels.
            ScoringError: llama.cpp failed, or the model is closed.
        """
        return [self._complete(prompt) for prompt in prompts]

    def _complete(self, prompt: Prompt) -> Completion:
        asked = self._conversation.write(prompt)
        ids = self._model.encode(asked, as_prompt=True)
        left = self._model.context_size - len(ids)
        if left < 1:
            raise InvalidOptionsError(
                f"a prompt has {len(ids)} tokens, and the context holds {self._model.context_size} with the answer: "
                "lower window_size or max_passage_tokens, or raise context_size"
            )
        if prompt.labels:
            logits = self._model.next_logprobs(ids, prompt.labels)
            if not logits:
                raise InvalidOptionsError(
                    f"the vocabulary of {self._name} has no token for any of {', '.join(prompt.labels)}: give answers='text', or "
                    "a recipe= with other identifiers"
                )
            return Completion(text="", logits=logits, prompt_tokens=len(ids))
        written = self._model.write(
            ids,
            min(left, prompt.max_new_tokens or prompt.usual_tokens or left),
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            schema=prompt.schema,
        )
        return Completion(
            text=open_thought(asked) + written.text,
            prompt_tokens=len(ids),
            completion_tokens=written.tokens,
            cut=written.cut,
        )

    def prompt_tokens(self, prompt: Prompt) -> int:
        """How many tokens the model would read, with its chat template and special tokens."""
        return len(self._model.encode(self._conversation.write(prompt), as_prompt=True))

    def close(self) -> None:
        """Free the model; called once."""
        self._model.close()


GENERATOR: Final = Generator(
    name="gguf",
    summary="GGUF chat models (FlashRank's RankZephyr and any other), through llama-cpp-python",
    claim=claim,
    options=GgufOptions,
    load=GgufWriter,
)
"""The generator of this module."""
