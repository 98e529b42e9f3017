"""How Serve runs the proxy is said once for `make run` and once in the image: in the same words."""

from __future__ import annotations

import os

import pytest

from stack import cache

DOCKERFILE = (cache.REPOSITORY / "images" / "proxy" / "Dockerfile").read_text().split()
API = (cache.REPOSITORY / "docs" / "api.md").read_text()
LINES = (cache.REPOSITORY / "serve_app" / "serve.env").read_text().splitlines()
SETTINGS = [line for line in LINES if not line.startswith("#")]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_image_has_it_and_the_documentation_explains_it(setting: str) -> None:
    assert setting in DOCKERFILE
    assert f"`{setting.partition('=')[0]}" in API


def test_what_stands_in_for_haproxy_is_where_both_say() -> None:
    program = "modelset_proxy/serving/haproxy.sh"
    assert os.access(cache.REPOSITORY / "serve_app" / program, os.X_OK)
    assert f"RAY_SERVE_HAPROXY_BINARY_PATH=/opt/proxy/{program}" in DOCKERFILE
    assert f'RAY_SERVE_HAPROXY_BINARY_PATH="$$PWD/{program}"' in (cache.REPOSITORY / "Makefile").read_text()
