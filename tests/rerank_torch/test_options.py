"""Options: names of number formats and devices, contradictions, and no import of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rerank import InvalidOptionsError
from rerank.options import override_options, parse_options
from rerank_torch import TorchOptions


def parse(**given):
    return parse_options(TorchOptions, given, "test")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, None),
        ({"dtype": "fp32"}, "float32"),
        ({"dtype": "FLOAT16"}, "float16"),
        ({"dtype": "half"}, "float16"),
        ({"dtype": "torch.bfloat16"}, "bfloat16"),
        ({"dtype": "bf16", "use_bf16": True}, "bfloat16"),
        ({"use_fp16": True}, "float16"),
        ({"use_bf16": True}, "bfloat16"),
    ],
)
def test_dtype_names(given, name):
    assert parse(**given).dtype_name == name


@pytest.mark.parametrize("dtype", ["fp8", "int8", "", 16, "float"[:3]])
def test_a_wrong_dtype_is_an_error(dtype):
    with pytest.raises(InvalidOptionsError, match="choose fp32, fp16 or bf16"):
        parse(dtype=dtype)


@pytest.mark.parametrize(
    "given",
    [
        {"use_fp16": True, "use_bf16": True},
        {"dtype": "fp32", "use_fp16": True},
        {"dtype": "bf16", "use_fp16": True},
        {"device": "cpu", "devices": ["cpu"]},
    ],
)
def test_contradictions_are_errors(given):
    with pytest.raises(InvalidOptionsError, match="give one of them"):
        parse(**given)


def test_a_str_is_one_device():
    assert parse(devices="cuda:1").devices == ("cuda:1",)
    assert parse(devices=["cpu", "cpu"]).devices == ("cpu", "cpu")
    with pytest.raises(InvalidOptionsError, match="devices"):
        parse(devices=[])


@pytest.mark.parametrize(
    "given",
    [
        {"device": "cpu"},
        {"devices": ["cpu"]},
        {"dtype": "fp16"},
        {"use_fp16": True},
        {"use_bf16": True},
        {"attn_implementation": "eager"},
        {"trust_remote_code": True},
        {"model_kwargs": {}},
        {"tokenizer_kwargs": {}},
    ],
)
def test_what_loads_with_the_model_cannot_change_a_call(given):
    with pytest.raises(InvalidOptionsError, match="fixed when the model loads"):
        override_options(parse(), given, "test")


def test_what_runs_a_call_can_change():
    assert override_options(parse(dtype="fp16"), {"max_length": 64}, "test").max_length == 64


def test_describing_imports_no_torch():
    code = "import sys, rerank_torch; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["dtype", "torch_dtype", "trust_remote_code"])
def test_arguments_of_the_model_do_not_shadow_options(name):
    with pytest.raises(InvalidOptionsError, match="must not contain"):
        parse_options(TorchOptions, {"model_kwargs": {name: True}}, "cross-encoder")
