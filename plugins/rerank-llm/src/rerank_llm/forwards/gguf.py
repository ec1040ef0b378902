"""A GGUF file in llama.cpp: its tokens, its chat template, and how it continues a prompt."""

from __future__ import annotations

import ctypes
import inspect
import json
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from numpy.typing import NDArray

from rerank import ForkSafeLock, InvalidOptionsError, ModelLoadError, ScoringError, available_cores
from rerank_listwise.permutation import ANSWER_MARK
from rerank_llm.generators.gguf_options import GgufOptions

logger = logging.getLogger(__name__)

_LONGEST_CONTEXT: Final = 8_192
"""Tokens of context at most, where the user does not say."""

_SEED: Final = 0
"""Where sampling starts, for every prompt anew."""

_SPECIAL: Final = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
)
"""Attributes of the tokens that llama.cpp looks for in a text before it splits the rest."""

_LONGEST_LABEL: Final = 8
"""Bytes that a label may have."""

_WARNING, _ERROR = 3, 4
"""Levels of llama.cpp's log."""

_errors: deque[str] = deque(maxlen=4)
"""The last errors that llama.cpp logged."""


def _pass_on(level: int, text: bytes, data: Any) -> None:
    """Pass a line of llama.cpp's log on to this module's logger; llama-cpp-python would print warnings and errors."""
    line = text.decode("utf-8", errors="replace").rstrip()
    if level == _ERROR:
        _errors.append(line)
    logger.log(logging.INFO if level in (_WARNING, _ERROR) else logging.DEBUG, "%s", line)


_log: Final = llama_cpp.llama_log_callback(_pass_on)  # llama.cpp keeps no reference
llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))


class Written(NamedTuple):
    """How a model continued a prompt.

    Args:
        text: What it wrote, without special tokens.
        tokens: How many tokens that are, with the one that ends it.
        cut: Whether it reached the limit.
    """

    text: str
    tokens: int
    cut: bool


class GgufModel:
    """A GGUF file in memory. llama.cpp runs it for one thread at a time; the others wait.

    Args:
        file: The file; of a model in several parts the first.
        options: How to load it.

    Attributes:
        context_size: How many tokens prompt and answer may have together.
        marks: The texts of its special tokens.

    Raises:
        ModelLoadError: The file is damaged, llama.cpp does not know its architecture, or memory is short.
        InvalidOptionsError: ``context_size`` is above the model's own, or ``model_kwargs`` contains what ``llama_cpp.Llama``
            does not take.
    """

    def __init__(self, file: Path, options: GgufOptions) -> None:
        self._name = file.name
        self._lock = ForkSafeLock(reentrant=True)
        size = _choose_context(file, options)
        self._llama: Any = _load(file, options, size)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        if not self._is_chat_model():
            self.close()
            raise ModelLoadError(f"{file.name} is an encoder and writes no text: give a chat model")
        self.context_size: int = min(size, self._llama.n_ctx())
        self.marks = frozenset(self._find_marks())

    def close(self) -> None:
        """Free the model, once the thread that uses it has done so."""
        with self._lock:
            if self._llama is not None:
                self._llama.close()
                self._llama = None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """The model, for this thread alone; llama.cpp crashes where one is used that is closed."""
        with self._lock:
            if self._llama is None:
                raise ScoringError("the model is closed: build another Reranker")
            yield self._llama

    def _is_chat_model(self) -> bool:
        """Whether the model continues texts, as embedding models, rerankers and T5 do not."""
        if llama_cpp.llama_model_has_encoder(self._llama.model):
            return False
        return bool(llama_cpp.llama_pooling_type(self._llama.ctx) == llama_cpp.LLAMA_POOLING_TYPE_NONE)

    def _find_marks(self) -> Iterator[str]:
        for token in range(self._llama.n_vocab()):
            if llama_cpp.llama_vocab_get_attr(self._vocabulary, token) & _SPECIAL:
                text = self._text_of(token)
                if len(text) > 1 and text.replace("▁", " ").strip():  # Gemma has tokens of several spaces
                    yield text

    def _text_of(self, token: int) -> str:
        """A token as the file has it; empty for a token that the file lacks."""
        if token < 0:
            return ""
        text: bytes = llama_cpp.llama_vocab_get_text(self._vocabulary, token)
        return text.decode("utf-8", errors="replace")

    @cached_property
    def template(self) -> Jinja2ChatFormatter | None:
        """The file's chat template, in a sandbox; None if it has none."""
        with self._opened() as llama:
            source = llama_cpp.llama_model_chat_template(llama.model, None)
            if source is None:
                return None
            return Jinja2ChatFormatter(
                template=source.decode("utf-8", errors="replace"),
                bos_token=self._text_of(llama.token_bos()),
                eos_token=self._text_of(llama.token_eos()),
            )

    def render(self, messages: Sequence[Mapping[str, str]], **arguments: Any) -> str:
        """The text of a conversation by the chat template; raises whatever that raises."""
        assert self.template is not None
        return str(self.template(messages=list(messages), **arguments).prompt)

    def encode(self, text: str, *, as_prompt: bool = False) -> list[int]:
        """The tokens of a text.

        Args:
            text: The text.
            as_prompt: Special tokens are read as such, and the one that begins a prompt stands first, if the model has one.
        """
        with self._opened() as llama:
            ids: list[int] = llama.tokenize(text.encode("utf-8", errors="replace"), add_bos=False, special=as_prompt)
            if as_prompt and llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
                begin = llama.token_bos()
                return ids if ids[:1] == [begin] else [begin, *ids]
            return ids

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token, of which a character may have several; none of a special token."""
        with self._opened():
            return [self._piece(token) for token in tokens]

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _shown(self, token: int) -> bytes:
        """A token's bytes in an answer; of special ones those that mark a chain of thought or the answer are shown."""
        piece = self._piece(token)
        if not piece and ANSWER_MARK.fullmatch(text := self._text_of(token)):
            return text.encode()
        return piece

    def write(
        self, ids: Sequence[int], longest: int, *, temperature: float, top_p: float, schema: Mapping[str, Any] | None
    ) -> Written:
        """Continue a prompt up to the model's own end.

        Args:
            ids: The prompt's tokens.
            longest: How many tokens it may write.
            temperature: Temperature of sampling; 0 takes the most probable token.
            top_p: Share of probability that is sampled from.
            schema: A JSON schema that the answer is held to, where llama.cpp understands it.

        Raises:
            ScoringError: llama.cpp failed, or the model is closed.
        """
        written: list[int] = []
        with self._opened() as llama:
            grammar = None if schema is None else self._grammar(json.dumps(schema))
            with self._generating(llama, ids, temp=temperature, top_p=top_p, grammar=grammar) as tokens:
                for token in tokens:
                    written.append(token)
                    ended = bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))
                    if ended or len(written) == longest:
                        break
            said = written[:-1] if ended else written
            text = b"".join(map(self._shown, said)).decode("utf-8", errors="replace")
        return Written(text, len(written), not ended)

    @contextmanager
    def _generating(self, llama: Any, ids: Sequence[int], **sampling: Any) -> Iterator[Iterator[int]]:
        """The tokens that follow a prompt.

        It is read from its beginning: what an earlier prompt left of the same tokens would differ as their batches did, and
        with them the answer.
        """
        llama.reset()
        llama.set_seed(_SEED)
        try:
            with closing(llama.generate(ids, top_k=0, min_p=0.0, repeat_penalty=1.0, **sampling)) as tokens:
                yield tokens
        except RuntimeError as error:
            raise ScoringError(
                f"llama.cpp failed on a prompt of {len(ids)} tokens ({error}): lower context_size or gpu_layers if memory is "
                "short"
            ) from error

    def _grammar(self, schema: str) -> llama_cpp.LlamaGrammar | None:
        """What holds an answer to a JSON schema; None for one that llama.cpp does not understand."""
        try:
            grammar = llama_cpp.LlamaGrammar.from_json_schema(schema, verbose=False)
        except Exception as error:  # it raises whatever its steps raise
            logger.info("llama.cpp understands no grammar of this schema (%s): the answer is free", error)
            return None
        sampler = llama_cpp.llama_sampler_init_grammar(self._vocabulary, grammar._grammar.encode(), b"root")
        if not sampler:
            logger.info("llama.cpp understands no grammar of this schema: the answer is free")
            return None
        llama_cpp.llama_sampler_free(sampler)
        return grammar

    def next_logprobs(self, ids: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
        """The log-probability of each label as the next token, as far as a single token spells it.

        Args:
            ids: The prompt's tokens.
            labels: The labels; of their spellings, with and without a space before them, the most probable counts.

        Raises:
            ScoringError: llama.cpp failed, or the model is closed.
        """
        with self._opened() as llama, self._generating(llama, ids, temp=0.0) as tokens:
            next(tokens)  # the prompt is read before the first token comes
            last = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
            logits: NDArray[np.float32] = np.ctypeslib.as_array(last, shape=(llama.n_vocab(),))  # (vocabulary,)
            highest = logits.max()
            logprobs = logits - highest - np.log(np.exp(logits - highest).sum())
        return {
            label: float(max(logprobs[token] for token in self._spellings[label]))
            for label in labels
            if label in self._spellings
        }

    @cached_property
    def _spellings(self) -> Mapping[str, Sequence[int]]:
        """Tokens by the short word or number that they spell."""
        found: dict[str, list[int]] = {}
        with self._opened() as llama:
            for token in range(llama.n_vocab()):
                if llama_cpp.llama_vocab_get_attr(self._vocabulary, token) & llama_cpp.LLAMA_TOKEN_ATTR_NORMAL:
                    word = self._piece(token).removeprefix(b" ")
                    if len(word) <= _LONGEST_LABEL and word.isalnum():
                        found.setdefault(word.decode("ascii"), []).append(token)
        return found


def _choose_context(file: Path, options: GgufOptions) -> int:
    """How many tokens of context to reserve.

    Raises:
        ModelLoadError: The file is damaged.
        InvalidOptionsError: ``context_size`` is above what the model was trained with, and nothing stretches its positions.
    """
    trained = _read_context(file)
    if trained is None:
        return options.context_size or _LONGEST_CONTEXT
    if options.context_size is None:
        return min(trained, _LONGEST_CONTEXT)
    is_stretched = any(name.startswith(("rope_", "yarn_")) for name in options.model_kwargs)
    if options.context_size > trained and not is_stretched:
        raise InvalidOptionsError(
            f"context_size {options.context_size} is above the {trained} tokens that {file.name} was trained with: lower it"
        )
    return options.context_size


def _read_context(file: Path) -> int | None:
    """How many tokens of context a model was trained with, by its file's header, if that says so.

    Raises:
        ModelLoadError: The file is damaged.
    """
    llama_cpp.llama_backend_init()
    how = llama_cpp.llama_model_default_params()
    how.vocab_only = True
    _errors.clear()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(file), how)
    if not model:
        raise _cannot_load(file)
    try:
        architecture = _read_value(model, "general.architecture")
        length = _read_value(model, f"{architecture}.context_length")
    finally:
        llama_cpp.llama_model_free(model)
    return int(length) if length.isdecimal() and int(length) else None


def _read_value(model: Any, key: str) -> str:
    """A short value of a file's header, as text; empty if there is none."""
    buffer = ctypes.create_string_buffer(128)
    llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", errors="replace")


def _load(file: Path, options: GgufOptions, context_size: int) -> Any:
    """A file in memory, with its context.

    Raises:
        ModelLoadError: The file is damaged, llama.cpp does not know its architecture, or memory is short.
        InvalidOptionsError: ``model_kwargs`` contains what ``llama_cpp.Llama`` does not take.
    """
    if unknown := sorted(options.model_kwargs.keys() - inspect.signature(llama_cpp.Llama).parameters.keys()):
        raise InvalidOptionsError(f"llama_cpp.Llama has no argument {unknown[0]!r}: leave it out of model_kwargs")
    threads = min(options.threads or available_cores(), available_cores())
    _errors.clear()
    try:
        return llama_cpp.Llama(
            str(file),
            n_gpu_layers=options.gpu_layers,
            n_ctx=context_size,
            n_threads=threads,
            n_threads_batch=threads,
            **{"verbose": False, **options.model_kwargs},
        )
    except Exception as error:  # llama-cpp-python raises what its steps raise, the template's own errors among them
        raise _cannot_load(file, error) from error


def _cannot_load(file: Path, *errors: Exception) -> ModelLoadError:
    said = "; ".join([*_errors, *map(str, errors)]) or "it does not say why"
    return ModelLoadError(
        f"llama.cpp cannot load {file} ({said}): fetch it again if it is damaged, pip install -U llama-cpp-python if its "
        "architecture is new, or lower context_size or gpu_layers if memory is short"
    )
