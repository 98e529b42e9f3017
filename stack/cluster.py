"""The kind cluster, and what runs on it before the first OllamaModelSet: KubeRay, models, our operator."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

from stack import auditing, cache, components, golang, images, models
from stack.step import StepFailed, output, run, step, succeeds

NAME = os.environ.get("CLUSTER", "modelset")
WORKERS = int(os.environ.get("WORKERS", "0"))  # nodes beside the one that is always there
CONTEXT = f"kind-{NAME}"
OPERATOR_NAMESPACE = "modelset-system"
RELEASE = "modelset-operator"
OPERATOR_ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"
CHART = cache.REPOSITORY / "charts" / "modelset-operator"
MANIFESTS = cache.REPOSITORY / "stack" / "manifests"
CHART_IMAGES = {"image": "operator", "defaults.proxyImage": "proxy", "defaults.ollamaImage": "ollama"}
# Where nodes read how a registry is reached that is not where its name says: a folder a name.
REGISTRIES = "/etc/containerd/certs.d"
REGISTRIES_PATCH = f'[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{REGISTRIES}"'
# Since 1.35 kubelets run on cgroup v1 only when they are told to; those before 1.31 pass over it.
KUBELET = {"kind": "KubeletConfiguration", "failCgroupV1": False}
POD_SUBNET = "10.244.0.0/16"
NODE_READY_SECONDS = 180
ROLLOUT_SECONDS = 300
METRICS_API = "apiservice/v1beta1.metrics.k8s.io"


def kubeconfig() -> Path:
    """Where the cluster's kubeconfig is written: apart from the user's own."""
    return cache.root() / "clusters" / f"{NAME}.kubeconfig"


def kubectl(*arguments: str | Path, data: str = "", timeout: float | None = None) -> str:
    """Run kubectl against the cluster, and against no other."""
    return output(kubectl_command(*arguments), data=data.encode(), timeout=timeout)


def kubectl_command(*arguments: str | Path) -> list[str | Path]:
    """The command line of kubectl, bound to the cluster."""
    return [golang.tool("kubectl"), "--kubeconfig", kubeconfig(), "--context", CONTEXT, *arguments]


@contextlib.contextmanager
def forwarded(namespace: str, target: str, port: int) -> Iterator[int]:
    """A local port that reaches a port of a service or pod while the body runs."""
    forward = subprocess.Popen(
        kubectl_command("port-forward", "--namespace", namespace, target, f":{port}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        for line in forward.stdout or ():
            if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", line):
                break
            said += line
        else:
            raise StepFailed(f"kubectl port-forward {target} in {namespace}: {said.strip()}")
        yield int(match[1])
    finally:
        forward.terminate()
        forward.communicate()


def _kind(*arguments: str | Path) -> None:
    run(
        [golang.tool("kind"), *arguments, "--name", NAME, "--kubeconfig", kubeconfig()], log=cache.log("kind")
    )


def nodes() -> list[str]:
    """The names of the cluster's nodes, which are those of their containers; none without a cluster."""
    label = f"label=io.x-k8s.kind.cluster={NAME}"
    return sorted(output(["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"]).split())


def ensure() -> None:
    """Return when all nodes are Ready: the running cluster, a stopped one started again, or a new one."""
    image = components.ensure("kind-node")
    path, config = kubeconfig().with_suffix(".kind.json"), json.dumps(_kind_config())
    if there := nodes():
        made_so = path.exists() and path.read_text() == config
        if made_so and _made_from(image, there) and _recover(there):
            return
        with step(f"delete the cluster {NAME}, which is broken or of another make"):
            _kind("delete", "cluster")
    with step(f"create kind cluster {NAME}"):
        kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config)
        _kind("create", "cluster", "--image", image, "--config", path)
        kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={NODE_READY_SECONDS}s")
        # A second one on the same node only takes CPU away from small machines.
        kubectl("scale", "--namespace", "kube-system", "deployment/coredns", "--replicas=1")


def _kind_config() -> dict[str, object]:
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "containerdConfigPatches": [REGISTRIES_PATCH],
        "kubeadmConfigPatches": [json.dumps(KUBELET)],
        "networking": {"apiServerAddress": "127.0.0.1", "podSubnet": POD_SUBNET},
        "nodes": [
            {"role": "control-plane"} | auditing.node(OPERATOR_ACCOUNT),
            *({"role": "worker"} for _ in range(WORKERS)),
        ],
    }


def _made_from(image: str, nodes: list[str]) -> bool:
    """Whether the cluster is what would be made now: of this image, and of so many nodes."""
    used = output(["docker", "container", "inspect", "--format", "{{.Config.Image}}", *nodes]).split()
    return used == [image] * (WORKERS + 1)


def _recover(nodes: list[str]) -> bool:
    """Whether the existing cluster answers, if need be after its stopped nodes were started."""
    running = output(["docker", "container", "inspect", "--format", "{{.State.Running}}", *nodes]).split()
    if stopped := [node for node, runs in zip(nodes, running, strict=True) if runs != "true"]:
        with step(f"start the stopped {', '.join(stopped)}"):
            output(["docker", "start", *stopped])
    if not kubeconfig().exists():
        kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        _kind("export", "kubeconfig")
    deadline = time.monotonic() + NODE_READY_SECONDS
    ready = kubectl_command("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s")
    while not succeeds(ready, timeout=30):
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def load(tag: str) -> None:
    """Copy an image from the engine into the nodes that do not have it."""
    for node in nodes():
        _load(tag, node)


def _load(tag: str, node: str) -> None:
    ctr = ["docker", "exec", "-i", node, "ctr", "--namespace", "k8s.io", "images"]
    if images.full_name(tag) in output([*ctr, "list", "--quiet"]).split():
        return
    with step(f"load {tag} into {node}"):
        save = subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE)
        run([*ctr, "import", "-"], log=cache.log("load"), stdin=save.stdout.fileno() if save.stdout else None)
        if save.wait() != 0:
            raise StepFailed(f"docker save {tag} ended with status {save.returncode}")


def install_kuberay() -> None:
    """Apply KubeRay's own manifests, with the image that this stack has."""
    image = components.ensure("kuberay")
    load(image)
    _apply("KubeRay", kuberay_manifest(image), "deployment/kuberay-operator", "default")


def kuberay_manifest(image: str) -> str:
    """KubeRay's own manifests, all objects, with an image."""
    folder = golang.module_folder("kuberay", "github.com/ray-project/kuberay/ray-operator")
    return _kustomized(folder / "config" / "default", image)


def install_metrics_server() -> None:
    """Apply metrics-server's own manifests: what pods use, for HorizontalPodAutoscalers. No part of `up`."""
    image = components.ensure("metrics-server")
    load(image)
    api, rest = _metrics_server(image)
    _apply("metrics-server", rest, "deployment/metrics-server", "kube-system")
    # Last: the API server asks at once, and keeps a connection that a Service without pods led astray.
    with step("wait for the metrics API"):
        kubectl("apply", "--filename", "-", data=api)
        kubectl("wait", "--for=condition=Available", METRICS_API, f"--timeout={ROLLOUT_SECONDS}s")


def remove_metrics_server() -> None:
    """Take it away again, first the API: one that does not answer keeps namespaces from being deleted."""
    for manifest in _metrics_server("any"):
        kubectl("delete", "--ignore-not-found", "--filename", "-", data=manifest)


def _metrics_server(image: str) -> tuple[str, str]:
    """The manifest of its API, and those of all the rest."""
    folder = golang.module_folder("metrics-server", "sigs.k8s.io/metrics-server")
    manifest = _kustomized(folder / "manifests" / "base", image)
    # kind's kubelets have certificates that nobody vouches for.
    manifest = re.sub(r"( *- )--kubelet-use-node-status-port\n", r"\g<0>\1--kubelet-insecure-tls\n", manifest)
    documents = manifest.split("\n---\n")
    [api] = [document for document in documents if "kind: APIService\n" in document]
    return api, "\n---\n".join(document for document in documents if document != api)


def _kustomized(folder: Path, image: str) -> str:
    """A folder's manifests with another image in each container."""
    rendered = output([golang.tool("kubectl"), "kustomize", folder])
    return "\n".join(
        line.split("image:")[0] + f"image: {image}" if line.strip().startswith("image: ") else line
        for line in rendered.splitlines()
    )


def install_model_registry() -> None:
    """The registry that stands for the model hub of a site without internet."""
    image = models.registry_image()
    load(image)
    manifest = Template((MANIFESTS / "model-registry.yaml").read_text()).substitute(image=image)
    _apply("the model registry", manifest, "deployment/model-registry", "model-registry")


def _apply(what: str, manifest: str, workload: str, namespace: str) -> None:
    server_side = ["--server-side", "--force-conflicts", "--filename", "-"]
    difference = subprocess.run(
        kubectl_command("diff", *server_side), input=manifest.encode(), capture_output=True, check=False
    )
    if difference.returncode != 0:
        with step(f"apply {what}"):
            kubectl("apply", *server_side, data=manifest)
    if not succeeds(_rollout(workload, namespace, 1)):
        with step(f"wait for {what}"):
            output(_rollout(workload, namespace, ROLLOUT_SECONDS))


def _rollout(workload: str, namespace: str, seconds: int) -> list[str | Path]:
    return kubectl_command("rollout", "status", workload, "--namespace", namespace, f"--timeout={seconds}s")


def chart_settings() -> list[str]:
    """Flags that make helm use the images of this stack, after they were put on the nodes."""
    values: dict[str, str] = {}
    for key, name in CHART_IMAGES.items():
        tag = components.ensure(name)
        load(tag)
        repository, _, version = tag.rpartition(":")
        values[f"{key}.repository"], values[f"{key}.tag"] = repository, version
    return [argument for name, value in values.items() for argument in ("--set-string", f"{name}={value}")]


def install_operator() -> None:
    """`helm install` of our chart, as a user would do it; nothing happens where it is as it should be."""
    settings = chart_settings()
    inputs = f"inputs {cache.key(CHART, ' '.join(settings))}"
    if _deployed(inputs) and succeeds(_rollout("deployment/modelset-operator", OPERATOR_NAMESPACE, 1)):
        return
    with step("helm install modelset-operator"):
        command = helm_command(
            "upgrade", "--install", RELEASE, CHART, "--create-namespace", "--description", inputs, *settings
        )
        run([*command, "--wait", "--timeout", f"{ROLLOUT_SECONDS}s"], log=cache.log("helm"))


def helm_command(*arguments: str | Path) -> list[str | Path]:
    """The command line of helm, bound to the cluster and the operator's namespace."""
    bound = ["--kube-context", CONTEXT, "--namespace", OPERATOR_NAMESPACE]
    return [golang.tool("helm"), "--kubeconfig", kubeconfig(), *bound, *arguments]


def _deployed(inputs: str) -> bool:
    """Whether the release was last installed from these inputs."""
    releases = json.loads(output(helm_command("list", "--deployed", "--output", "json")))
    if not any(release["name"] == RELEASE for release in releases):
        return False
    status = json.loads(output(helm_command("status", RELEASE, "--output", "json")))
    return bool(status["info"]["description"] == inputs)


def up() -> None:
    """Everything but an OllamaModelSet."""
    ensure()
    install_kuberay()
    install_model_registry()
    install_operator()


def down() -> None:
    """Delete the cluster and its kubeconfig."""
    if nodes():
        with step(f"delete kind cluster {NAME}"):
            _kind("delete", "cluster")
    kubeconfig().unlink(missing_ok=True)
