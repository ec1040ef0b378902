"""The same folder through sentence-transformers' own CrossEncoder with a LogitScore module; `nox -s peers` installs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from language_models import save_causal

pytest.importorskip("sentence_transformers", reason="needs sentence-transformers: nox -s peers")

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY

pytestmark = pytest.mark.filterwarnings("default")

TEMPLATE = (
    "<|im_start|>system\n{% set asked = messages | selectattr('role', 'eq', 'system') | list %}"
    "{{ asked[0]['content'] if asked else 'Judge.' }}<|im_end|>\n<|im_start|>user\n"
    "<Query>: {{ (messages | selectattr('role', 'eq', 'query') | first)['content'] }}\n"
    "<Document>: {{ (messages | selectattr('role', 'eq', 'document') | first)['content'] }}<|im_end|>\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """A causal model with a LogitScore module, as sentence-transformers 6 saves it."""

    def make(*, log_odds: bool, prompt: str | None = None, template: str = TEMPLATE) -> Path:
        folder = save_causal(tmp_path / "model")
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer["chat_template"] = template
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        from tokenizers import Tokenizer

        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
        verdicts = {"true_token_id": vocabulary.token_to_id("yes")}
        verdicts["false_token_id"] = vocabulary.token_to_id("no") if log_odds else None
        package = "sentence_transformers"
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": f"{package}.base.modules.transformer.Transformer"},
            {
                "idx": 1,
                "name": "1",
                "path": "1_LogitScore",
                "type": f"{package}.cross_encoder.modules.logit_score.LogitScore",
            },
        ]
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
        (folder / "1_LogitScore").mkdir()
        (folder / "1_LogitScore" / "config.json").write_text(json.dumps(verdicts), encoding="utf-8")
        transformer = {
            "transformer_task": "text-generation",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "logits"},
                "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
            },
            "module_output_name": "causal_logits",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        }
        (folder / "sentence_bert_config.json").write_text(json.dumps(transformer), encoding="utf-8")
        own = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
        if prompt is not None:
            own |= {"prompts": {"find": prompt}, "default_prompt_name": "find"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(own), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize("prompt", [None, "Find what answers."])
@pytest.mark.parametrize("log_odds", [True, False])
def test_a_checkpoint_that_carries_its_recipe(saved: Any, log_odds: bool, prompt: str | None) -> None:
    from sentence_transformers import CrossEncoder

    folder = saved(log_odds=log_odds, prompt=prompt)
    theirs = CrossEncoder(str(folder), device="cpu")
    expected = theirs.predict([(QUERY, text) for text in DOCUMENTS], show_progress_bar=False).tolist()
    with Reranker(folder) as reranker:
        assert reranker.backend == "llm-pointwise"
        ranked = reranker.rank(QUERY, DOCUMENTS)
    found = [result.score for result in sorted(ranked, key=lambda result: result.index)]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("stripped", [["query", "document"], ["system"], ["system", "query", "document"]])
def test_a_template_that_strips(saved: Any, stripped: list[str]) -> None:
    from sentence_transformers import CrossEncoder

    template = TEMPLATE
    for role in stripped:
        shown = "asked[0]['content']" if role == "system" else f"'{role}') | first)['content']"
        template = template.replace(shown, f"{shown} | trim")
    folder = saved(log_odds=True, prompt=" Find what answers.\n", template=template)
    texts = [f" {text}\n" for text in DOCUMENTS]
    theirs = CrossEncoder(str(folder), device="cpu")
    expected = theirs.predict([(f" {QUERY}\n", text) for text in texts], show_progress_bar=False).tolist()
    with Reranker(folder) as reranker:
        ranked = reranker.rank(f" {QUERY}\n", texts)
    found = [result.score for result in sorted(ranked, key=lambda result: result.index)]
    assert found == pytest.approx(expected, abs=1e-4)
