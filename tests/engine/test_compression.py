import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from workers.methods.compression.base import Compression, Payload
from workers.methods.compression.bf16 import Bf16
from workers.methods.compression.top_k import TopK, largest


def sent(rule: Compression, vector: torch.Tensor) -> torch.Tensor:
    """What arrives of a vector."""
    payload, arrived = rule.payload(vector.numel()), torch.full_like(vector, 99.0)
    rule.encode(vector, payload)
    rule.decode(payload, arrived)
    return arrived


def bits(value: float) -> int:
    return int(tensor([value]).view(torch.int32)[0]) & 0xFFFFFFFF


def from_bits(pattern: int) -> torch.Tensor:
    return tensor([pattern], dtype=torch.int64).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize(
    ("given", "arrived"),
    [
        pytest.param(0x3F808000, 0x3F800000, id="halfway goes to the even one, below"),
        pytest.param(0x3F818000, 0x3F820000, id="halfway goes to the even one, above"),
        pytest.param(0x3F808001, 0x3F810000, id="a little more than half goes up"),
        pytest.param(0x3F807FFF, 0x3F800000, id="a little less than half goes down"),
        pytest.param(0x7F7F7FFF, 0x7F7F0000, id="the largest stays finite"),
        pytest.param(0x00010000, 0x00010000, id="what is below the normal numbers stays"),
    ],
)
def test_bf16_rounds_to_the_nearest_ties_to_even(given: int, arrived: int) -> None:
    assert bits(float(sent(Bf16(), from_bits(given))[0])) == arrived


def test_bf16_takes_half_the_bytes() -> None:
    (payload,) = Bf16().payload(1000)
    assert payload.numel() * payload.element_size() == 2000


def test_bf16_of_a_part_is_the_part_of_the_whole() -> None:
    vector = torch.randn(1000)
    assert torch.equal(sent(Bf16(), vector[300:700].clone()), sent(Bf16(), vector)[300:700])


def test_top_k_sends_the_largest_and_keeps_the_rest() -> None:
    rule = TopK(share=0.4)  # 2 of 5
    assert_close(sent(rule, tensor([1.0, -5.0, 2.0, 3.0, 0.0])), tensor([0.0, -5.0, 0.0, 3.0, 0.0]))
    # e = (1, 0, 2, 0, 0) + (1, 0, 0.5, 0, 0.5) = (2, 0, 2.5, 0, 0.5)
    assert_close(sent(rule, tensor([1.0, 0.0, 0.5, 0.0, 0.5])), tensor([2.0, 0.0, 2.5, 0.0, 0.0]))
    # e = (0, 0, 0, 0, 0.5) + 0: what waited is sent, and a zero, the first
    assert_close(sent(rule, torch.zeros(5)), tensor([0.0, 0.0, 0.0, 0.0, 0.5]))


def test_nothing_is_lost_by_error_feedback() -> None:
    rule, random = TopK(share=0.1), torch.Generator().manual_seed(0)
    gradients = torch.randint(-8, 9, (50, 40), generator=random).float()  # sums of small integers are exact
    arrived = torch.zeros(40)
    for gradient in gradients:
        arrived += sent(rule, gradient)
    for _ in range(10):
        arrived += sent(rule, torch.zeros(40))
    assert torch.equal(arrived, gradients.sum(0))


def test_of_equal_elements_the_first_are_sent() -> None:
    assert largest(tensor([1.0, -2.0, 2.0, 2.0, -3.0]), 3).tolist() == [1, 2, 4]


def test_it_chooses_as_torch_does() -> None:
    vector = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    assert largest(vector, 137).tolist() == sorted(torch.topk(vector.abs(), 137).indices.tolist())


@pytest.mark.parametrize(("share", "size", "count"), [(0.01, 1000, 10), (0.01, 1001, 11), (1e-6, 10, 1), (1.0, 7, 7)])
def test_the_share_is_rounded_up_and_one_element_is_sent_at_least(share: float, size: int, count: int) -> None:
    assert [p.numel() for p in TopK(share).payload(size)] == [count, count]


@pytest.mark.parametrize(
    "indices",
    [
        pytest.param([0, 5], id="behind the end"),
        pytest.param([-1, 2], id="before the start"),
        pytest.param([3, 1], id="falling"),
        pytest.param([2, 2], id="twice the same"),
        pytest.param([4, -2147483648], id="far out"),
    ],
)
def test_indices_that_are_none_are_refused_and_nothing_is_touched(indices: list[int]) -> None:
    into = torch.full((5,), 7.0)
    with pytest.raises(ValueError, match="indices"):
        TopK(0.4).decode((tensor(indices, dtype=torch.int32), torch.ones(2)), into)
    assert bool((into == 7.0).all())


@pytest.mark.parametrize("rule", [Bf16(), TopK(0.1)])
def test_a_payload_that_was_never_filled_can_be_read(rule: Compression) -> None:
    into = torch.ones(50)
    rule.decode(rule.payload(50), into)
    assert not into.any()


def test_payloads_have_the_size_that_follows_from_the_vectors() -> None:
    def size_bytes(payload: Payload) -> int:
        return sum(p.numel() * p.element_size() for p in payload)

    assert size_bytes(TopK(0.01).payload(1_000_000)) == 80_000
    assert size_bytes(Bf16().payload(1_000_000)) == 2_000_000
