"""Present and missing devices, and the number format that each device gets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rerank import InvalidOptionsError  # noqa: E402
from rerank_torch import TorchOptions  # noqa: E402
from rerank_torch.device import OUT_OF_MEMORY, choose_devices, choose_dtype, memory_errors_raised  # noqa: E402


def test_the_first_device_there_is_chosen():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_devices(TorchOptions()) == (expected,)
    assert choose_devices(TorchOptions(device="cpu")) == ("cpu",)
    assert choose_devices(TorchOptions(devices=["cpu", "cpu"])) == ("cpu", "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:7", ""])
def test_a_device_that_is_not_there_is_an_error(device):
    with pytest.raises(InvalidOptionsError, match="choose"):
        choose_devices(TorchOptions(devices=[device]))
    with pytest.raises(InvalidOptionsError, match="choose"):
        choose_devices(TorchOptions(device=device))


def test_a_cpu_gets_fp32_and_others_what_was_saved():
    assert choose_dtype(TorchOptions(), "cpu") is torch.float32
    assert choose_dtype(TorchOptions(), "cuda:0") == "auto"
    assert choose_dtype(TorchOptions(use_bf16=True), "cpu") is torch.bfloat16
    assert choose_dtype(TorchOptions(dtype="half"), "cuda") is torch.float16


def test_out_of_memory_is_no_plain_runtime_error():
    assert torch.cuda.OutOfMemoryError in OUT_OF_MEMORY or torch.OutOfMemoryError in OUT_OF_MEMORY
    assert RuntimeError not in OUT_OF_MEMORY


def test_the_cpu_running_out_of_memory_is_a_memory_error():
    with pytest.raises(MemoryError), memory_errors_raised():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), memory_errors_raised():
        torch.ones(2, 3) @ torch.ones(2, 3)
