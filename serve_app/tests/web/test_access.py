"""Who may call."""

import asyncio
import json
import pathlib
import pickle

import pytest

from modelset_proxy.openai import errors
from modelset_proxy.serving import config
from modelset_proxy.telemetry import log
from modelset_proxy.web import access
from serve_app.tests import asking, fake_ollama, running


class TestKeys:
    """API keys in a folder."""

    def test_each_key_of_a_client_is_valid(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "team-a").write_text("old\nnew\n")
        (tmp_path / "team-b").write_text("other")
        (tmp_path / "..data").mkdir()
        keys = access.Keys(str(tmp_path))
        assert keys.client(b"Bearer old", b"") == "team-a"
        assert keys.client(b"bearer  new ", b"") == "team-a"
        assert keys.client(b"", b"other") == "team-b"

    @pytest.mark.parametrize("authorization", [b"", b"Bearer", b"Bearer wrong", b"Basic old", b"old"])
    def test_other_keys_are_not(self, tmp_path: pathlib.Path, authorization: bytes) -> None:
        (tmp_path / "team-a").write_text("old\n\n")
        with pytest.raises(errors.ApiError) as refusal:
            access.Keys(str(tmp_path)).client(authorization, b"")
        assert (refusal.value.status, refusal.value.code) == (401, "invalid_api_key")
        assert "old" not in refusal.value.message

    @pytest.mark.parametrize(
        ("authorization", "told"),
        [(b"", "You did not provide"), (b"Bearer ", "You did not"), (b"Bearer x", "Incorrect")],
    )
    def test_a_key_that_is_missing_is_told_from_a_wrong_one(
        self, tmp_path: pathlib.Path, authorization: bytes, told: str
    ) -> None:
        with pytest.raises(errors.ApiError, match=told):
            access.Keys(str(tmp_path)).client(authorization, b"")

    def test_what_is_hidden_is_no_client(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / ".team").write_text("hidden")
        with pytest.raises(errors.ApiError):
            access.Keys(str(tmp_path)).client(b"Bearer hidden", b"")

    def test_changes_are_taken_up(self, tmp_path: pathlib.Path) -> None:
        keys = access.Keys(str(tmp_path))
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer k", b"")
        (tmp_path / "a").write_text("k")
        keys.reload()
        assert keys.client(b"Bearer k", b"") == "a"
        (tmp_path / "a").unlink()
        keys.reload()
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer k", b"")

    def test_a_folder_that_is_not_there_lets_nobody_in(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(errors.ApiError):
            access.Keys(str(tmp_path / "gone")).client(b"Bearer x", b"")

    def test_a_folder_that_goes_takes_its_keys_along(self, tmp_path: pathlib.Path) -> None:
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "team-a").write_text("sesame")
        keys = access.Keys(str(folder))
        assert keys.client(b"Bearer sesame", b"") == "team-a"
        (folder / "team-a").unlink()
        folder.rmdir()
        keys.reload()
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer sesame", b"")

    def test_keys_of_one_client_that_cannot_be_read_hold_up_no_other(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "team-a").write_text("old")
        (tmp_path / "team-b").write_text("other")
        keys = access.Keys(str(tmp_path))
        genuine = pathlib.Path.read_bytes

        def read_bytes(path: pathlib.Path) -> bytes:
            if path.name == "team-b":
                raise PermissionError(13, "Permission denied")
            return genuine(path)

        monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
        (tmp_path / "team-a").write_text("new")
        keys.reload()
        keys.reload()
        assert keys.client(b"Bearer new", b"") == "team-a"
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer other", b"")
        assert [record.getMessage() for record in caplog.records].count("cannot read API keys") == 1

    @pytest.mark.simulated
    async def test_the_folder_is_read_every_few_seconds(
        self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        keys = access.Keys(str(tmp_path))
        watching = asyncio.create_task(keys.watch())
        (tmp_path / "a").write_text("k")
        await asyncio.sleep(10)
        watching.cancel()
        assert keys.client(b"Bearer k", b"") == "a"
        told = [vars(record)["facts"]["clients"] for record in caplog.records]
        assert told == ["none: nobody may call", "a"]

    @pytest.mark.simulated
    async def test_without_a_folder_there_is_nothing_to_read(self) -> None:
        keys = access.Keys(None)
        await asyncio.wait_for(keys.watch(), 1)
        assert keys.client(b"", b"") == ""

    def test_each_failure_to_read_is_said_once(
        self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "keys"
        keys = access.Keys(str(folder))
        keys.reload()
        folder.mkdir()
        keys.reload()
        folder.rmdir()
        keys.reload()
        told = [vars(record)["facts"]["reason"] for record in caplog.records]
        assert told == ["No such file or directory"] * 2

    def test_no_key_is_kept_as_it_was_given(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "team-a").write_text("sesame")
        assert b"sesame" not in pickle.dumps(access.Keys(str(tmp_path)))

    async def test_routes_ask_for_a_key_but_health_and_preflights_do_not(
        self,
        ollama: fake_ollama.FakeOllama,
        tmp_path: pathlib.Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO", logger=log.ROOT)
        (tmp_path / "team-a").write_text("sesame")
        settings = config.Environment(
            ollama_urls=(ollama.url,), api_keys_dir=str(tmp_path), refresh_seconds=0.05
        )
        async with running.proxied(settings=settings) as (session, _):
            for path in ("/v1/models", "/v1/models/smollm2", "/v1/nothing"):
                async with session.get(path) as response:
                    assert response.status == 401
                    assert response.headers["www-authenticate"] == "Bearer"
            assert (await asking.ask(session))[0] == 401
            assert (await asking.ask(session, {"authorization": "Bearer sesame"}))[0] == 200
            assert (await asking.ask(session, {"x-api-key": "sesame"}))[0] == 200
            async with session.get("/healthz") as response:
                assert response.status == 200
            async with session.options("/v1/models") as response:
                assert response.status == 204
        written = capfd.readouterr().err
        requests = [json.loads(line) for line in written.splitlines() if '"message":"request"' in line]
        assert {request.get("client") for request in requests} == {None, "team-a"}
        assert "sesame" not in written
