"""The Ray Serve application: ``serve run modelset_proxy.app:app``.

One deployment that is its own ingress, so that no request hops between actors. Under Kubernetes the operator
renders ``user_config`` (see ``user_config.schema.json``) and changes it in place; without one the models come
from the environment (see ``config.environment``).
"""

from typing import Any

from ray import serve

from modelset_proxy.serving import ingress, proxy, scaling


@serve.deployment(
    name="Proxy",
    # Admission is the application's: it answers in OpenAI's words, Serve's backpressure does not.
    max_ongoing_requests=100_000,
    # Always given, so that ``reconfigure`` always runs and can tell the two ways of running apart.
    user_config={},
    # Streams that run when a replica is replaced may finish.
    graceful_shutdown_timeout_s=600,
    # It waits for the network and little else; a whole CPU would not fit on small nodes.
    ray_actor_options={"num_cpus": 0.1},
    # The application writes an access log of its own, with what matters for models.
    logging_config={"enable_access_log": False},
)
@serve.ingress(ingress.build)
class Proxy:
    """The deployment. Serve adds ``app``, what ``build`` returned, to its instances."""

    app: proxy.Proxy

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take a new configuration into use, in place: requests under way are not touched."""
        await self.app.configure(user_config)

    async def record_autoscaling_stats(self) -> dict[str, int]:
        """Return how many requests run and wait here, for Serve to decide how many proxies there are."""
        return {scaling.ONGOING: sum(map(sum, self.app.dispatch.counts().values()))}


app = Proxy.bind()  # type: ignore[attr-defined]
