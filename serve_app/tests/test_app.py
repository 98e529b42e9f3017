"""The Serve binding, as far as it goes without a running Ray."""

from modelset_proxy import app


def test_serve_finds_one_deployment_that_admits_all_and_is_always_configured() -> None:
    deployment = app.Proxy
    assert deployment.name == "Proxy"
    assert deployment.user_config == {}
    assert deployment.max_ongoing_requests == 100_000
