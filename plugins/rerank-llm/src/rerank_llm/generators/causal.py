"""The generator ``torch``: causal language models on this machine that write (RankZephyr, ReasonRank, Qwen, Llama …)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rerank import (
    FastTokens,
    InvalidOptionsError,
    ModelLoadError,
    ModelRef,
    find_pad_id,
    read_tokenizer_config,
    special_token,
)
from rerank_listwise.generator import Generator, TextMeasure
from rerank_listwise.permutation import ANSWER_MARK, open_thought
from rerank_listwise.recipe import Completion, Prompt
from rerank_llm.defusing import Defuser
from rerank_llm.generators.causal_options import CausalWriterOptions, claim, writing_head
from rerank_llm.generators.conversation import Conversation, Render, check_arguments, find_marks, write_frame
from rerank_llm.options import LoadingOptions, choose_loading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rerank_llm.forwards.writing import Choosing, Writing
    from rerank_torch.rows import Row

CPU_TOKENS: Final = 4_096
"""Token count per batch that writes on a CPU, answers included.

Every step reads all weights once for all rows of a batch: with a Llama of 58 million parameters on one core, a row of 150 tokens
with 24 written ones took 0.99 s alone, 0.52 by 4, 0.37 by 8, 0.29 by 16 and by 32. Long rows gain nothing, since reading a padded
batch takes longer: with 35 million parameters, 2,500 tokens with 80 written ones took 2.9 s alone, 3.9 by 2 and 2.9 by 4.
"""

_STRETCHED: Final = frozenset(("linear", "dynamic", "yarn"))
"""Kinds of rotary embeddings whose factor is not yet in the positions that a configuration states."""


class CausalWriter:
    """A causal language model that continues prompts. Safe to call from several threads at once.

    The conversation is written with the checkpoint's chat template, and begins with what the tokenizer itself puts before a
    text, once. ``completion_tokens`` counts the end token, as servers do. At a temperature above 0 a prompt always gets the same
    answer, since what is drawn comes from its own tokens; in bf16 and fp16, rounding may let it depend on the rest of its batch.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it: those of the backend and of the generator.

    Attributes:
        measure: The model's tokens.
        defuse: Makes special tokens in a text plain text, and says how many there were.
        context_size: How many tokens prompt and answer may have together; None if that is unknown.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, or is of a kind that writes no text.
        InvalidOptionsError: A device is not available, or the chat template has no use for an argument.
    """

    def __init__(self, model: ModelRef, options: Any) -> None:
        _check_kind(model)
        model.check_files()
        from rerank_llm.forwards.writing import CausalWritingForward
        from rerank_torch.loading import load_config
        from rerank_torch.rows import Padding
        from rerank_torch.runner import Runner
        from rerank_torch.tokens import load_tokens

        loading = choose_loading(options)
        config = load_config(model, loading).get_text_config()
        tokens = load_tokens(model, loading)
        if not isinstance(tokens, FastTokens):
            raise ModelLoadError(f"{model.name} has a tokenizer without offsets: save its tokenizer.json beside it")
        tokenizer_config = {**read_tokenizer_config(model), **loading.tokenizer_kwargs}
        positions = count_positions(config)
        self._name, self._tokens = model.name, tokens
        self.measure: TextMeasure = tokens
        self.context_size = positions

        render = _load_template(model, loading, options.chat_template_kwargs)
        frame = write_frame(model.name, render)
        self.defuse = Defuser.of(tokens, frame, find_marks(frame))
        self._conversation = Conversation(model.name, render, options.chat_template_kwargs)
        self._begin = tokens.single_layout().before

        special = {id_: token for id_, token in tokens.tokenizer.get_added_tokens_decoder().items() if token.special}
        stated = _stated_ends(model, config, tokens.find(special_token(tokenizer_config, "eos") or ""))
        self._ends = stated | (_end_of_turn(render, tokens) & special.keys())
        self._hidden = {id_ for id_, token in special.items() if not ANSWER_MARK.fullmatch(token.content)} | self._ends

        pad_id = find_pad_id(tokens, model.config, tokenizer_config)
        start = partial(
            CausalWritingForward,
            model=model,
            options=loading,
            ends=sorted(self._ends),
            pad_id=pad_id,
            context_size=positions,
        )
        self._runner = Runner(start, loading, Padding(pad_id, side="left"))

    def write(self, prompts: Sequence[Prompt], options: Any) -> Sequence[Completion]:
        """Continue prompts, in batches, or read the probabilities of their labels.

        Args:
            prompts: The prompts.
            options: The options of the call.

        Raises:
            InvalidOptionsError: A prompt does not fit into the context with its answer, the chat template refuses it, or the
                vocabulary has no token for any of its labels.
            ScoringError: The model's values are no numbers.
            OutOfMemoryError: One prompt alone does not fit into memory.
        """
        from rerank_llm.forwards.writing import Choosing, Writing

        asked = self._prepare(prompts, options)
        choosing = Choosing(tuple(sorted({token for one in asked for ids in one.spellings.values() for token in ids})))
        groups: dict[Writing | Choosing, list[int]] = {}
        for place, one in enumerate(asked):
            writing = Writing(one.prompt.temperature, one.prompt.top_p)
            groups.setdefault(choosing if one.prompt.labels else writing, []).append(place)
        completions: dict[int, Completion] = {}
        for task, places in groups.items():
            on_cpu = self._runner.devices[0].startswith("cpu")
            budget = CPU_TOKENS if on_cpu and isinstance(task, Writing) else None
            values = self._runner([asked[place].row for place in places], options, budget, shared=task)
            for place, value in zip(places, values):
                if isinstance(task, Choosing):
                    completions[place] = _choose(asked[place], task.tokens, value)
                else:
                    completions[place] = self._read(asked[place], value)
        return [completions[place] for place in range(len(asked))]

    def prompt_tokens(self, prompt: Prompt) -> int:
        """How many tokens the model would read, with its chat template and special tokens."""
        return len(self._encode([self._conversation.write(prompt)])[0])

    def _prepare(self, prompts: Sequence[Prompt], options: Any) -> list[_Encoded]:
        """Prompts as the model reads them."""
        from rerank_torch.rows import Row

        longest = _least(self.context_size, options.max_length)
        written = [self._conversation.write(prompt) for prompt in prompts]
        return [
            _Encoded(
                prompt,
                Row(ids, room=self._room(prompt, len(ids), longest)),
                self._spell(prompt.labels),
                open_thought(text),
            )
            for prompt, text, ids in zip(prompts, written, self._encode(written))
        ]

    def _encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids, with what the tokenizer puts before a text, if the chat template has not put it there already."""
        begin = self._begin
        every = map(tuple, self._tokens(texts))
        return [ids if ids[: len(begin)] == begin else (*begin, *ids) for ids in every]

    def _room(self, prompt: Prompt, prompt_len: int, longest: int | None) -> int:
        """How many tokens the answer to a prompt may have: as many as are left where nothing says how many."""
        wanted = 1 if prompt.labels else prompt.max_new_tokens or prompt.usual_tokens
        if longest is None:
            if wanted is None:
                raise InvalidOptionsError(f"{self._name} does not say how long its context is: give max_new_tokens")
            return wanted
        left = longest - prompt_len
        if left < 1:
            raise InvalidOptionsError(
                f"a prompt of {prompt_len} tokens does not fit into a context of {longest} with an answer: lower "
                "max_passage_tokens or window_size"
            )
        return min(left, wanted or left)

    def _spell(self, labels: Sequence[str]) -> dict[str, list[int]]:
        """The tokens that are each label, alone or with a space before; without the labels that no token is.

        Raises:
            InvalidOptionsError: No label is a token.
        """
        spellings = {
            label: [token for space in ("", "▁", "Ġ") if (token := self._tokens.find(space + label)) is not None]
            for label in labels
        }
        known = {label: tokens for label, tokens in spellings.items() if tokens}
        if labels and not known:
            raise InvalidOptionsError(
                f"the vocabulary of {self._name} has no token for any of {', '.join(labels)}: give answers='text', or a recipe= "
                "with other identifiers"
            )
        return known

    def _read(self, asked: _Encoded, value: NDArray[Any]) -> Completion:
        """The completion in the token ids that the model wrote."""
        ids = [int(token) for token in value]
        shown = [token for token in ids if token not in self._hidden]
        return Completion(
            text=asked.thought + self._tokens.tokenizer.decode(shown, skip_special_tokens=False),
            prompt_tokens=len(asked.row.ids),
            completion_tokens=len(ids),
            cut=ids[-1] not in self._ends,
        )

    def close(self) -> None:
        """End the streams and the processes."""
        self._runner.close()


class _Encoded(NamedTuple):
    """A prompt as the model reads it.

    Args:
        prompt: The prompt.
        row: Its token ids, and how many tokens its answer may have.
        spellings: The tokens of each of its labels.
        thought: The mark with which it begins the model's chain of thought.
    """

    prompt: Prompt
    row: Row
    spellings: Mapping[str, Sequence[int]]
    thought: str


def _choose(asked: _Encoded, tokens: Sequence[int], value: NDArray[Any]) -> Completion:
    """The completion in the log-probabilities of tokens: of several spellings of a label the most probable counts."""
    known = dict(zip(tokens, map(float, value)))
    logits = {label: max(known[token] for token in ids) for label, ids in asked.spellings.items()}
    return Completion(text="", logits=logits, prompt_tokens=len(asked.row.ids))


def count_positions(config: Any) -> int | None:
    """How many tokens a model reads, by its configuration of transformers; None if it states no limit."""
    stated: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if stated is None or rope.get("rope_type", rope.get("type")) not in _STRETCHED:
        return stated
    original = rope.get("original_max_position_embeddings") or stated
    return max(stated, int(original * rope.get("factor", 1)))


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _check_kind(model: ModelRef) -> None:
    """Check that a checkpoint writes text.

    Raises:
        ModelLoadError: Its architecture does not, or another generator runs it.
    """
    if model.gguf_file is not None:
        raise ModelLoadError(
            f"{model.name} is a GGUF file, which generator='torch' does not read: leave generator= out"
        )
    stated = model.config.get("architectures")
    if stated and writing_head(model.config) is None:
        raise ModelLoadError(
            f"{model.name} is a {stated[0]}, which is no causal language model: leave generator= out, or give a checkpoint "
            "that continues prompts"
        )


def _load_template(model: ModelRef, options: LoadingOptions, arguments: Mapping[str, Any]) -> Render | None:
    """The chat template of a checkpoint; None if it has none.

    Raises:
        InvalidOptionsError: It does not read one of its arguments, or there is no template to read them.
    """
    from rerank_torch.loading import load_tokenizer

    tokenizer = load_tokenizer(model, options)
    template = tokenizer.chat_template
    check_arguments(model.name, template, arguments)
    return partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True) if template else None


def _stated_ends(model: ModelRef, config: Any, by_tokenizer: int | None) -> frozenset[int]:
    """The tokens that end a text by the tokenizer, by ``config.json`` and by ``generation_config.json``."""
    file = "generation_config.json"
    stated = [
        by_tokenizer,
        config.eos_token_id,
        model.read_json(file).get("eos_token_id") if file in model.files else None,
    ]
    return frozenset(
        end for one in stated for end in (one if isinstance(one, list) else [one]) if isinstance(end, int) and end >= 0
    )


def _end_of_turn(render: Render | None, tokens: FastTokens) -> frozenset[int]:
    """The token that follows an answer in the chat template, if any does."""
    if render is None:
        return frozenset()
    mark = "\ue000"
    said = [{"role": "user", "content": "0"}, {"role": "assistant", "content": mark}]
    after = render(said, add_generation_prompt=False).rpartition(mark)[2].lstrip()
    (ids,) = tokens([after])
    return frozenset(ids[:1])


GENERATOR: Final = Generator(
    name="torch",
    summary="causal language models that write (RankZephyr, ReasonRank, Qwen, Llama …) on torch",
    claim=claim,
    options=CausalWriterOptions,
    load=CausalWriter,
)
"""The generator of this module."""
