"""The same folder through sentence-transformers' own CrossEncoder; `nox -s peers` installs it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers", reason="needs sentence-transformers: nox -s peers")

from rerank import Reranker  # noqa: E402
from rerank.testing.contract import DOCUMENTS, QUERY  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def saved(checkpoint, tmp_path):
    """``saved(kind, pooling)``: Ettin's layout, built and saved by sentence-transformers itself."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    def make(kind, pooling):
        torch.manual_seed(5)
        modules = [
            Transformer(str(checkpoint(kind))),
            Pooling(32, pooling),
            Dense(32, 32, bias=False, activation_function=torch.nn.GELU()),
            LayerNorm(32),
            Dense(32, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
        ]
        model = CrossEncoder(modules=modules, device="cpu")
        model.save_pretrained(str(tmp_path / "model"))
        return tmp_path / "model", model

    return make


def predict(model, **options):
    return model.predict([(QUERY, text) for text in DOCUMENTS], show_progress_bar=False, **options).tolist()


def scores_of(ranked):
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.mark.parametrize("kind", ["modernbert", "bert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_ettins_layout(saved, kind, pooling):
    folder, model = saved(kind, pooling)
    with Reranker(folder, device="cpu") as reranker:
        raw, normalized = reranker.rank(QUERY, DOCUMENTS), reranker.rank(QUERY, DOCUMENTS, normalize=True)
    assert scores_of(raw) == pytest.approx(predict(model, activation_fn=torch.nn.Identity()), abs=1e-5)
    assert scores_of(normalized) == pytest.approx(predict(model), abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "electra"])
def test_an_ordinary_cross_encoder_saved_by_it(checkpoint, tmp_path, kind):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(checkpoint(kind)), device="cpu")
    model.save_pretrained(str(tmp_path / "model"))
    with Reranker(tmp_path / "model", device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(
            predict(model, activation_fn=torch.nn.Identity()), abs=1e-5
        )


@pytest.fixture
def prompted(checkpoint, tmp_path):
    """A checkpoint that sentence-transformers saved with two prompts, one of them its default."""
    from sentence_transformers import CrossEncoder

    prompts = {"web": "Given a web search query, find passages: ", "other": "Other: "}
    model = CrossEncoder(str(checkpoint("bert")), device="cpu", prompts=prompts, default_prompt_name="web")
    model.save_pretrained(str(tmp_path / "prompted"))
    return tmp_path / "prompted"


def test_a_saved_prompt_counts_unless_an_instruction_is_given(prompted):
    from sentence_transformers import CrossEncoder

    theirs = CrossEncoder(str(prompted), device="cpu", activation_fn=torch.nn.Identity())
    pairs = [(QUERY, text) for text in DOCUMENTS]
    for given, prompt in ((None, {}), ("", {"prompt": ""}), ("Other: ", {"prompt_name": "other"})):
        with Reranker(prompted, device="cpu", query_instruction_for_rerank=given) as reranker:
            assert [reranker.score(*pair) for pair in pairs] == pytest.approx(
                predict_pairs(theirs, pairs, prompt), abs=1e-4
            )


def predict_pairs(model, pairs, prompt):
    return [float(score) for score in model.predict(pairs, **prompt)]
