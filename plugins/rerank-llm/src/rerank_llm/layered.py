"""Scores from heads after several layers: the deepest orders the documents, ``details["layers"]`` has every one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from rerank import InvalidOptionsError, Request, Scores
from rerank_llm.forwards.layerwise import LayerwiseForward
from rerank_llm.forwards.lightweight import Compression, LightweightForward
from rerank_llm.options import LayerwiseOptions, LightweightOptions, LlmOptions
from rerank_llm.prompt import Encoded
from rerank_llm.scorer import PromptScorer
from rerank_torch.rows import Row
from rerank_torch.runner import Forward


class Layered(PromptScorer):
    """Scores with a head per layer, and computes no deeper than the last one that is asked for."""

    native: ClassVar[bool] = True

    @property
    @abstractmethod
    def cutoffs(self) -> range:
        """The layers that have a head."""

    @abstractmethod
    def shared(self, one: Encoded, cutoffs: tuple[int, ...], options: LlmOptions) -> Any:
        """What the forward pass needs to know about a request's rows."""

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score each request."""
        options = requests[0].options
        assert isinstance(options, LayerwiseOptions)
        cutoffs = self._sorted_cutoffs(options)
        for one in self.encode(requests, options):
            rows = [Row(tuple(ids), one.pairs.query_len) for ids in one.pairs.rows]
            values = self.run(rows, options, self.shared(one, cutoffs, options))  # (cutoffs,) per row
            layers = {
                cutoff: self.answer(one, (float(value[n]) for value in values), options, "logit", {})
                for n, cutoff in enumerate(cutoffs)
            }
            shown = {str(cutoff): self._shown(scores, options) for cutoff, scores in layers.items()}
            deepest = layers[cutoffs[-1]]
            own = deepest.details or [{}] * len(deepest.values)
            by_layer = [dict(zip(shown, values)) for values in zip(*shown.values())]
            yield replace(deepest, details=[{**had, "layers": scores} for had, scores in zip(own, by_layer)])

    def _shown(self, scores: Scores, options: LlmOptions) -> Sequence[float]:
        """One layer's scores as the call wants them, raw or in [0, 1]."""
        values = [float(value) for value in scores.values if value is not None]
        return self.calibrate(values, options) if options.normalize else values

    def check(self, options: LlmOptions) -> None:
        """Check also that the layers have heads."""
        super().check(options)
        assert isinstance(options, LayerwiseOptions)
        self._sorted_cutoffs(options)

    def _sorted_cutoffs(self, options: LayerwiseOptions) -> tuple[int, ...]:
        """The cutoffs in ascending order, each once.

        Raises:
            InvalidOptionsError: A layer has no head.
        """
        cutoffs = options.cutoff_layers or (self.cutoffs[-1],)
        if wrong := [layer for layer in cutoffs if layer not in self.cutoffs]:
            raise InvalidOptionsError(
                f"cutoff_layers has {wrong[0]}, and this model has heads after the layers "
                f"{', '.join(map(str, self.cutoffs))}: choose among them"
            )
        return tuple(sorted(set(cutoffs)))


class Layerwise(Layered):
    """MiniCPM with a head after every layer from ``start_layer`` on."""

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        return partial(LayerwiseForward, model=self.model, options=options)

    @property
    def cutoffs(self) -> range:
        """The layers that have a head."""
        config = self.model.config
        return range(int(config.get("start_layer", 8)), int(config["num_hidden_layers"]) + 1)

    def shared(self, one: Encoded, cutoffs: tuple[int, ...], options: LlmOptions) -> tuple[int, ...]:
        """The cutoffs."""
        return cutoffs


class Lightweight(Layered):
    """Gemma 2 or Mistral with compressed passages."""

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        assert isinstance(options, LightweightOptions)
        return partial(LightweightForward, model=self.model, options=options)

    @property
    def cutoffs(self) -> range:
        """The layers that have a head."""
        config = self.model.config
        layers = int(config["num_hidden_layers"])
        return range(int(config.get("start_layer", layers)), layers + 1, int(config.get("layer_sep", 1)))

    def check(self, options: LlmOptions) -> None:
        """Check also that compression has an effect, and on the passage alone."""
        super().check(options)
        assert isinstance(options, LightweightOptions)
        layers, ratio = _compression(options)
        if ratio == 1:
            return
        if not self.recipe.has_document_alone(options.instruction):
            raise InvalidOptionsError(
                f"recipe {self.recipe.name!r} has other texts in the document's piece, which compress_ratio={ratio} "
                "would compress too: give the document a piece of its own, or leave compress_ratio out"
            )
        depth = int(self.model.config["num_hidden_layers"])
        if wrong := [layer for layer in layers if not 0 <= layer < depth]:
            raise InvalidOptionsError(
                f"compress_layers has {wrong[0]}, and this model can compress before the layers 1 to {depth - 1}: "
                "choose among them"
            )
        deepest = self._sorted_cutoffs(options)[-1]
        if not any(0 < layer < deepest for layer in layers):
            raise InvalidOptionsError(
                f"compress_ratio={ratio} has no effect: no layer of compress_layers is before the last cutoff, {deepest}; "
                "add one, or leave compress_ratio out"
            )

    def shared(self, one: Encoded, cutoffs: tuple[int, ...], options: LlmOptions) -> Compression:
        """The cutoffs, and where and how much to compress."""
        assert isinstance(options, LightweightOptions)
        return Compression(cutoffs, *_compression(options), one.task_len)


def _compression(options: LightweightOptions) -> tuple[tuple[int, ...], int]:
    """The layers before which passages are compressed, and the ratio."""
    return (8,) if options.compress_layers is None else options.compress_layers, options.compress_ratio or 1
