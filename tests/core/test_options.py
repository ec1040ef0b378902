"""Which options can be set, where and when, and that secrets stay secret."""

from __future__ import annotations

import pickle
from typing import Any, Literal

import pytest
from pydantic import Field, SecretStr, ValidationError, field_validator

from rerank import InvalidOptionsError, Options, Reload, Reranker
from rerank.options import override_options, parse_options
from rerank.testing.fake import fake_backend, fake_registry

SECRET = "sk-0123456789"


class CarOptions(Options):
    """A backend's options of every kind.

    Args:
        device: Fixed when the model loads.
        threads: Fixed, and bounded.
        mode: One of two.
        api_key: Secret.
        even: Checked by a validator of its own.
    """

    device: Reload[str] = "cpu"
    threads: Reload[int | None] = Field(default=None, ge=1)
    mode: Literal["fast", "exact"] = "fast"
    api_key: SecretStr | None = None
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


def build(**options: Any) -> Reranker:
    return Reranker("car", registry=fake_registry(fake_backend("car", options=CarOptions)), **options)


def test_core_options_have_defaults() -> None:
    assert Options().model_dump() == {
        "normalize": False,
        "batch_size": None,
        "max_batch_tokens": None,
        "long_documents": "truncate",
        "window": None,
        "overlap": 32,
        "aggregate": "max",
        "progress": True,
    }


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("devcie", "device"),
        ("batchsize", "batch_size"),
        ("normalise", "normalize"),
        ("long_document", "long_documents"),
        ("model_name", "model"),
        ("top_n", "top_k"),
        ("topk", "top_k"),
        ("passages", "docs"),
        ("documents", "docs"),
        ("provider", "api_provider"),
    ],
)
def test_an_unknown_option_names_the_near_miss(name: str, near: str) -> None:
    with pytest.raises(InvalidOptionsError, match=rf"'{name}' is unknown, did you mean '{near}'\?"):
        build(**{name: 1})
    with build() as reranker, pytest.raises(InvalidOptionsError, match=rf"did you mean '{near}'"):
        reranker.rank("q", ["a"], **{name: 1})


def test_an_argument_of_rank_is_no_option() -> None:
    with pytest.raises(InvalidOptionsError, match="'top_k' is no option, but an argument of rank"):
        build(top_k=3)


def test_an_unknown_option_without_a_near_miss_lists_all() -> None:
    with pytest.raises(
        InvalidOptionsError, match=r"backend 'car'.*'zzz' is unknown\. Its options are: aggregate, api_key"
    ):
        build(zzz=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "'batch_size': Input should be greater than or equal to 1"),
        ({"batch_size": "many"}, "'batch_size': Input should be a valid integer"),
        ({"threads": 0}, "'threads'"),
        ({"mode": "slow"}, "'mode': Input should be 'fast' or 'exact'"),
        ({"even": 3}, "'even': Value error, must be even"),
        ({"overlap": -1, "normalize": "perhaps"}, "'normalize'.*'overlap'"),
    ],
)
def test_a_wrong_value_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionsError, match=message):
        build(**options)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"threads": 2}, {"device": "cpu"}])
def test_what_is_fixed_at_loading_is_refused_in_a_call(options: dict[str, Any]) -> None:
    (name,) = options
    with build() as reranker, pytest.raises(InvalidOptionsError, match=rf"'{name}' is fixed when the model loads"):
        reranker.rank("q", ["a"], **options)
    with build(**options) as reranker:
        assert len(reranker.rank("q", ["a"])) == 1


def test_a_calls_override_is_validated_and_lasts_one_call() -> None:
    with build(batch_size=4, mode="exact") as reranker:
        scorer: Any = reranker.scorer
        reranker.rank("q", ["a"], batch_size=2, normalize=True)
        reranker.rank("q", ["a"])
        assert [(r.options.batch_size, r.options.mode, r.options.normalize) for r in scorer.requests] == [
            (2, "exact", True),
            (4, "exact", False),
        ]
        for wrong in ({"batch_size": 0}, {"even": 5}, {"mode": "slow"}):
            with pytest.raises(InvalidOptionsError):
                reranker.rank("q", ["a"], **wrong)


def test_options_are_checked_before_anything_is_loaded() -> None:
    backend = fake_backend("car", options=CarOptions, load=lambda model, options: pytest.fail("loaded"))
    with pytest.raises(InvalidOptionsError):
        Reranker("car", registry=fake_registry(backend), devcie="cuda")


def test_options_cannot_be_set() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Options().normalize = True  # type: ignore[misc]


def test_no_override_gives_the_same_object() -> None:
    options = CarOptions(even=4)
    assert override_options(options, {}, "car") is options


def test_a_secret_shows_nowhere() -> None:
    with build(api_key=SECRET, even=4) as reranker:
        shown = [repr(reranker), repr(reranker.options), str(reranker.options), reranker.options.model_dump_json()]
        pickled = pickle.dumps(parse_options(CarOptions, {}, "car"))
        assert SECRET.encode() not in pickled
        state = repr(reranker._session.__getstate__())
        for wrong in ({"even": 3}, {"zzz": 1}, {"mode": SECRET}):
            with pytest.raises(InvalidOptionsError) as caught:
                reranker.rank("q", ["a"], **wrong)
            shown += [str(caught.value), repr(caught.value.__context__), repr(caught.value.__cause__)]
    assert not [text for text in [*shown, state] if SECRET in text]


def test_a_secret_of_the_wrong_kind_shows_nowhere_either() -> None:
    with pytest.raises(InvalidOptionsError) as caught:
        build(api_key=[SECRET])
    assert SECRET not in f"{caught.value} {caught.value.__context__!r} {caught.value.__cause__!r}"


def test_a_key_of_the_environment_is_left_for_the_environment() -> None:
    state = build(api_key=SECRET, even=4)._session.__getstate__()
    assert state["options"] == {"even": 4}
