"""From what is asked of a set to how many Ollama pods it is to have, and where to hear of it. Pure."""

from modelset_operator.api import names
from modelset_operator.demand import feed
from modelset_operator.plan import autoscaling, models, replicas
from modelset_operator.plan import observed as seen
from modelset_operator.plan import proxy as proxies


def begin(observed: seen.Observed) -> autoscaling.State:
    """Return the state of a set whose past is not known."""
    return autoscaling.State.begin(sum(replicas.present(pool, observed) for pool in observed.modelset.pools))


def decide(
    observed: seen.Observed, state: autoscaling.State, asked: feed.Asked | None, now: float
) -> autoscaling.State:
    """Return how many pods there are to be. Where models are to be fetched, or looked at, one is needed."""
    policy = observed.modelset.ollama.autoscaling
    if policy is None:
        raise ValueError("the set is not scaled by demand")
    settled = all(one.phase in (models.READY, models.FAILED) for one in models.judge_all(observed))
    return autoscaling.decide(policy, state, asked, now, floor=0 if settled else 1)


def source(observed: seen.Observed, token: str) -> feed.Source | None:
    """Return where the set's proxy tells what is asked of it; None before it serves."""
    service = observed.ray_service
    if observed.modelset.ollama.autoscaling is None or service is None or not proxies.judge(observed).ready:
        return None
    url = names.proxy_url(observed.modelset.name, observed.modelset.namespace)
    cluster = service["status"]["activeServiceStatus"].get("rayClusterName", "")
    return feed.Source(f"{url}/demand", token, cluster)
