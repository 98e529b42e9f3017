"""Errors in words that stay the same while the trouble does."""

import pytest

from modelset_operator.engines import wording


@pytest.mark.parametrize(
    ("said", "lasting"),
    [
        (
            'Get "https://r.example/v2/": read tcp 10.0.0.7:51234->1.2.3.4:443: connection reset by peer',
            'Get "https://r.example/v2/": read tcp 1.2.3.4:443: connection reset by peer',
        ),
        ("read udp [fd00::7]:40000->[fd00::a]:53: i/o timeout", "read udp [fd00::a]:53: i/o timeout"),
        ("dial tcp 1.2.3.4:443: connection refused", "dial tcp 1.2.3.4:443: connection refused"),
    ],
)
def test_the_port_of_one_attempt_is_left_out(said: str, lasting: str) -> None:
    assert wording.lasting(said) == lasting
