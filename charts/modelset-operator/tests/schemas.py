"""The schemas by which API servers check what the chart makes, with unknown fields refused.

They lie in the sources of Kubernetes and the Prometheus operator; `make chart-test` says where these are, in
KUBERNETES and PROMETHEUS_OPERATOR.
"""

import functools
import json
import os
import pathlib
from typing import Any

import jsonschema
import yaml

CUSTOM_RESOURCES = "example/prometheus-operator-crd"


def source(variable: str) -> pathlib.Path:
    """Return where the sources lie that a variable names."""
    found = os.environ.get(variable)
    assert found, f"${variable} is not set; `make chart-test` provides it"
    return pathlib.Path(found)


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what an API server would refuse a manifest for, or warn of, each with where it is."""
    where = f"{manifest['kind']} {manifest['metadata']['name']}"
    found = validator(manifest["apiVersion"], manifest["kind"]).iter_errors(manifest)
    return [f"{where}: {error.json_path}: {error.message}" for error in found]


@functools.cache
def validator(api_version: str, kind: str) -> jsonschema.Draft7Validator:
    """Return what checks objects of a kind."""
    group, _, version = api_version.rpartition("/")
    if group == "monitoring.coreos.com":
        return jsonschema.Draft7Validator(custom(version, kind))
    wanted = {"group": group, "version": version, "kind": kind}
    (name,) = (
        name
        for name, schema in swagger().items()
        if wanted in schema.get("x-kubernetes-group-version-kind", ())
    )
    return jsonschema.Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": swagger()})


@functools.cache
def swagger() -> dict[str, Any]:
    """Return the schemas of all of Kubernetes' own kinds, and of what they consist of."""
    file = source("KUBERNETES") / "api/openapi-spec/swagger.json"
    found = {name: closed(schema) for name, schema in json.loads(file.read_text())["definitions"].items()}
    # The schema only says how they are written.
    found["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["number", "string"]}
    return found


def custom(version: str, kind: str) -> dict[str, Any]:
    """Return the schema of a kind of the Prometheus operator; metadata is the API server's business."""
    file = source("PROMETHEUS_OPERATOR") / CUSTOM_RESOURCES / f"monitoring.coreos.com_{kind.lower()}s.yaml"
    versions = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == version)
    found: dict[str, Any] = closed(schema)
    found["properties"]["metadata"] = {}
    return found


def closed(node: Any) -> Any:
    """Refuse what is not named wherever something is, and take numbers where a schema says that they do."""
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    inside = {key: closed(inner) for key, inner in node.items()}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        inside["additionalProperties"] = False
    return inside
