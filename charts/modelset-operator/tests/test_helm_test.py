"""What `helm test` makes, and what it asks."""

import functools
import importlib.util
import json
import pathlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelset_operator.__main__ import parse
from rendering import CHART, container, helm, installed, is_hook, manifests, one

SCRIPT = CHART / "files/check.py"


def load() -> Any:
    described = importlib.util.spec_from_file_location("check", SCRIPT)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


check = load()


PODS = {
    "imagePullSecrets": [{"name": "mirror"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "image": {"registry": "mirror.example", "pullPolicy": "Always"},
    "securityContext": {"seLinuxOptions": {"level": "s0"}},
}


@functools.cache
def everything() -> list[dict[str, Any]]:
    return manifests(helm(values=PODS))


@functools.cache
def hooks() -> list[dict[str, Any]]:
    return [manifest for manifest in everything() if is_hook(manifest)]


def test_it_makes_what_it_asks_by_before_it_asks_and_leaves_nothing() -> None:
    order = {
        manifest["kind"]: int(manifest["metadata"]["annotations"].get("helm.sh/hook-weight", 0))
        for manifest in hooks()
    }
    assert order == {"Service": -1, "NetworkPolicy": -1, "Pod": 0}
    for manifest in hooks():
        annotations = manifest["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"


def test_it_reaches_the_operator_through_its_policy_and_is_not_taken_for_it() -> None:
    pod, service, policy = (one(hooks(), kind) for kind in ("Pod", "Service", "NetworkPolicy"))
    operator = one(installed(everything()), "Deployment")["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == operator
    assert not operator.items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    ((rule,),) = [policy["spec"]["ingress"]]
    ((source,),) = [rule["from"]]
    assert source["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container(installed(everything()))["ports"]}
    (port,) = service["spec"]["ports"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["targetPort"]}]
    assert ports[port["targetPort"]] == parse([]).metrics_port
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert pod["spec"]["containers"][0]["args"][1] == f"http://{name}.{namespace}.svc:{port['port']}/readyz"


def test_without_a_policy_there_is_none_to_get_through() -> None:
    found = manifests(helm("--set", "networkPolicy.enabled=false"))
    assert not [manifest for manifest in found if manifest["kind"] == "NetworkPolicy"]


def test_its_pod_is_as_the_operators_is() -> None:
    pod = one(hooks(), "Pod")["spec"]
    operator = one(installed(everything()), "Deployment")["spec"]["template"]["spec"]
    pods = ("securityContext", "imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName")
    for field in pods:
        assert pod[field] == operator[field]
    for field in ("securityContext", "image", "imagePullPolicy"):
        assert pod["containers"][0][field] == operator["containers"][0][field]
    assert pod["containers"][0]["command"] == ["python", "-c", SCRIPT.read_text()]
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is True


# ---- the script ----


class Answers(BaseHTTPRequestHandler):
    """Answers from the server's table of paths, each the status and the body."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        status, body = self.server.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def account(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "token").write_text("secret")
    return tmp_path


def listing(*names: str) -> tuple[int, str]:
    return 200, json.dumps({"resources": [{"name": name} for name in names]})


def test_it_asks_the_api_server_as_its_account(server: Server, account: pathlib.Path) -> None:
    server.answers[check.GROUP] = listing(*check.RESOURCES, "others")
    check.serves_sets(server.url, account)
    assert server.asked == [(check.GROUP, "Bearer secret")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (listing("ollamamodelsets", "ollamamodelsets/status"), "does not list ollamamodelsets/scale"),
        ((404, "no such group"), "answers 404: no such group"),
    ],
)
def test_it_says_what_is_not_served(
    server: Server, account: pathlib.Path, answer: tuple[int, str], said: str
) -> None:
    server.answers[check.GROUP] = answer
    with pytest.raises(OSError, match=said):
        check.serves_sets(server.url, account)


def test_it_asks_for_what_the_definition_has() -> None:
    crd = one(installed(everything()), "CustomResourceDefinition")["spec"]
    (version,) = crd["versions"]
    plural = crd["names"]["plural"]
    assert f"/apis/{crd['group']}/{version['name']}" == check.GROUP
    assert {plural, *(f"{plural}/{name}" for name in version["subresources"])} == check.RESOURCES


def test_it_waits_for_what_comes_late_and_says_what_never_comes() -> None:
    tries = []

    def late() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")

    assert check.patiently(late, 5, pause=0.001) == ""
    assert len(tries) == 3

    def never() -> None:
        raise OSError("refused")

    assert check.patiently(never, 0.005, pause=0.001) == "refused"


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [(200, 0, "ok: the operator is ready"), (503, 1, "not ok: the operator is ready: ")],
)
def test_it_fails_when_one_check_does(
    server: Server,
    account: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    code: int,
    line: str,
) -> None:
    monkeypatch.setattr(check, "ACCOUNT", account)
    monkeypatch.setattr(check, "PATIENCE_SECONDS", 0)
    server.answers[check.GROUP] = listing(*check.RESOURCES)
    server.answers["/readyz"] = (status, "pods are not listed yet")
    with pytest.raises(SystemExit) as ended:
        check.main(server.url, f"{server.url}/readyz")
    assert int(ended.value.code or 0) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok: the API server serves OllamaModelSets"
    assert lines[1].startswith(line)
    assert ("pods are not listed yet" in lines[1]) == bool(code)
