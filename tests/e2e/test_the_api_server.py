"""The API server does what unit tests take it to do: the table that the operator's FakeApi is held to."""

from __future__ import annotations

from kubernetes.aio import client, config
from operator_tests import api_contract

from modelset_operator.cluster import http
from stack import cluster
from tests.e2e.support.kube import Kube


async def test_it_does_what_unit_tests_take_it_to_do(kube: Kube) -> None:
    configuration = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig()), client_configuration=configuration)  # type: ignore[no-untyped-call]
    did, expected = {}, {}
    async with client.ApiClient(configuration) as api:
        for number, (case, (ask, said)) in enumerate(api_contract.CASES.items()):
            did[case] = await ask(api_contract.Client(http.Http(api), kube.namespace, f"case-{number}-"))
            expected[case] = said
    assert did == expected
