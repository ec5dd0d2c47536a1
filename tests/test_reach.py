"""Where a machine may be reached, and its labels: what is understood, and what is told of what is not."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from trainhub import reach
from trainhub.places import ConfigurationError

HERE = {
    "lo": [ip_address("127.0.0.1"), ip_address("::1")],
    "eth0": [ip_address("10.7.0.12"), ip_address("10.7.0.3"), ip_address("fd00::3")],
    "wg0": [ip_address("192.168.9.1")],
    "down0": [],
}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", ""),
        ("10.7.0.12", "10.7.0.12"),
        ("eth0", "10.7.0.3"),
        ("10.7.0.0/24", "10.7.0.3"),
        ("192.168.0.0/16", "192.168.9.1"),
        ("fd00::/8", "fd00::3"),
        (" wg0 ", "192.168.9.1"),
    ],
)
def test_an_address_an_interface_or_a_network_names_where_others_reach_us(given: str, address: str) -> None:
    assert reach.address({"TRAINHUB_INTERFACE": given}, HERE) == address


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("eth9", "has no such interface, and it is no IP address or network"),
        ("10.7.0.99", "has no such address"),
        ("172.16.0.0/12", "has no address in that network"),
        ("lo", "which no other machine can reach"),
        ("127.0.0.1", "which no other machine can reach"),
        ("0.0.0.0", "has no such address"),
        ("300.1.1.1", "no IP address or network"),
    ],
)
def test_what_names_nothing_is_refused_with_the_choices_there_are(given: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        reach.address({"TRAINHUB_INTERFACE": given}, HERE)
    assert told in str(refused.value)
    assert "Name one of eth0 (10.7.0.12, 10.7.0.3, fd00::3), wg0 (192.168.9.1), or leave it out" in str(refused.value)


def test_this_machine_s_own_interfaces_can_be_read() -> None:
    assert ip_address("127.0.0.1") in reach.interfaces()["lo"]


def test_labels_are_keys_with_values() -> None:
    assert reach.labels({"TRAINHUB_LABELS": "gpu=h200, rack = 7,"}) == {"gpu": "h200", "rack": "7"}
    assert reach.labels({}) == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("gpu", "'gpu' has no '='"),
        ("=x", "'' in '=x' must be 1 to 63 letters"),
        ("gpu=", "'' in 'gpu=' must be"),
        ("a b=c", "'a b' in 'a b=c' must be"),
        ("gpu=a,gpu=b", "names gpu twice"),
        (",".join(f"k{n}=v" for n in range(65)), "at most 64 labels, got 65"),
    ],
)
def test_wrong_labels_are_refused_by_name(given: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match="TRAINHUB_LABELS") as refused:
        reach.labels({"TRAINHUB_LABELS": given})
    assert told in str(refused.value)
