"""Scores equal a bare transformers forward, one pair at a time; batches, devices and threads agree."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers

from rerank import Reranker, ScoringError
from rerank.testing.contract import DOCUMENTS, QUERY

KINDS = ["bert", "electra", "roberta", "xlm-roberta", "deberta-v2", "modernbert"]
TEXTS = [*DOCUMENTS, *(" ".join(DOCUMENTS[0].split()[:n]) for n in range(1, 12))]


def scores_of(ranked):
    return [score for _, score in sorted((result.index, result.score) for result in ranked)]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_bare_forward(checkpoint, bare, kind):
    folder = checkpoint(kind)
    expected = [logit for (logit,) in bare(folder, QUERY, TEXTS)]
    assert max(expected) - min(expected) > 0.01  # scores that are all alike would show nothing
    with Reranker(folder, device="cpu") as reranker:
        for options in ({}, {"batch_size": 1}, {"max_batch_tokens": 100}, {"max_batch_tokens": 100_000}):
            assert scores_of(reranker.rank(QUERY, TEXTS, **options)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2"])
def test_two_outputs_are_a_log_odds(checkpoint, bare, kind):
    folder = checkpoint(kind, num_labels=2)
    logits = bare(folder, QUERY, TEXTS)
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx([b - a for a, b in logits], abs=1e-5)
        softmax = [torch.softmax(torch.tensor(pair), 0)[1].item() for pair in logits]
        assert scores_of(reranker.rank(QUERY, TEXTS, normalize=True)) == pytest.approx(softmax, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("bert", "bert-base-uncased"), ("roberta", "roberta-base"), ("bert", "bert-multilingual-uncased")],
)
def test_equals_a_bare_forward_with_a_real_tokenizer(shared, tmp_path, build, bare, kind, name):
    names = (
        {"unk": "<unk>", "sep": "</s>", "cls": "<s>", "pad": "<pad>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
        if kind == "roberta"
        else {"unk": "[UNK]", "sep": "[SEP]", "cls": "[CLS]", "pad": "[PAD]", "mask": "[MASK]"}
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(shared / "data/tokenizers" / name / "tokenizer.json"),
        model_max_length=160,
        model_input_names=["input_ids", *(["token_type_ids"] if kind == "bert" else []), "attention_mask"],
        **{f"{key}_token": token for key, token in names.items()},
    )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    folder = build(tmp_path, kind, tokenizer)
    expected = [logit for (logit,) in bare(folder, QUERY, TEXTS)]
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "xlm-roberta"])
def test_the_last_layer_runs_for_the_first_token_alone(checkpoint, kind):
    from rerank_crossencoder.first_token import FirstTokenLayer

    with Reranker(checkpoint(kind), device="cpu") as reranker:
        layers = reranker.scorer.runner.forward.network.base_model.encoder.layer
        assert [isinstance(layer, FirstTokenLayer) for layer in layers] == [False, False, True]


def test_a_head_that_reads_every_token_keeps_its_last_layer(checkpoint):
    from rerank_crossencoder.first_token import shorten_last_layer

    network = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint("bert")).eval()

    class MeanPooler(torch.nn.Module):
        def __init__(self, pooler):
            super().__init__()
            self.dense = pooler.dense

        def forward(self, hidden):
            return torch.tanh(self.dense(hidden.mean(1)))

    network.bert.pooler = MeanPooler(network.bert.pooler)
    layer = network.bert.encoder.layer[-1]
    assert not shorten_last_layer(network)
    assert network.bert.encoder.layer[-1] is layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_that_only_looks_like_berts_stays_whole_in_every_dtype(checkpoint, dtype):
    """RoFormer's layer has BERT's parts and turns queries and keys besides: little in a few tokens of half precision."""
    from rerank_crossencoder.first_token import shorten_last_layer

    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.RoFormerConfig(**sizes, vocab_size=200, num_labels=1, initializer_range=0.2)
    assert not shorten_last_layer(transformers.RoFormerForSequenceClassification(config).eval().to(dtype))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint("bert"))
    assert shorten_last_layer(model.eval().to(dtype))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(checkpoint, bare, attention):
    folder = checkpoint("bert")
    expected = [logit for (logit,) in bare(folder, QUERY, TEXTS)]
    with Reranker(folder, device="cpu", attn_implementation=attention) as reranker:
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_score_many_shares_batches_across_queries(checkpoint, monkeypatch):
    with Reranker(checkpoint("bert"), device="cpu") as reranker:
        queries = [f"{QUERY} {n}" for n in range(20)]
        expected = [scores_of(reranker.rank(query, TEXTS[:2])) for query in queries]
        network, batches = reranker.scorer.runner.forward.network, []
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda **inputs: batches.append(1) or forward(**inputs))
        many = [scores_of(ranked) for ranked in reranker.rank_many((query, TEXTS[:2]) for query in queries)]
        assert many == [pytest.approx(scores, abs=1e-5) for scores in expected]
        assert len(batches) < len(queries)


def test_threads_equal_one_thread(checkpoint):
    with Reranker(checkpoint("xlm-roberta"), device="cpu") as reranker, ThreadPoolExecutor(4) as pool:
        calls = [(f"{QUERY} {n}", TEXTS[n:]) for n in range(12)]
        expected = [scores_of(reranker.rank(*call)) for call in calls]
        found = list(pool.map(lambda call: scores_of(reranker.rank(*call)), calls))
    assert found == [pytest.approx(scores, abs=1e-5) for scores in expected]


def test_a_pool_equals_one_device_and_tells_of_a_killed_child(checkpoint):
    folder = checkpoint("bert")
    with Reranker(folder, device="cpu") as reranker:
        expected = scores_of(reranker.rank(QUERY, TEXTS))
    with Reranker(folder, devices=["cpu", "cpu"], max_batch_tokens=100) as reranker:
        pool = reranker.scorer.runner.pool
        assert pool._children == []  # spawned on first use
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)
        assert len(pool._children) == 2
        os.kill(pool._children[0].process.pid, signal.SIGKILL)
        pool._children[0].process.join()
        with pytest.raises(ScoringError, match="exit code -9"):
            reranker.rank(QUERY, TEXTS)
        assert pool._children == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_gpu_agrees_with_the_cpu(checkpoint, dtype):
    tolerance = 1e-4 if dtype == "fp32" else 0.1
    for kind in KINDS:
        with (
            Reranker(checkpoint(kind), device="cpu") as cpu,
            Reranker(checkpoint(kind), device="cuda", dtype=dtype) as gpu,
        ):
            expected = scores_of(cpu.rank(QUERY, TEXTS))
            assert scores_of(gpu.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("said", [{"dtype": "bf16"}, {"use_bf16": True}, {"dtype": "fp16"}, {"use_fp16": True}])
def test_weights_load_in_the_dtype_asked_for(checkpoint, said):
    with Reranker(checkpoint("bert"), device="cpu", **said) as reranker:
        wanted = torch.bfloat16 if "bf16" in str(said) else torch.float16
        network = reranker.scorer.runner.forward.network
        assert {parameter.dtype for parameter in network.parameters()} == {wanted}
        with Reranker(checkpoint("bert"), device="cpu") as exact:
            assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(scores_of(exact.rank(QUERY, TEXTS)), abs=0.1)


def test_a_slow_tokenizer_scores_alike(tmp_path, build, bare):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = transformers.BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="wordpiece"
    )
    assert not tokenizer.is_fast
    folder = build(tmp_path / "model", "bert", tokenizer)
    expected = [logit for (logit,) in bare(folder, QUERY, TEXTS)]
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_a_tokenizer_without_a_pad_token_scores_alike(tmp_path, build, bare, checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("bert"))
    tokenizer.pad_token = None
    folder = build(tmp_path, "bert", tokenizer)
    expected = [logit for (logit,) in bare(folder, QUERY, TEXTS)]
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_details_say_which_window_won(checkpoint):
    text = " ".join(f"word{number}" for number in range(60))
    options = {"long_documents": "chunk", "max_length": 48, "overlap": 4}
    with Reranker(checkpoint("bert"), device="cpu") as reranker:
        long, short = sorted(reranker.rank(QUERY, [text, "bees"], **options), key=lambda result: result.index)
        assert short.details == {}
        window = long.details["window"]
        spans = reranker.scorer.tokens.spans(text)
        first, last = window["tokens"]
        assert window["characters"] == [spans[first][0], spans[last - 1][1]]
        assert window["score"] == long.score
        assert 0 <= window["index"] < window["count"]
        alone = reranker.rank(QUERY, [text], aggregate="first", **options)[0]
        assert (alone.score == pytest.approx(long.score, abs=1e-5)) == (window["index"] == 0)
        mean = reranker.rank(QUERY, [text], aggregate="mean", **options)[0]
        assert mean.details["window"]["score"] == pytest.approx(window["score"], abs=1e-6)
        assert mean.score < window["score"]
        assert "window" not in reranker.rank(QUERY, [text])[0].details
