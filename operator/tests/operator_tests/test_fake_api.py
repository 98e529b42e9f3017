"""FakeApi does what the API server does: the same table is tried on the real one, end to end."""

import pytest

from . import api_contract, fake_api


@pytest.mark.parametrize("case", api_contract.CASES)
async def test_it_does_what_the_api_server_does(case: str) -> None:
    ask, expected = api_contract.CASES[case]
    assert await ask(api_contract.Client(fake_api.FakeApi(), "default")) == expected
