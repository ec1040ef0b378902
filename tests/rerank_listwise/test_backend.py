"""Which models the backends run, with what, and what wrong options say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from rerank import (
    AuthenticationError,
    BackendNotFoundError,
    Confidence,
    Document,
    InvalidOptionsError,
    ModelRef,
    Request,
    Reranker,
    installed,
)
from rerank_listwise.backend import claim_chat
from rerank_listwise.generators.endpoints import ENDPOINTS, find_endpoint
from rerank_listwise.generators.measure import EstimatedTokens
from rerank_listwise.generators.options import ChatOptions
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.questions import Answer, Asked
from rerank_listwise.rounds import run
from rerank_listwise.scorer import AnswererAsker

pytestmark = pytest.mark.usefixtures("no_keys")


@pytest.mark.parametrize(
    ("model", "given", "wanted"),
    [
        ("rankgpt", {"api_key": "k" * 8}, "gpt-4-turbo-preview"),
        ("rankgpt3", {"api_key": "k" * 8}, "gpt-3.5-turbo"),
        ("rankgpt4", {"api_key": "k" * 8}, "gpt-4"),
        ("MY_LLM_NAME", {"model_type": "rankgpt", "base_url": "http://localhost:1/v1"}, "MY_LLM_NAME"),
        ("groq/llama-3.3-70b-versatile", {"model_type": "rankgpt", "api_key": "k" * 8}, "groq/llama-3.3-70b-versatile"),
        ("gpt-4o", {"backend": "llm-listwise", "api_key": "k" * 8}, "gpt-4o"),
    ],
)
def test_names_of_the_seeds_are_chat_models(model: str, given: dict[str, Any], wanted: str) -> None:
    with Reranker(model, **given) as reranker:
        assert (reranker.model, reranker.backend) == (wanted, "llm-listwise")


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuthenticationError, match="set OPENAI_API_KEY"):
        Reranker("rankgpt")
    monkeypatch.setenv("OPENAI_API_KEY", "k" * 20)
    Reranker("rankgpt").close()


def test_a_chat_model_needs_its_backend_named() -> None:
    with pytest.raises(BackendNotFoundError, match="llm-listwise could try: pass backend="):
        Reranker("gpt-4o", api_key="k" * 8)


def test_an_unknown_address_is_named() -> None:
    with pytest.raises(InvalidOptionsError, match="base_url= or provider="):
        Reranker("MY_LLM_NAME", model_type="rankgpt", api_key="k" * 8)
    with pytest.raises(InvalidOptionsError, match=r"provider 'acme' is not known.*openai"):
        Reranker("x", backend="llm-listwise", provider="acme")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"algorithm": "sliding"}, "algorithm"),
        ({"window_size": 10, "stride": 11}, "stride"),
        ({"window_size": 10, "pivot": 10}, "pivot"),
        ({"recipe": "rankzephir"}, "did you mean 'rankzephyr'"),
        ({"recipe": {"name": "x", "turns": [{"role": "user", "text": "{query}"}]}}, "passages"),
        ({"generator": "vllm"}, "choose one of chat"),
        ({"long_documents": "chunk"}, "max_passage_tokens"),
        ({"windowsize": 5}, "window_size"),
        ({"answers": "labels", "recipe": "rankzephyr"}, "reads its answer as text"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], match: str) -> None:
    with (
        pytest.raises(InvalidOptionsError, match=match),
        Reranker("x", backend="llm-listwise", base_url="http://127.0.0.1:1/v1", **options) as reranker,
    ):
        reranker.rank("a", ["b", "c"])


def test_a_model_for_litellm_is_left_to_it() -> None:
    options = ChatOptions(provider="litellm", base_url="http://localhost:1/v1")
    claim = claim_chat(ModelRef("groq/llama-3.1-8b-instant"), options)
    assert claim.confidence == Confidence.NONE
    assert "pip install 'rerank-llm[litellm]'" in claim.reason


def test_the_name_before_the_slash_is_a_provider() -> None:
    assert find_endpoint("groq/llama-3.3-70b", None) == (ENDPOINTS["groq"], "llama-3.3-70b")
    assert find_endpoint("openrouter/qwen/qwen3-8b", None) == (ENDPOINTS["openrouter"], "qwen/qwen3-8b")
    assert find_endpoint("Qwen/Qwen3-8B", None) == (None, "Qwen/Qwen3-8B")
    assert find_endpoint("Qwen/Qwen3-8B", "vllm") == (ENDPOINTS["vllm"], "Qwen/Qwen3-8B")
    assert find_endpoint("claude-sonnet-5", None) == (ENDPOINTS["anthropic"], "claude-sonnet-5")


def test_describing_and_loading_import_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rerank import Reranker\n"
        "Reranker('x', backend='llm-listwise', base_url='http://127.0.0.1:1/v1').close()\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_explain_shows_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    from rerank.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["explain", "x", "--backend", "llm-listwise", "-o", "base_url=http://h/v1", "-o", "recipe=rankzephyr"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "generator: chat" in shown
    assert "You are RankLLM" in shown


def test_both_backends_are_listed() -> None:
    assert {"llm-listwise", "llm-filter"} <= installed().backends.keys()


@pytest.mark.parametrize(
    ("text", "tokens", "wanted"),
    [
        ("short", 10, "short"),
        ("four letter word here", 3, "four letter"),
        ("知识就是力量", 3, "知识就"),
        ("", 1, ""),
        ("x" * 100, 5, "x" * 20),
    ],
)
def test_estimated_tokens_cut_any_script(text: str, tokens: int, wanted: str) -> None:
    cut = EstimatedTokens().cut(text, tokens)
    assert cut == wanted
    assert EstimatedTokens().count([cut])[0] <= tokens


class FiveAtOnce:
    """A model that orders five passages by their grades, at most."""

    kinds = frozenset(("order",))
    algorithm = "sliding-window"
    window_size = 5
    scale = "ordinal"

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        return [Answer(tuple(sorted(one.question.passages, reverse=True))) for one in asked]

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int:
        return 5

    def close(self) -> None:
        pass


@pytest.mark.parametrize("options", [{}, {"window_size": 20, "stride": 10}, {"window_size": 100}])
def test_windows_that_a_model_shrinks_overlap_as_before(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    documents = [Document(doc_id=n, text=f"text {n}") for n in range(60)]
    request = Request(query="q", documents=documents, options=ListwiseOptions(**options))
    model: Any = FiveAtOnce()
    _, work = AnswererAsker(model).start(request)
    order = run(work, model.answer)
    assert isinstance(order, list)
    assert order[0] == 59
    assert ("questions shrink" in caplog.text) == bool(options)
