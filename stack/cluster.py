"""The kind cluster, and what runs on it before the first OllamaModelSet: KubeRay, a model registry, our operator."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from string import Template

from stack import cache, golang, images, models
from stack.step import StepFailed, output, run, step, succeeds

NAME = os.environ.get("CLUSTER", "modelset")
CONTEXT = f"kind-{NAME}"
NODE = f"{NAME}-control-plane"
OPERATOR_NAMESPACE = "modelset-system"
CHART = cache.REPOSITORY / "charts" / "modelset-operator"
MANIFESTS = cache.REPOSITORY / "stack" / "manifests"
POD_SUBNET = "10.244.0.0/16"
NODE_READY_SECONDS = 180
ROLLOUT_SECONDS = 300


def kubeconfig() -> Path:
    """Where the cluster's kubeconfig is written: apart from the user's own."""
    return cache.root() / "clusters" / f"{NAME}.kubeconfig"


def kubectl(*arguments: str | Path, data: str | None = None, timeout: float | None = None) -> str:
    """Run kubectl against the cluster, and against no other."""
    command = [golang.tool("kubectl"), "--kubeconfig", kubeconfig(), "--context", CONTEXT, *arguments]
    return output(command, data=data.encode() if data is not None else None, timeout=timeout)


def ensure() -> None:
    """Return when the node is Ready: the running cluster, a stopped one started again, or a new one."""
    kind = golang.tool("kind")
    image = images.ensure("kind-node")
    if NAME in output([kind, "get", "clusters"]).split():
        if _recover():
            return
        with step(f"delete the broken cluster {NAME}"):
            run([kind, "delete", "cluster", "--name", NAME], log=cache.log("kind"))
    config = _kind_config(built=images.source() == "build")
    with step(f"create kind cluster {NAME}"):
        kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        path = kubeconfig().with_suffix(".kind.json")
        path.write_text(json.dumps(config))
        command = [kind, "create", "cluster", "--name", NAME, "--image", image, "--config", path]
        run([*command, "--kubeconfig", kubeconfig(), "--wait", f"{NODE_READY_SECONDS}s"], log=cache.log("kind"))


def _kind_config(*, built: bool) -> dict[str, object]:
    # The node image that is built here has a bridge for its one node; kindest/node brings kind's own network.
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"apiServerAddress": "127.0.0.1", "disableDefaultCNI": built, "podSubnet": POD_SUBNET},
        "nodes": [{"role": "control-plane"}],
    }


def _recover() -> bool:
    """Whether the existing cluster answers, if need be after its stopped node was started."""
    running = output(["docker", "container", "inspect", "--format", "{{.State.Running}}", NODE]).strip()
    if running != "true":
        with step(f"start the stopped node {NODE}"):
            output(["docker", "start", NODE])
    if not kubeconfig().exists():
        kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        run([golang.tool("kind"), "export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig()], log=cache.log("kind"))
    deadline = time.monotonic() + NODE_READY_SECONDS
    command = [golang.tool("kubectl"), "--kubeconfig", kubeconfig(), "wait", "--for=condition=Ready", "node", "--all"]
    while not succeeds([*command, "--timeout=5s"], timeout=30):
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def load(tag: str) -> None:
    """Copy an image from the engine into the node, unless the node has it."""
    # containerd names an image without a host as Docker does.
    full_name = tag if "." in tag.split("/")[0] else f"docker.io/{tag}" if "/" in tag else f"docker.io/library/{tag}"
    ctr = ["docker", "exec", "-i", NODE, "ctr", "--namespace", "k8s.io", "images"]
    if full_name in output([*ctr, "list", "--quiet"]).split():
        return
    with step(f"load {tag} into the node"):
        save = subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE)
        run([*ctr, "import", "-"], log=cache.log("load"), stdin=save.stdout.fileno() if save.stdout else None)
        if save.wait() != 0:
            raise StepFailed(f"docker save {tag} ended with status {save.returncode}")


def install_kuberay() -> None:
    """Apply KubeRay's own manifests, with the image that this stack has."""
    image = images.ensure("kuberay")
    load(image)
    folder = golang.module_folder("kuberay", "github.com/ray-project/kuberay/ray-operator")
    rendered = output([golang.tool("kubectl"), "kustomize", folder / "config" / "default"])
    manifest = "\n".join(
        line.split("image:")[0] + f"image: {image}" if line.strip().startswith("image: ") else line
        for line in rendered.splitlines()
    )
    _apply("KubeRay", manifest, "deployment/kuberay-operator", "ray-system" if "namespace: ray-system" in rendered else "default")


def install_model_registry() -> None:
    """The registry that stands for the model hub of a site without internet."""
    image = models.registry_image()
    load(image)
    manifest = Template((MANIFESTS / "model-registry.yaml").read_text()).substitute(image=image)
    _apply("the model registry", manifest, "deployment/model-registry", "model-registry")


def _apply(what: str, manifest: str, workload: str, namespace: str) -> None:
    changed = subprocess.run(
        [golang.tool("kubectl"), "--kubeconfig", kubeconfig(), "diff", "--server-side", "--force-conflicts", "-f", "-"],
        input=manifest.encode(), capture_output=True, check=False,
    ).returncode
    if changed:
        with step(f"apply {what}"):
            kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", data=manifest)
    if not succeeds(_rollout(workload, namespace, 1)):
        with step(f"wait for {what}"):
            output(_rollout(workload, namespace, ROLLOUT_SECONDS))


def _rollout(workload: str, namespace: str, seconds: int) -> list[str | Path]:
    kube = [golang.tool("kubectl"), "--kubeconfig", kubeconfig(), "--context", CONTEXT]
    return [*kube, "rollout", "status", workload, "--namespace", namespace, f"--timeout={seconds}s"]


def chart_values() -> dict[str, str]:
    """Values that make the chart use the images of this stack, after they were put on the node."""
    values: dict[str, str] = {}
    for key, name in (("image", "operator"), ("defaults.proxyImage", "proxy"), ("defaults.ollamaImage", "ollama")):
        tag = images.ensure(name)
        load(tag)
        repository, _, version = tag.rpartition(":")
        values[f"{key}.repository"], values[f"{key}.tag"] = repository, version
    return values


def install_operator() -> None:
    """`helm install` of our chart, as a user would do it; nothing happens where it is as it should be."""
    values = chart_values()
    wanted = cache.key(CHART, json.dumps(values, sort_keys=True))
    helm = [golang.tool("helm"), "--kubeconfig", kubeconfig(), "--kube-context", CONTEXT]
    listed = json.loads(output([*helm, "list", "--namespace", OPERATOR_NAMESPACE, "--deployed", "--output", "json"]))
    if any(release.get("name") == "modelset-operator" for release in listed):
        description = json.loads(
            output([*helm, "status", "modelset-operator", "--namespace", OPERATOR_NAMESPACE, "--output", "json"])
        )["info"]["description"]
        if wanted in description and succeeds(_rollout("deployment/modelset-operator", OPERATOR_NAMESPACE, 1)):
            return
    with step("helm install modelset-operator"):
        command = [*helm, "upgrade", "--install", "modelset-operator", CHART, "--namespace", OPERATOR_NAMESPACE]
        command += ["--create-namespace", "--wait", "--timeout", f"{ROLLOUT_SECONDS}s"]
        command += ["--description", f"inputs {wanted}"]
        for name, value in values.items():
            command += ["--set-string", f"{name}={value}"]
        run(command, log=cache.log("helm"))


def up() -> None:
    """Everything but an OllamaModelSet."""
    ensure()
    install_kuberay()
    install_model_registry()
    install_operator()


def down() -> None:
    """Delete the cluster and its kubeconfig."""
    kind = golang.tool("kind")
    if NAME in output([kind, "get", "clusters"]).split():
        with step(f"delete kind cluster {NAME}"):
            run([kind, "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig()], log=cache.log("kind"))
    kubeconfig().unlink(missing_ok=True)
