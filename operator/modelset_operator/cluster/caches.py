"""All that is looked at in the API server, kept by watches: nothing is read from it in between."""

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence

from modelset_operator.api import names
from modelset_operator.cluster import http, kinds, reflector, store

_OURS = (names.OLLAMA_COMPONENT, names.CACHE_COMPONENT)
_OF_OURS = f"{names.SET_LABEL},{names.COMPONENT_LABEL} in ({','.join(_OURS)})"
_OLLAMA = f"{names.SET_LABEL},{names.COMPONENT_LABEL}={names.OLLAMA_COMPONENT}"
# KubeRay gives the Services that it makes no label of ours.
_CRD_LABEL, _NAME_LABEL = "ray.io/originated-from-crd", "ray.io/originated-from-cr-name"


class Caches:
    """What there is in the namespaces that are served (none given: in all of them).

    `tell` is called with the namespace and name of each set of which something has changed.
    """

    def __init__(
        self,
        api: http.Http,
        namespaces: Sequence[str],
        tell: Callable[[store.Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reflectors: list[reflector.Reflector] = []

        def tell_all(namespace: str) -> None:
            for key in list(self.model_sets):
                if namespace in ("", key[0]):
                    tell(key)

        def kept(kind: kinds.Kind, labels: str, owner: Callable[[store.Object], str]) -> store.Store:
            made = store.Store(kind, owner, tell)
            for namespace in tuple(namespaces) or ("",):
                selection = reflector.Selection(kind, namespace, labels)
                found = functools.partial(tell_all, namespace)
                self._reflectors.append(reflector.Reflector(api, selection, made, clock, found))
            return made

        self.model_sets = kept(kinds.MODEL_SET, "", _own_name)
        self.stateful_sets = kept(kinds.STATEFUL_SET, names.SET_LABEL, _labelled)
        self.own_services = kept(kinds.SERVICE, _OF_OURS, _labelled)
        self.config_maps = kept(kinds.CONFIG_MAP, _OLLAMA, _labelled)
        self.serve_services = kept(kinds.SERVICE, f"{_CRD_LABEL}={kinds.RAY_SERVICE.kind}", _of_ray_service)
        self.pods = kept(kinds.POD, names.SET_LABEL, _labelled)
        # The StatefulSet controller makes them, with the labels of the template.
        self.volume_claims = kept(kinds.VOLUME_CLAIM, _OF_OURS, _labelled)
        self.network_policies = kept(kinds.NETWORK_POLICY, names.SET_LABEL, _labelled)
        self.disruption_budgets = kept(kinds.DISRUPTION_BUDGET, names.SET_LABEL, _labelled)
        self.ray_services = kept(kinds.RAY_SERVICE, names.SET_LABEL, _labelled)
        self.ray_clusters = kept(kinds.RAY_CLUSTER, names.SET_LABEL, _labelled)

    @property
    def kuberay_installed(self) -> bool:
        """Whether the API server knows RayServices."""
        return not any(one.missing for one in self._reflectors if one.selection.kind == kinds.RAY_SERVICE)

    def wrote(self, written: Mapping[str, object]) -> None:
        """Take over what the API server answered to a write, so that no look acts on what was before."""
        self._store_of(written).put(written, own=True)

    def synced_in(self, namespace: str) -> bool:
        """Whether all in a namespace was listed once: before, what is not known would seem not to be."""
        of_it = [one for one in self._reflectors if one.selection.namespace in ("", namespace)]
        return all(one.synced.is_set() for one in of_it)

    def unsynced(self) -> list[reflector.Selection]:
        """Return what was not listed yet. That sets are no kind that the API server knows counts as such."""
        return [
            one.selection
            for one in self._reflectors
            if not one.synced.is_set() or (one.missing and one.selection.kind == kinds.MODEL_SET)
        ]

    def failing(self) -> list[tuple[reflector.Selection, float, str]]:
        """Return what cannot be watched, for how many seconds, and why."""
        failing = [one for one in self._reflectors if one.problem]
        return [(one.selection, one.failing_seconds(), one.problem) for one in failing]

    def selections(self) -> list[tuple[reflector.Selection, float]]:
        """Return what is watched, and for how many seconds each has not been in step."""
        return [(one.selection, one.failing_seconds()) for one in self._reflectors]

    def _store_of(self, written: store.Object) -> store.Store:
        if written["kind"] == kinds.SERVICE.kind:
            component = (written["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL)
            return self.own_services if component in _OURS else self.serve_services
        return {
            kinds.MODEL_SET.kind: self.model_sets,
            kinds.STATEFUL_SET.kind: self.stateful_sets,
            kinds.CONFIG_MAP.kind: self.config_maps,
            kinds.POD.kind: self.pods,
            kinds.VOLUME_CLAIM.kind: self.volume_claims,
            kinds.NETWORK_POLICY.kind: self.network_policies,
            kinds.DISRUPTION_BUDGET.kind: self.disruption_budgets,
            kinds.RAY_SERVICE.kind: self.ray_services,
            kinds.RAY_CLUSTER.kind: self.ray_clusters,
        }[written["kind"]]

    async def synced(self) -> None:
        """Wait until everything was listed once."""
        for one in self._reflectors:
            await one.synced.wait()

    async def renew_sets(self) -> None:
        """List all sets as they are now, as far as they can be listed."""
        for one in self._reflectors:
            if one.selection.kind == kinds.MODEL_SET:
                await one.renew()

    async def run(self) -> None:
        """Keep all of it in step, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for one in self._reflectors:
                tasks.create_task(one.run(), name=f"watch {one.selection}")


def _own_name(found: store.Object) -> str:
    return str(found["metadata"]["name"])


def _labelled(found: store.Object) -> str:
    return str((found["metadata"].get("labels") or {}).get(names.SET_LABEL, ""))


def _of_ray_service(found: store.Object) -> str:
    # A set's RayService has the set's name.
    return str((found["metadata"].get("labels") or {}).get(_NAME_LABEL, ""))
