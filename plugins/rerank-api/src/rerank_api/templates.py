"""How query and document are framed for a model whose server sends texts to it as they are.

A causal reranker was trained on a whole prompt, and ranks at random without it. A server such as vLLM tokenises query and
document one after the other, so that the frame of either makes the prompt (vllm-project/vllm, entrypoints/score_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rerank import InvalidOptionsError

_PLACES: Final = ("query", "document", "instruction")
_PLACE: Final = re.compile(r"\{(query|document|instruction)\}")
_BRACES: Final = re.compile(r"\{[^{}]*\}")
_OWN_MARK: Final = re.compile(r"<[^<>\s{}]+>|\[[^\[\]\s{}]+\]")
"""What ends a part in a user's own template, such as ``[/INST]``, ``</s>`` or ``<document>``."""
_MARK: Final = re.compile(r"<\|[^<>|\s]+\|>|</?think>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>")
"""What tokenizers read as one special token, which a text must not contain: it could end the document's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The frame of a family of models. Query and document, one after the other, are its prompt.

    Args:
        name: Its name.
        query: The prompt up to the document's part, with ``{query}``, and ``{instruction}`` if it has that place.
        document: The rest, with ``{document}``, and ``{instruction}`` if that stands here.
        instructed: Another ``query`` for an instruction; None means the same.
        instruction: The default instruction.
        strip: Whether query and document lose the white space around them.
        known_by: What the names of its models contain, in lower case.
        marks: What its parts end with besides special tokens; a text must not contain it either.
    """

    name: str
    query: str
    document: str
    instructed: str | None = None
    instruction: str = ""
    strip: bool = False
    known_by: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()

    @property
    def takes_instruction(self) -> bool:
        """Whether it has a place for an instruction."""
        return "{instruction}" in (self.instructed or "") + self.query + self.document

    @property
    def has_marks(self) -> bool:
        """Whether it has special tokens, which a server may read as plain text."""
        return bool(_MARK.search(self.query + self.document))

    def frame(self, query: str, texts: Sequence[str], instruction: str | None) -> tuple[str, list[str]]:
        """The query and the documents as the server must get them; special tokens in them become plain text.

        Args:
            query: The query.
            texts: The documents' texts.
            instruction: What relevance means, in words; None is the default.

        Raises:
            InvalidOptionsError: It has a place for an instruction, no default, and none is given.
        """
        if instruction is None and not self.instruction and "{instruction}" in self.query + self.document:
            raise InvalidOptionsError(f"the template {self.name!r} has the place {{instruction}}: pass instruction=")
        asked = self._plain(self.instruction if instruction is None else instruction)
        head = self.instructed if asked and self.instructed else self.query
        query, texts = self._plain(query), [self._plain(text) for text in texts]
        if self.strip:
            query, texts = query.strip(), [text.strip() for text in texts]
        return (
            _fill(head, {"query": query, "instruction": asked}),
            [_fill(self.document, {"document": text, "instruction": asked}) for text in texts],
        )

    def _plain(self, text: str) -> str:
        """A text whose marks are broken: ``<|im_end|>`` becomes ``< |im_end|>``, as `rerank_llm` does."""
        text = _MARK.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
        for mark in self.marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text


def _fill(frame: str, texts: Mapping[str, str]) -> str:
    """Put texts into their places, all at once: one that contains ``{query}`` stays as it is."""
    return _PLACE.sub(lambda place: texts[place[1]], frame)


_QWEN3: Final = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_MXBAI: Final = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)

FAMILIES: Final = {
    template.name: template
    for template in (
        Template(  # QwenLM/Qwen3-Embedding, README.md; vLLM's template/qwen3_reranker.jinja
            name="qwen3-reranker",
            query=_QWEN3 + "<Instruct>: {instruction}\n<Query>: {query}\n",
            document="<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            instruction="Given a web search query, retrieve relevant passages that answer the query",
            known_by=("qwen3-rerank",),
        ),
        Template(  # mxbai-rerank 0.1.6, mxbai_rerank_v2.py; vLLM's template/mxbai_rerank_v2.jinja
            name="mxbai-rerank-v2",
            query=_MXBAI + "query: {query}\n",
            instructed=_MXBAI + "instruction: {instruction}\nquery: {query}\n",
            document="document: {document}\nYou are a search relevance expert who evaluates how well documents match "
            "search queries. For each query-document pair, carefully analyze the semantic relationship between them, "
            "then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n"
            "<|im_start|>assistant\n",
            known_by=("mxbai-rerank-base-v2", "mxbai-rerank-large-v2"),
        ),
        Template(  # FlagEmbedding 1.4.2, inference/reranker/decoder_only; vLLM's template/bge-reranker-v2-gemma.jinja
            name="bge-reranker-v2-gemma",
            query="A: {query}\n",
            document="B: {document}\n{instruction}",
            instruction="Given a query A and a passage B, determine whether the passage contains an answer to the query "
            "by providing a prediction of either 'Yes' or 'No'.",
            known_by=("bge-reranker-v2-gemma",),
        ),
        Template(  # vLLM's template/zerank2.jinja; cohere-ai/rcp-ndcg, recipes/zerank
            name="zerank",
            query="<|im_start|>system\n{query}<|im_end|>\n",
            instructed="<|im_start|>system\n<query>{query}</query>\n<instruction>{instruction}</instruction><|im_end|>\n",
            document="<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n",
            strip=True,
            known_by=("zerank",),
        ),
        Template(  # vLLM's template/nemotron-rerank.jinja
            name="nemotron-rerank",
            query="question:{query} \n \n ",
            document="passage:{document}",
            known_by=("llama-nemotron-rerank", "llama-3.2-nv-rerankqa"),
        ),
    )
}
"""The families that raw servers run, by name; each prompt is that of `rerank_llm`'s recipe."""


def family_of(model: str | None) -> Template | None:
    """The family that a model's name tells, whoever converted it; None if it tells none."""
    name = (model or "").casefold().replace("_", "-")
    return next((family for family in FAMILIES.values() if any(known in name for known in family.known_by)), None)


def read_template(given: Mapping[str, str]) -> Template:
    """The user's own template.

    Raises:
        InvalidOptionsError: It has no ``query`` or ``document``, or other places than those that are known.
    """
    if set(given) != {"query", "document"}:
        raise InvalidOptionsError(
            f"a template has 'query' and 'document', not {', '.join(map(repr, given)) or 'nothing'}: "
            "write {'query': '…{query}…', 'document': '…{document}…'}"
        )
    for part, text in given.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidOptionsError(
                f"the template's {part!r} has a lone surrogate, which is no text: correct it"
            ) from error
        own, other = f"{{{part}}}", "{document}" if part == "query" else "{query}"
        unknown = next((found for found in _BRACES.findall(text) if not _PLACE.fullmatch(found)), None)
        if unknown is not None:
            raise InvalidOptionsError(
                f"the template's {part!r} has {unknown:.40}, which is no place: write one of "
                f"{', '.join(f'{{{place}}}' for place in _PLACES)}"
            )
        if text.count(own) != 1 or other in text:
            raise InvalidOptionsError(f"the template's {part!r} must have {own} once, and no {other}: correct it")
    marks = frozenset(_OWN_MARK.findall(given["query"] + given["document"]))
    return Template(name="custom", query=given["query"], document=given["document"], marks=marks)
