import json
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from modelset_operator.api import names, references, spec
from modelset_operator.manifests import common, ollama, ray

from . import builders

SCHEMA = pathlib.Path(__file__).parents[3] / "serve_app" / "user_config.schema.json"
NOTHING: dict[str, Any] = {"labels": {}, "annotations": {}}


def ray_cluster(modelset: spec.ModelSet, entries: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    service = ray.ray_service(modelset, entries, common.discovery(["a"]))
    config: dict[str, Any] = service["spec"]["rayClusterConfig"]
    return config


def pod_templates(modelset: spec.ModelSet, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = ray_cluster(modelset, entries)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        ollama.stateful_set(modelset, *modelset.pools)["spec"]["template"],
        *(group["template"] for group in groups),
    ]


def serve_config(modelset: spec.ModelSet, entries: list[dict[str, Any]]) -> dict[str, Any]:
    service = ray.ray_service(modelset, entries, NOTHING)
    config: dict[str, Any] = json.loads(service["spec"]["serveConfigV2"])
    return config["applications"][0]


def test_every_pod_fits_pod_security_restricted() -> None:
    for template in pod_templates(builders.modelset("a"), []):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {key for volume in pod.get("volumes", ()) for key in volume} <= {
            "name",
            "emptyDir",
            "configMap",
        }
        assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC", "initContainers"))
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container["ports"])


def test_nothing_about_models_reaches_a_pod_template() -> None:
    few = builders.modelset("a")
    many = builders.modelset("a", "b:1", {"name": "c", "keepAlive": "5m"}, ollama={"keepAlive": "1h"})
    assert pod_templates(few, builders.listed(few, "a")) == pod_templates(
        many, builders.listed(many, "a", "b:1")
    )


def test_children_go_with_their_set() -> None:
    modelset = builders.modelset("a")
    for manifest in (
        ollama.service(modelset, *modelset.pools),
        ollama.stateful_set(modelset, *modelset.pools),
        ray.ray_service(modelset, [], NOTHING),
    ):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("OllamaModelSet", "set-uid", True)
        assert manifest["metadata"]["labels"][names.SET_LABEL] == "assistants"


@pytest.mark.parametrize(("retain", "policy"), [(False, "Delete"), (True, "Retain")])
def test_claims_go_with_the_set_unless_they_are_to_be_kept(retain: bool, policy: str) -> None:
    modelset = builders.modelset("a", ollama={"storage": {"size": "2Gi", "retain": retain}})
    policies = ollama.stateful_set(modelset, *modelset.pools)["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policies == {"whenDeleted": policy, "whenScaled": "Retain"}


def test_the_stateful_set_takes_what_the_spec_says() -> None:
    modelset = builders.modelset(
        "a",
        ollama={
            "image": "mirror/ollama:1",
            "replicas": 3,
            "parallel": 2,
            "maxLoadedModels": 5,
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "storage": {"size": "50Gi", "storageClassName": "fast"},
        },
    )
    manifest = ollama.stateful_set(modelset, *modelset.pools)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    (claim,) = manifest["spec"]["volumeClaimTemplates"]
    assert manifest["spec"]["replicas"] == 3
    assert container["image"] == "mirror/ollama:1"
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert environment["OLLAMA_NUM_PARALLEL"] == "2"
    assert environment["OLLAMA_MAX_LOADED_MODELS"] == "5"
    assert environment["OLLAMA_MODELS"].startswith(container["volumeMounts"][0]["mountPath"])
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"


@pytest.mark.parametrize(
    ("holds", "required", "starts"),
    [
        ((), (), True),
        ((), ("a:1",), False),
        (("a:1",), ("a:1",), True),
        (("a:1",), ("a:1", "Reg.example:5000/Team/b:Q4"), False),
        (("a:1", "Reg.example:5000/Team/b:Q4"), ("a:1", "reg.example:5000/team/B:q4"), True),
        (("a:11",), ("a:1",), False),
    ],
)
def test_a_pod_starts_by_itself_once_its_volume_holds_its_models(
    tmp_path: pathlib.Path, holds: tuple[str, ...], required: tuple[str, ...], starts: bool
) -> None:
    modelset = builders.modelset(*required or ("a:1",))
    wanted = modelset.models if required else ()
    (tmp_path / "required").write_text(
        ollama.config_map(modelset, *modelset.pools, wanted)["data"]["required"]
    )
    for name in holds:
        reference = references.parse(name)
        manifest = tmp_path / "manifests" / reference.host / reference.namespace / reference.model
        manifest.mkdir(parents=True)
        (manifest / reference.tag).write_text("{}")
    probe = ollama.stateful_set(modelset, *modelset.pools)["spec"]["template"]["spec"]["containers"][0][
        "startupProbe"
    ]
    *shell, script = probe["exec"]["command"]
    script = script.replace("/etc/modelset/required", f"{tmp_path}/required").replace(
        "/var/lib/ollama/models", str(tmp_path)
    )
    assert (subprocess.run([*shell, script], check=False).returncode == 0) is starts


def test_a_manifest_that_is_still_being_written_does_not_count(tmp_path: pathlib.Path) -> None:
    modelset = builders.modelset("a:1")
    manifest = tmp_path / "manifests" / modelset.models[0].reference.manifest_path
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    (tmp_path / "required").write_text(
        ollama.config_map(modelset, *modelset.pools, modelset.models)["data"]["required"]
    )
    script = ollama.stateful_set(modelset, *modelset.pools)["spec"]["template"]["spec"]["containers"][0][
        "startupProbe"
    ]["exec"]["command"][-1]
    script = script.replace("/etc/modelset/", f"{tmp_path}/").replace("/var/lib/ollama/models", str(tmp_path))
    assert subprocess.run(["sh", "-c", script], check=False).returncode != 0


def test_unset_images_are_the_operators() -> None:
    templates = pod_templates(builders.modelset("a"), [])
    images = [template["spec"]["containers"][0]["image"] for template in templates]
    assert images == [builders.IMAGES.ollama, builders.IMAGES.proxy, builders.IMAGES.proxy]


def test_nobody_submits_a_job_to_ray_without_its_token() -> None:
    cluster = ray.ray_service(builders.modelset("a"), [], NOTHING)["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    # KubeRay refuses the mode where it does not know the version.
    assert cluster["rayVersion"] == ray.RAY_VERSION


def test_kuberays_services_find_their_pods() -> None:
    """They select the application's name, which is KubeRay's own unless the template says otherwise."""
    cluster = ray.ray_service(builders.modelset("a"), [], NOTHING)["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        labels = group["template"]["metadata"]["labels"]
        assert "app.kubernetes.io/name" not in labels
        assert labels.items() >= names.proxy_selector("assistants").items()


def test_the_proxy_scales_without_a_new_ray_cluster() -> None:
    """KubeRay ignores replicas when it decides whether a cluster is the same."""

    def identity(replicas: int) -> dict[str, Any]:
        modelset = builders.modelset("a", proxy={"replicas": replicas})
        cluster = ray.ray_service(modelset, [], NOTHING)["spec"]["rayClusterConfig"]
        for group in cluster["workerGroupSpecs"]:
            assert group.pop("replicas") == replicas - 1
            assert group["maxReplicas"] >= replicas - 1
        return dict(cluster)

    assert identity(1) == identity(4)
    assert (
        serve_config(builders.modelset("a", proxy={"replicas": 4}), [])["deployments"][0]["num_replicas"] == 4
    )


def test_the_serve_config_is_the_same_text_for_the_same_input() -> None:
    modelset = builders.modelset("a", "b")
    entries = builders.listed(modelset, "a", "b")
    assert ray.serve_config(modelset, entries) == ray.serve_config(modelset, json.loads(json.dumps(entries)))


def test_user_config_keeps_the_contract_with_the_proxy() -> None:
    modelset = builders.modelset(
        {"name": "smollm2:135m", "servedNames": ["smollm2"], "keepAlive": "1h30m"},
        "hf.co/team/model:Q4",
        registry={"host": "models.example:5000", "insecure": True},
    )
    entries = [
        ray.model_entry(modelset.models[0], "Chat", ["completion", "tools"], modelset.created),
        ray.model_entry(modelset.models[1], "Embedding", [], modelset.created),
    ]
    user_config = serve_config(modelset, entries)["deployments"][0]["user_config"]
    jsonschema.validate(user_config, json.loads(SCHEMA.read_text()))
    assert user_config["models"][0] == {
        "model": "models.example:5000/library/smollm2:135m",
        "servedNames": ["smollm2"],
        "type": "Chat",
        "capabilities": ["completion", "tools"],
        "keepAlive": "1h30m",
        "created": builders.CREATED_SECONDS,
    }
    assert user_config["models"][1]["keepAlive"] == "-1"


def test_limits_and_origins_reach_the_proxy_in_place() -> None:
    limits = {
        "maxQueuedRequests": 0,
        "queueTimeoutSeconds": 5,
        "requestTimeoutSeconds": 600,
        "maxBodyBytes": 1024,
    }
    ours = {"maxInFlightPerServer": 2, "maxLoadedPerServer": 3}
    cors = {"allowOrigins": ["https://chat.example", "*"]}
    plain = builders.modelset("a", ollama={"parallel": 2})
    bounded = builders.modelset("a", ollama={"parallel": 2}, proxy={"limits": limits, "cors": cors})
    user_config = serve_config(bounded, [])["deployments"][0]["user_config"]
    jsonschema.validate(user_config, json.loads(SCHEMA.read_text()))
    upstreams = [{"url": "http://assistants-ollama.default.svc:11434"}]
    assert user_config == {"models": [], "upstreams": upstreams, "limits": {**limits, **ours}, "cors": cors}
    assert serve_config(plain, [])["deployments"][0]["user_config"] == {
        "models": [],
        "upstreams": upstreams,
        "limits": ours,
    }
    assert ray_cluster(bounded) == ray_cluster(plain), "a new Ray cluster would cut streams"


@pytest.mark.parametrize(
    ("resources", "bytes_told"),
    [
        ({"limits": {"memory": "8Gi"}}, 8 * 2**30),
        ({"limits": {"memory": "1500M", "cpu": "2"}}, 1_500_000_000),
        ({"limits": {"memory": 4096}}, 4096),
        ({"requests": {"memory": "8Gi"}}, None),
        ({"limits": {"cpu": "2"}}, None),
        ({"limits": {"memory": "0"}}, None),
        ({"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}}, None),
        ({"limits": None}, None),
    ],
)
def test_the_proxy_is_told_what_memory_a_pod_has_for_models(
    resources: dict[str, Any], bytes_told: int | None
) -> None:
    modelset = builders.modelset("a", ollama={"resources": resources})
    user_config = serve_config(modelset, [])["deployments"][0]["user_config"]
    jsonschema.validate(user_config, json.loads(SCHEMA.read_text()))
    assert user_config["limits"].get("memoryBytesPerServer") == bytes_told


def test_api_keys_are_mounted_into_every_proxy_pod() -> None:
    modelset = builders.modelset("a", proxy={"auth": {"apiKeysSecret": {"name": "keys"}}})
    cluster = ray_cluster(modelset)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (mount,) = container["volumeMounts"]
        assert {"name": "PROXY_API_KEYS_DIR", "value": mount["mountPath"]} in container["env"]
        assert mount["readOnly"] is True
        (volume,) = pod["volumes"]
        assert (volume["name"], volume["secret"]["secretName"]) == (mount["name"], "keys")


def test_without_a_secret_everybody_may_call() -> None:
    cluster = ray_cluster(builders.modelset("a"))
    pod = cluster["headGroupSpec"]["template"]["spec"]
    assert "volumes" not in pod
    assert "env" not in pod["containers"][0]


def test_discovery_reaches_the_ray_service_and_only_its_metadata() -> None:
    modelset = builders.modelset("a")
    service = ray.ray_service(modelset, [], common.discovery(["smollm2", "all-minilm"]))
    assert service["metadata"]["labels"]["model.modelset.dev/smollm2"] == "true"
    assert service["metadata"]["annotations"] == {"modelset.dev/openai-model-names": "all-minilm;smollm2"}
    assert "smollm2" not in json.dumps(service["spec"]["rayClusterConfig"])


def test_the_head_declares_every_port_that_kuberay_would() -> None:
    head = ray.ray_service(builders.modelset("a"), [], NOTHING)["spec"]["rayClusterConfig"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "gcs-server": 6379,
        "dashboard": 8265,
        "client": 10001,
        "metrics": 8080,
        "serve": 8000,
    }
