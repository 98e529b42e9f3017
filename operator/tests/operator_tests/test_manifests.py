import json
import os
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from modelset_operator.api import names, references, spec
from modelset_operator.manifests import common, ollama, ray

from . import builders

# The proxy's tests check the schema itself.
CONTRACT = jsonschema.Draft202012Validator(
    json.loads((pathlib.Path(__file__).parents[3] / "serve_app" / "user_config.schema.json").read_text())
)
NOTHING: dict[str, Any] = {"labels": {}, "annotations": {}}


def ray_cluster(modelset: spec.ModelSet, entries: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    service = ray.ray_service(modelset, entries, common.discovery(["a"]))
    config: dict[str, Any] = service["spec"]["rayClusterConfig"]
    return config


def pod_templates(modelset: spec.ModelSet, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = ray_cluster(modelset, entries)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"],
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
        ollama.stateful_set(modelset, *modelset.pools, 1),
        ray.ray_service(modelset, [], NOTHING),
    ):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("OllamaModelSet", "set-uid", True)
        assert manifest["metadata"]["labels"][names.SET_LABEL] == "assistants"


@pytest.mark.parametrize(("retain", "policy"), [(False, "Delete"), (True, "Retain")])
def test_claims_go_with_the_set_unless_they_are_to_be_kept(retain: bool, policy: str) -> None:
    modelset = builders.modelset("a", ollama={"storage": {"size": "2Gi", "retain": retain}})
    policies = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"][
        "persistentVolumeClaimRetentionPolicy"
    ]
    assert policies == {"whenDeleted": policy, "whenScaled": "Retain"}


def test_an_ephemeral_volume_is_a_folder_of_its_pod_and_no_claim() -> None:
    modelset = builders.modelset("a", ollama={"replicas": 2, "storage": {"size": "2Gi", "ephemeral": True}})
    by_claim = builders.modelset("a", ollama={"replicas": 2, "storage": {"size": "2Gi"}})
    (pool,) = modelset.pools
    asked = ollama.stateful_set(modelset, pool, 2)["spec"]
    assert not {"volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy"} & asked.keys()
    pod = asked["template"]["spec"]
    assert pod["volumes"][0] == {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}
    before = ollama.stateful_set(by_claim, *by_claim.pools, 2)["spec"]["template"]["spec"]
    assert pod["volumes"][1:] == before["volumes"]
    assert pod["containers"] == before["containers"], "what is mounted where does not depend on it"
    # What an earlier set of the name has left is not this one's.
    assert ollama.claims(pool) == ()
    assert ollama.claims(*by_claim.pools) == ("models-assistants-ollama-0", "models-assistants-ollama-1")


@pytest.mark.parametrize(
    ("said", "volume", "mount"),
    [
        pytest.param(
            {"persistentVolumeClaim": {"claimName": "shared"}},
            {"persistentVolumeClaim": {"claimName": "shared"}},
            {},
            id="to be written too",
        ),
        pytest.param(
            {"persistentVolumeClaim": {"claimName": "shared"}, "readOnly": True},
            {"persistentVolumeClaim": {"claimName": "shared"}},
            {"readOnly": True},
            id="mounted for reading",
        ),
        pytest.param(
            {"persistentVolumeClaim": {"claimName": "shared", "readOnly": True}},
            {"persistentVolumeClaim": {"claimName": "shared", "readOnly": True}},
            {},
            id="attached for reading",
        ),
    ],
)
def test_ollama_pods_mount_claims_that_are_there(
    said: dict[str, Any], volume: dict[str, Any], mount: dict[str, Any]
) -> None:
    entry = {"name": "adapters", "mountPath": "/adapters", **said}
    modelset, plain = builders.modelset("a", ollama={"volumes": [entry]}), builders.modelset("a")
    pod, before = (
        ollama.stateful_set(one, *one.pools, 1)["spec"]["template"]["spec"] for one in (modelset, plain)
    )
    assert pod["volumes"] == [*before["volumes"], {"name": "adapters", **volume}]
    mounts, own = (one["containers"][0]["volumeMounts"] for one in (pod, before))
    assert mounts == [*own, {"name": "adapters", "mountPath": "/adapters", **mount}]


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
    manifest = ollama.stateful_set(modelset, *modelset.pools, 3)
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
        ollama.config_map(modelset, *modelset.pools, {"pod-0": wanted})["data"]["required"]
    )
    for name in holds:
        reference = references.parse(name)
        manifest = tmp_path / "manifests" / reference.host / reference.namespace / reference.model
        manifest.mkdir(parents=True)
        (manifest / reference.tag).write_text("{}")
    probe = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]["spec"]["containers"][0][
        "startupProbe"
    ]
    *shell, script = probe["exec"]["command"]
    script = script.replace("/etc/modelset", str(tmp_path)).replace("/var/lib/ollama/models", str(tmp_path))
    assert (subprocess.run([*shell, script], check=False).returncode == 0) is starts


def test_a_manifest_that_is_still_being_written_does_not_count(tmp_path: pathlib.Path) -> None:
    modelset = builders.modelset("a:1")
    manifest = tmp_path / "manifests" / modelset.models[0].reference.manifest_path
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    (tmp_path / "required").write_text(
        ollama.config_map(modelset, *modelset.pools, {"pod-0": modelset.models})["data"]["required"]
    )
    script = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]["spec"]["containers"][0][
        "startupProbe"
    ]["exec"]["command"][-1]
    script = script.replace("/etc/modelset", str(tmp_path)).replace("/var/lib/ollama/models", str(tmp_path))
    assert subprocess.run(["sh", "-c", script], check=False).returncode != 0


@pytest.mark.parametrize(
    ("host", "starts"),
    [("pod-0", False), ("pod-1", True), ("pod-2", True)],
    ids=["lacks", "holds", "no list"],
)
def test_a_pod_waits_for_what_it_alone_keeps(tmp_path: pathlib.Path, host: str, starts: bool) -> None:
    modelset = builders.modelset("a:1", "b:1")
    a, b = modelset.models
    lists = ollama.config_map(modelset, *modelset.pools, {"pod-0": (a, b), "pod-1": (a,), "pod-2": (a,)})
    for name, text in lists["data"].items():
        (tmp_path / name).write_text(text)
    held = tmp_path / "manifests" / a.reference.manifest_path
    held.parent.mkdir(parents=True)
    held.write_text("{}")
    template = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]
    script = template["spec"]["containers"][0]["startupProbe"]["exec"]["command"][-1]
    script = script.replace("/etc/modelset", str(tmp_path)).replace("/var/lib/ollama/models", str(tmp_path))
    environment = {"PATH": os.environ["PATH"], "HOSTNAME": host}
    done = subprocess.run(["sh", "-c", script], check=False, env=environment)
    assert (done.returncode == 0) is starts


def test_what_each_pod_was_told_to_hold_is_read_back() -> None:
    modelset = builders.modelset("a:1", "b:1")
    a, b = modelset.models
    told = ollama.config_map(modelset, *modelset.pools, {"pod-0": (a, b), "pod-1": (a,)})
    paths = {pod: ollama.assigned(told, pod) for pod in ("pod-0", "pod-1")}
    assert paths == {
        "pod-0": {a.reference.manifest_path, b.reference.manifest_path},
        "pod-1": {a.reference.manifest_path},
    }
    for nothing in (None, {}, {"data": None}):
        assert ollama.assigned(nothing, "pod-0") == frozenset()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"flashAttention": False}, {"OLLAMA_FLASH_ATTENTION": "0"}),
        (
            {"flashAttention": True, "kvCacheType": "q8_0"},
            {"OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0"},
        ),
        ({"env": [{"name": "OLLAMA_DEBUG", "value": "1"}]}, {"OLLAMA_DEBUG": "1"}),
    ],
)
def test_ollama_is_told_of_attention_cache_and_what_else_the_spec_says(
    fields: dict[str, Any], expected: dict[str, str]
) -> None:
    def environment(**fields: Any) -> dict[str, str]:
        modelset = builders.modelset("a", ollama=fields)
        template = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]
        return {entry["name"]: entry["value"] for entry in template["spec"]["containers"][0]["env"]}

    assert environment(**fields) == environment() | expected


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


AUTOSCALING = {"minReplicas": 2, "maxReplicas": 5, "targetOngoingRequests": 7}


def test_an_autoscaled_proxy_is_sized_by_serve_within_the_sets_bounds() -> None:
    (deployment,) = serve_config(builders.modelset("a", proxy={"autoscaling": AUTOSCALING}), [])[
        "deployments"
    ]
    assert "num_replicas" not in deployment
    assert deployment["max_replicas_per_node"] == 1
    asked = deployment["autoscaling_config"]
    assert (asked["min_replicas"], asked["max_replicas"], asked["target_ongoing_requests"]) == (2, 5, 7)
    assert asked["policy"] == {"policy_function": "modelset_proxy.serving.scaling:policy"}
    assert "initial_replicas" not in asked, "a new list of models would take the proxy back to so many"
    assert asked["metrics_interval_s"] < asked["upscale_delay_s"] < asked["downscale_delay_s"]


def test_autoscaling_has_defaults() -> None:
    proxy = builders.modelset("a", proxy={"autoscaling": {"maxReplicas": 3}}).proxy
    assert proxy.autoscaling == spec.ProxyAutoscaling(1, 3, 100)
    assert proxy.replicas == 1
    assert builders.modelset("a").proxy.autoscaling is None


def test_bounds_of_autoscaling_change_without_a_new_ray_cluster() -> None:
    def cluster(**bounds: int) -> dict[str, Any]:
        found = ray_cluster(builders.modelset("a", proxy={"autoscaling": AUTOSCALING | bounds}))
        (group,) = found["workerGroupSpecs"]
        assert group.pop("replicas") == (AUTOSCALING | bounds)["minReplicas"] - 1
        # KubeRay does not take a change of these to a cluster that is there.
        assert (group["minReplicas"], group["maxReplicas"]) == (0, ray.MOST_WORKERS)
        return found

    assert cluster() == cluster(minReplicas=1, maxReplicas=100, targetOngoingRequests=1)


def test_rays_autoscaler_runs_beside_the_head_where_it_is_asked_for() -> None:
    modelset = builders.modelset("a", proxy={"autoscaling": AUTOSCALING, "image": "mine:1"})
    cluster = ray_cluster(modelset)
    assert cluster["enableInTreeAutoscaling"] is True
    options = cluster["autoscalerOptions"]
    assert options["version"] == "v2"
    assert options["image"] == "mine:1"
    context = options["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
    assert not {"enableInTreeAutoscaling", "autoscalerOptions"} & ray_cluster(builders.modelset("a")).keys()


def test_only_the_autoscaler_holds_a_token_of_the_api_server() -> None:
    keys = {"apiKeysSecret": {"name": "keys"}}
    cluster = ray_cluster(builders.modelset("a", proxy={"autoscaling": AUTOSCALING, "auth": keys}))
    (mount,) = cluster["autoscalerOptions"]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    head, worker = (
        group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    )
    assert [volume["name"] for volume in head["volumes"]] == ["api-keys", mount["name"]]
    sources = head["volumes"][1]["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert [volume["name"] for volume in worker["volumes"]] == ["api-keys"]
    for pod in (head, worker):
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert mount["name"] not in [one["name"] for one in container["volumeMounts"]]
    assert "volumes" not in ray_cluster(builders.modelset("a"))["headGroupSpec"]["template"]["spec"]


def test_the_serve_config_is_the_same_text_for_the_same_input() -> None:
    modelset = builders.modelset("a", "b")
    entries = builders.listed(modelset, "a", "b")
    assert ray.serve_config(modelset, entries) == ray.serve_config(modelset, json.loads(json.dumps(entries)))


def test_user_config_keeps_the_contract_with_the_proxy() -> None:
    modelset = builders.modelset(
        {
            "name": "smollm2:135m",
            "servedNames": ["smollm2"],
            "keepAlive": "1h30m",
            "contextLength": 2048,
        },
        "hf.co/team/model:Q4",
        registry={"host": "models.example:5000", "insecure": True},
    )
    entries = [
        ray.model_entry(modelset.models[0], "Chat", ["completion", "tools"], modelset.created),
        ray.model_entry(modelset.models[1], "Embedding", [], modelset.created),
    ]
    user_config = serve_config(modelset, entries)["deployments"][0]["user_config"]
    CONTRACT.validate(user_config)
    assert user_config["models"][0] == {
        "model": "models.example:5000/library/smollm2:135m",
        "servedNames": ["smollm2"],
        "type": "Chat",
        "capabilities": ["completion", "tools"],
        "keepAlive": "1h30m",
        "contextLength": 2048,
        "created": builders.CREATED_SECONDS,
    }
    assert user_config["models"][1]["keepAlive"] == "-1"


def test_limits_and_origins_reach_the_proxy_in_place() -> None:
    limits = {
        "maxQueuedRequests": 0,
        "queueTimeoutSeconds": 5,
        "wakeTimeoutSeconds": 0,
        "requestTimeoutSeconds": 600,
        "maxBodyBytes": 1024,
    }
    ours = {"maxInFlightPerServer": 2, "maxLoadedPerServer": 3}
    cors = {"allowOrigins": ["https://chat.example", "*"]}
    plain = builders.modelset("a", ollama={"parallel": 2})
    bounded = builders.modelset("a", ollama={"parallel": 2}, proxy={"limits": limits, "cors": cors})
    user_config = serve_config(bounded, [])["deployments"][0]["user_config"]
    CONTRACT.validate(user_config)
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
    CONTRACT.validate(user_config)
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


def test_ray_starts_nothing_that_a_set_has_no_use_for() -> None:
    cluster = ray_cluster(builders.modelset("a"))
    (workers,) = cluster["workerGroupSpecs"]
    head = cluster["headGroupSpec"]["rayStartParams"]
    assert head["no-monitor"] == "true"
    # KubeRay passes on no flag that is "false".
    assert head["include-log-monitor"] == workers["rayStartParams"]["include-log-monitor"] == "no"


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
