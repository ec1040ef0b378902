"""Requests to one provider: split → cache → ask → check → merge, within one deadline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rerank import InvalidOptionsError, Request, Scores
from rerank_api.address import endpoint
from rerank_api.answers import WrongAnswerError, check, kept_scores
from rerank_api.keys import find_key, how_to_set
from rerank_api.limit import DocumentLimit, split
from rerank_api.options import SPECIFIC, ApiOptions
from rerank_api.provider import Connection, Provider, Question, RawAnswer
from rerank_api.templates import family_of
from rerank_http.caller import Call, Caller, together
from rerank_http.pace import estimate_tokens as tokens_of

logger = logging.getLogger(__name__)


class Service:
    """A provider and a model of it. Its coroutines all run on one event loop.

    Args:
        provider: The provider to call.
        model: The model's name, or None if the server runs one of its own.
        options: The options given at construction.

    Raises:
        AuthenticationError: The provider needs a key and there is none.
        InvalidOptionsError: The provider has no address, or does not support an option.
    """

    def __init__(self, provider: Provider, model: str | None, options: ApiOptions) -> None:
        refuse_foreign_options(provider, options)
        key = find_key(provider, options)
        warn_of_template(provider, model, options)
        self._provider, self._model = provider, model
        self._caller = Caller(
            provider.name,
            endpoint(provider, model, options),
            options,
            key=key,
            authorize=provider.authorize,
            headers=provider.headers,
            expected="a rerank service",
            key_hint=how_to_set(provider),
        )
        self._send = provider.connect(
            Connection(
                client=self._caller.client,
                url=self._caller.url,
                headers=self._caller.headers,
                key=key,
                model=model,
                options=options,
                keep_secret=self._caller.secrets.add,
            )
        )
        self._limit = DocumentLimit(provider, model, options, self._caller)

    async def scores(self, request: Request, options: ApiOptions) -> Scores:
        """Score one request's documents.

        Raises:
            InvalidOptionsError: The provider does not support an option.
            ProviderError: The provider failed, or its answer is wrong.
            ProviderTimeoutError: The deadline passed.
        """
        refuse_foreign_options(self._provider, options)
        call = Call(options)
        return await self._caller.within_deadline(self._scores(request, options, call), call)

    async def _scores(self, request: Request, options: ApiOptions, call: Call) -> Scores:
        questions = self._split(request, options, await self._limit.get(call))
        parts = await together(self._ask(question, call) for question in questions)
        return self._merge(parts, options, call)

    def _split(self, request: Request, options: ApiOptions, limit: int | None) -> list[Question]:
        """Questions of as many documents as the provider takes and the user allows, framed if a template says how."""
        query, texts = request.query, [document.text for document in request.documents]
        if (template := options.frame) is not None:
            query, texts = template.frame(query, texts, options.instruction)
            if template.takes_instruction:
                options = options.model_copy(update={"instruction": None})  # the server gets it in the texts
        size = min(most for most in (limit, options.batch_size, len(texts)) if most is not None)
        top_k = request.top_k if self._provider.takes_top_k else None
        read_each_time = query + (options.instruction or "")
        most, each = self._provider.most_bytes(self._model), self._provider.bytes_each
        parts = split(read_each_time, texts, documents=size, size=most, each=each)
        return [
            Question(
                query=query,
                texts=part,
                model=self._model,
                top_k=None if top_k is None else min(top_k, len(part)),
                options=options,
            )
            for part in parts
        ]

    async def _ask(self, question: Question, call: Call) -> Sequence[float | None]:
        """The checked scores of one question, from the cache if it has them."""
        body = self._body(question)
        key = self._cache_key(question, body)
        kept = kept_scores(await self._caller.cache.get(key), len(question.texts))
        if kept is not None:
            call.tally.cached += 1
            return kept
        values = await self._asked(question, body, call)
        await self._caller.cache.put(key, values)
        return values

    async def _asked(self, question: Question, body: Mapping[str, Any], call: Call) -> list[float | None]:
        """The checked scores of one question. Each page of an answer is a request, and adds to the results or is the last."""
        tokens = estimate_tokens(question.query, question.texts, question.options)
        wanted = len(question.texts) if question.top_k is None else question.top_k
        pairs: list[tuple[Any, Any]] = []
        rest: Mapping[str, Any] | None = body
        try:
            while rest is not None:
                reply = await self._caller.ask(rest, call, send=self._send, tokens=tokens)
                page = self._provider.answer(reply.body, question)
                self._caller.add_usage(page.usage, call, tokens=tokens)
                pairs += page.pairs
                rest = self._provider.rest(body, reply.body) if page.pairs and len(pairs) < wanted else None
            return check(RawAnswer(pairs=pairs), question)
        except WrongAnswerError as error:
            raise self._caller.wrong_answer(str(error), reply) from None

    def _body(self, question: Question) -> dict[str, Any]:
        body = {name: value for name, value in self._provider.request(question).items() if value is not None}
        return {**body, **question.options.extra_body}

    def _cache_key(self, question: Question, body: dict[str, Any]) -> str | None:
        return self._caller.cache.key(
            body,
            provider=self._provider.name,
            top_k=question.top_k,  # how many scores are needed, even if the body does not say
            options={name: getattr(question.options, name) for name in SPECIFIC},
        )

    def _merge(self, parts: Sequence[Sequence[float | None]], options: ApiOptions, call: Call) -> Scores:
        """The scores of all parts in the documents' order, what they mean, and what they cost."""
        values = [value for part in parts for value in part]
        scale = self._provider.scale_of(options)
        diagnostics: dict[str, Any] = {
            "provider": self._provider.name,
            "requests": call.tally.requests,
            "retries": call.tally.retries,
            "usage": call.tally.usage,
        }
        if "template" in self._provider.takes:
            diagnostics["template"] = "custom" if isinstance(options.template, dict) else options.template
        if options.cache is not None:
            diagnostics["cached"] = call.tally.cached
        if len(parts) > 1:
            diagnostics["split"] = len(parts)
            diagnostics["comparable"] = not self._provider.listwise(self._model)
        if scale == "probability" and any(value is not None and not -1e-6 <= value <= 1 + 1e-6 for value in values):
            scale = "similarity"
            diagnostics["scale"] = "scores outside [0, 1], so they are not probabilities as documented"
        return Scores(values=values, scale=scale, diagnostics=diagnostics)

    async def aclose(self) -> None:
        """Cancel pending requests, and close every connection and the cache."""
        await self._caller.aclose()

    def __repr__(self) -> str:
        return f"Service({self._provider.name!r}, {self._model!r})"


def refuse_foreign_options(provider: Provider, options: ApiOptions) -> None:
    """Reject options that the provider would ignore.

    Raises:
        InvalidOptionsError: An option is set that the provider does not support.
    """
    taken = provider.takes | (
        {"instruction"} if options.frame is not None and options.frame.takes_instruction else set()
    )
    foreign = sorted((options.model_fields_set & SPECIFIC) - taken)
    if foreign:
        known = ", ".join(sorted(provider.takes)) or "none"
        raise InvalidOptionsError(
            f"{provider.name} has no option {foreign[0]!r} (its provider-specific options: {known}): "
            "leave it out, or send the field that its documentation names with extra_body="
        )


def warn_of_template(provider: Provider, model: str | None, options: ApiOptions) -> None:
    """Log a warning if the model was trained on a prompt that it will not get, as far as can be told."""
    if "template" not in provider.takes:
        return
    family, template = family_of(model), options.frame
    if family is not None and options.template is None:
        logger.warning(
            "%s was trained on a prompt, and %s sends it query and documents as they are unless the server applies its "
            "template: pass template=%r, or template='server' if the server does (as with vLLM's --chat-template)",
            model,
            provider.name,
            family.name,
        )
    if template is not None and template.has_marks and provider.name == "llama.cpp":
        logger.warning(
            "llama-server reads the special tokens of template=%r as plain text, or sets others between query and document: "
            "convert the model with llama.cpp's convert_hf_to_gguf.py, which keeps its template in the file, and leave "
            "template out",
            template.name,
        )


def estimate_tokens(query: str, texts: Sequence[str], options: ApiOptions) -> float:
    """Tokens of a request, if ``tokens_per_minute`` is set: the query counts with every text."""
    if options.tokens_per_minute is None:
        return 0.0
    return len(texts) * tokens_of(query) + sum(map(tokens_of, texts))
