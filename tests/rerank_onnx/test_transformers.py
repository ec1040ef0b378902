"""Graphs that torch exports from real architectures give the scores of the original forward pass."""

from __future__ import annotations

import json

import pytest

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = {
    "attn_implementation": "eager",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def build(family, labels, vocabulary):
    torch.manual_seed(0)
    if family == "bert":
        config = transformers.BertConfig(**SIZES, vocab_size=vocabulary, num_labels=labels, max_position_embeddings=96)
        model = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.XLMRobertaConfig(
            **SIZES, vocab_size=vocabulary, num_labels=labels, max_position_embeddings=98, type_vocab_size=1,
            pad_token_id=1, bos_token_id=0, eos_token_id=2,
        )  # fmt: skip
        model = transformers.XLMRobertaForSequenceClassification(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # fresh weights would give all pairs the same logit
    return model.eval()


@pytest.fixture(scope="module", params=[("bert", 1), ("bert", 2), ("xlm-roberta", 1)], ids=str)
def exported(request, tmp_path_factory, tokenizers):
    family, labels = request.param
    folder = tmp_path_factory.mktemp("exported")
    tokenizer = tokenizers["bert" if family == "bert" else "roberta"]
    model = build(family, labels, tokenizer.get_vocab_size())
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (family == "bert")
    example = {
        "input_ids": torch.arange(6, 20).reshape(2, 7),
        "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2]),  # one that a tracer cannot take for no mask
        "token_type_ids": torch.tensor([[0] * 3 + [1] * 4] * 2),
    }

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *given):
            return self.model(**dict(zip(names, given))).logits

    torch.onnx.export(
        Logits().eval(),  # else the export leaves the model in training mode
        tuple(example[name] for name in names),
        str(folder / "model.onnx"),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={**{name: {0: "rows", 1: "tokens"} for name in names}, "logits": {0: "rows"}},
        opset_version=17,
        dynamo=False,
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    model.config.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == family
    return folder, model, tokenizer, names


def forward(model, names, ids, types):
    given = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
    with torch.inference_mode():
        logits = model(**{name: torch.tensor([given[name]]) for name in names}).logits[0]
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])


def test_scores_are_those_of_the_bare_forward(exported):
    folder, model, tokenizer, names = exported
    reranker = Reranker(folder, backend="onnx")
    texts = [text for text in DOCUMENTS if len(tokenizer.encode(QUERY, text)) <= 96]
    assert len(texts) >= 5
    expected = []
    for text in texts:
        encoding = tokenizer.encode(QUERY, text)
        expected.append(forward(model, names, encoding.ids, encoding.type_ids))
    assert max(expected) - min(expected) > 0.02  # far more than the tolerance
    ranked = reranker.rank(QUERY, texts)
    assert [r.score for r in sorted(ranked, key=lambda r: r.index)] == pytest.approx(expected, abs=1e-4)
    assert [reranker.score(QUERY, text) for text in texts] == pytest.approx(expected, abs=1e-4)


def test_the_longest_row_is_one_the_model_has_positions_for(exported):
    folder, model, tokenizer, names = exported
    reranker = Reranker(folder, backend="onnx")
    assert reranker.scorer.limits.longest == 96
    ranked = reranker.rank(QUERY, ["word " * 300])
    assert ranked.diagnostics["truncated"] == 1
    pair = tokenizer.encode(QUERY, "word " * 300)
    ids = [*pair.ids[:95], pair.ids[-1]]
    assert ranked[0].score == pytest.approx(forward(model, names, ids, pair.type_ids[:96]), abs=1e-4)
