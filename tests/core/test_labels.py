"""Two outputs by their names: which one says relevant."""

from __future__ import annotations

from typing import Any

import pytest

from rerank import ModelLoadError, relevant_output


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ("LABEL_0", "LABEL_1", 1),
        ("LABEL_1", "LABEL_0", 0),
        ("0", "1", 1),
        ("irrelevant", "relevant", 1),
        ("relevant", "irrelevant", 0),
        ("Relevant", "Not relevant", 0),
        ("entailment", "not_entailment", 0),
        ("not_entailment", "entailment", 1),
        ("non-relevant", "relevant", 1),
        ("no", "yes", 1),
        ("yes", "no", 0),
        ("true", "false", 0),
        ("not_duplicate", "duplicate", 1),
        ("NEGATIVE", "POSITIVE", 1),
        ("contradiction", "entailment", 1),
        ("other", "relevant", 1),
        ("irrelevant", "good", 1),
        ("equivalent", "not_equivalent", 0),
        ("no match", "match", 1),
        ("dissimilar", "similar", 1),
        ("REFUTES", "SUPPORTS", 1),
    ],
)
def test_the_names_decide(first: str, second: str, place: int) -> None:
    assert relevant_output({"id2label": {"0": first, "1": second}}, "m") == place
    assert relevant_output({"id2label": {0: first, 1: second}}, "m") == place


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cats", "dogs"),
        ("relevant", "yes"),
        ("no", "irrelevant"),
        ("", "x"),
        ("LABEL_0", "dogs"),
        ("notable", "unknown"),
    ],
)
def test_names_that_do_not_say_it_are_refused(first: str, second: str) -> None:
    with pytest.raises(ModelLoadError, match=f"two outputs, '{first}' and '{second}', .*name them 'irrelevant' and"):
        relevant_output({"id2label": {"0": first, "1": second}}, "m")


@pytest.mark.parametrize("config", [{}, {"id2label": None}, {"id2label": {"0": "LABEL_0"}}, {"num_labels": 2}])
def test_without_names_it_is_the_second(config: dict[str, Any]) -> None:
    assert relevant_output(config, "m") == 1


def test_names_stand_in_label2id_too() -> None:
    places = {"label2id": {"entailment": 0, "not_entailment": 1}}
    assert relevant_output(places, "m") == 0
    assert relevant_output({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, **places}, "m") == 0
    assert relevant_output({"id2label": {"0": "entailment", "1": "not_entailment"}, **places}, "m") == 0


def test_names_that_contradict_each_other_are_refused() -> None:
    config = {"id2label": {"0": "irrelevant", "1": "relevant"}, "label2id": {"relevant": 0, "irrelevant": 1}}
    with pytest.raises(
        ModelLoadError, match="'irrelevant' as its first output by id2label and as its second by label2id"
    ):
        relevant_output(config, "m")
