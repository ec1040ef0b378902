"""The recipe in every detail: BGE's truncation, windows, instructions, activations and limits."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
import transformers

from rerank import InvalidOptionsError, ModelLoadError, Reranker
from rerank.ranking import sigmoid
from rerank.testing.contract import DOCUMENTS, QUERY

LONG = " ".join(DOCUMENTS[:3]) * 8
LONG_QUERY = " ".join([QUERY] * 30)


@pytest.fixture(scope="module")
def bert(checkpoint):
    with Reranker(checkpoint("bert"), device="cpu") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def plain(checkpoint):
    """The checkpoint's own tokenizer and model, and a function from a row of token ids to its logit."""
    folder = checkpoint("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def logit(query, document):
        row = [tokenizer.cls_token_id, *query, tokenizer.sep_token_id, *document, tokenizer.sep_token_id]
        types = [0] * (len(query) + 2) + [1] * (len(document) + 1)
        with torch.inference_mode():
            return model(input_ids=torch.tensor([row]), token_type_ids=torch.tensor([types])).logits.item()

    return (lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]), logit


@pytest.mark.parametrize("max_length", [16, 40, 64, 160])
@pytest.mark.parametrize("query_max_length", [None, 5, 30])
@pytest.mark.parametrize("query", [QUERY, LONG_QUERY])
def test_bge_cuts_the_query_at_its_own_limit_and_then_the_document(bert, plain, max_length, query_max_length, query):
    """Written out from FlagEmbedding 1.4.2: the query alone, then ``truncation="only_second"``."""
    encode, logit = plain
    cut = encode(query)[: query_max_length or max_length * 3 // 4]
    cut = cut[: max_length - 3]
    expected = [logit(cut, encode(text)[: max_length - 3 - len(cut)]) for text in (LONG, DOCUMENTS[4])]
    given = {"max_length": max_length, "query_max_length": query_max_length}
    ranked = bert.rank(query, [LONG, DOCUMENTS[4]], **given)
    assert [bert.score(query, text, **given) for text in (LONG, DOCUMENTS[4])] == pytest.approx(expected, abs=1e-5)
    lost = sum(len(encode(text)) > max_length - 3 - len(cut) for text in (LONG, DOCUMENTS[4]))
    assert ranked.diagnostics == {"truncated": lost, "query_truncated": len(cut) < len(encode(query))}


def test_a_cut_query_is_reported(bert, caplog):
    with caplog.at_level(logging.WARNING, logger="rerank_crossencoder"):
        bert.rank(QUERY, DOCUMENTS)
        assert caplog.messages == []
        bert.rank(LONG_QUERY, DOCUMENTS)
    assert len(caplog.messages) == 1
    assert "raise query_max_length" in caplog.messages[0]


@pytest.mark.parametrize("aggregate", ["max", "mean", "first"])
@pytest.mark.parametrize(("window", "overlap"), [(None, 0), (None, 10), (20, 4), (7, 0)])
def test_chunks_equal_a_loop_over_windows(bert, plain, aggregate, window, overlap):
    encode, logit = plain
    query = encode(QUERY)
    size = window or 64 - 3 - len(query)

    def windows(ids):
        start = 0
        while True:
            yield ids[start : start + size]
            if start + size >= len(ids):
                return
            start += size - overlap

    combine = {"max": max, "mean": lambda v: sum(v) / len(v), "first": lambda v: v[0]}[aggregate]
    texts = [LONG, *DOCUMENTS]
    expected = [combine([logit(query, part) for part in windows(encode(text))]) for text in texts]
    ranked = bert.rank(
        QUERY,
        texts,
        max_length=64,
        long_documents="chunk",
        window=window,
        overlap=overlap,
        aggregate=aggregate,
    )
    found = [score for _, score in sorted((result.index, result.score) for result in ranked)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert ranked.diagnostics["truncated"] == 0


def test_instructions_stand_where_their_formats_say(bert):
    expected = bert.score("Find: " + QUERY, "Passage (of a book)\n" + DOCUMENTS[0])
    found = bert.score(
        QUERY,
        DOCUMENTS[0],
        query_instruction_for_rerank="Find",
        query_instruction_format="{}: {}",
        passage_instruction_for_rerank="of a book",
        passage_instruction_format="Passage ({})\\n{}",
    )
    assert found == pytest.approx(expected, abs=1e-6)
    braces = bert.score(QUERY, "a {} b {0}", passage_instruction_for_rerank="{}")
    assert braces == pytest.approx(bert.score(QUERY, "{}a {} b {0}"), abs=1e-6)


@pytest.mark.parametrize("wrong", ["{}", "{}{}{}", "{", "{a}{b}", "{0}{0}", "no place"])
def test_a_format_has_two_places(bert, wrong):
    with pytest.raises(InvalidOptionsError, match="two places"):
        bert.rank(QUERY, DOCUMENTS, query_instruction_format=wrong)


def with_config(folder, tmp_path, **config):
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return tmp_path / "model"


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.0.0"}},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
    ],
)
def test_the_saved_activation_calibrates(checkpoint, tmp_path, saved):
    with Reranker(with_config(checkpoint("bert"), tmp_path, **saved), device="cpu") as reranker:
        raw = {result.index: result.score for result in reranker.rank(QUERY, DOCUMENTS)}
        normalized = {result.index: result.score for result in reranker.rank(QUERY, DOCUMENTS, normalize=True)}
        assert normalized == pytest.approx({index: sigmoid(score) for index, score in raw.items()}, abs=1e-6)
        found = reranker.scorer.activation
        assert (found or "") in str(saved)


def test_an_activation_beside_the_config_is_found(checkpoint, tmp_path):
    folder = with_config(checkpoint("bert"), tmp_path)
    (folder / "config_sentence_transformers.json").write_text(
        '{"activation_fn": "torch.nn.modules.activation.Sigmoid"}'
    )
    with Reranker(folder, device="cpu") as reranker:
        assert reranker.scorer.activation == "torch.nn.modules.activation.Sigmoid"


def test_an_unknown_activation_is_an_error_only_where_it_is_asked_for(checkpoint, tmp_path):
    saved = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}
    with Reranker(with_config(checkpoint("bert"), tmp_path, **saved), device="cpu") as reranker:
        assert len(reranker.rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)
        with pytest.raises(InvalidOptionsError, match="Tanh"):
            reranker.rank(QUERY, DOCUMENTS, normalize=True)


@pytest.mark.parametrize(
    ("kind", "config", "limit"),
    [
        ("bert", {}, 160),
        ("roberta", {}, 160),  # 162 positions, of which the first two are the padding's
        ("bert", {"max_position_embeddings": 64}, 64),
        ("modernbert", {}, 160),
    ],
)
def test_rows_are_as_long_as_the_model_allows(checkpoint, kind, config, limit):
    with Reranker(checkpoint(kind, **config), device="cpu") as reranker:
        assert reranker.scorer.limits.default == limit
        reranker.rank(QUERY, [LONG], max_length=limit)
        with pytest.raises(InvalidOptionsError, match=f"beyond the {limit} tokens"):
            reranker.rank(QUERY, [LONG], max_length=limit + 1)


def test_relative_positions_have_no_limit_but_their_default(checkpoint):
    with Reranker(checkpoint("deberta-v2"), device="cpu") as reranker:
        assert reranker.scorer.limits.default == 160
        assert reranker.rank(QUERY, [LONG], max_length=300).diagnostics["truncated"] == 1


def test_rows_are_never_longer_than_1024_by_default(checkpoint, tmp_path, build):
    folder = checkpoint("bert", max_position_embeddings=2048)
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 2048}))
    with Reranker(model, device="cpu") as reranker:
        assert reranker.scorer.limits.default == 1024


def test_a_pair_without_a_fixed_layout_is_an_error(checkpoint, tmp_path):
    from tokenizers.processors import TemplateProcessing

    folder = with_config(checkpoint("bert"), tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [("[SEP]", tokenizer.sep_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A [SEP]", "$B [SEP] $A [SEP]", ids)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelLoadError, match="does not join query and document in a fixed layout"):
        Reranker(folder, device="cpu")


def test_a_truncation_saved_in_the_tokenizer_cuts_nothing(checkpoint, tmp_path, bert):
    folder = with_config(checkpoint("bert"), tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(length=140)
    tokenizer.save(str(folder / "tokenizer.json"))
    with Reranker(folder, device="cpu") as reranker:
        assert reranker.score(QUERY, LONG) == pytest.approx(bert.score(QUERY, LONG), abs=1e-5)


def test_a_batch_that_does_not_fit_is_halved(checkpoint, monkeypatch):
    reranker = Reranker(checkpoint("bert"))
    whole = reranker.rank(QUERY, DOCUMENTS)
    network = reranker.scorer.runner.forward.network
    forward, sizes = network.forward, []

    def cramped(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return forward(**inputs)

    monkeypatch.setattr(network, "forward", cramped)
    cramped_results = reranker.rank(QUERY, DOCUMENTS, max_batch_tokens=100_000)
    assert max(sizes) > 2
    assert {r.index: r.score for r in cramped_results} == pytest.approx({r.index: r.score for r in whole}, abs=1e-5)
