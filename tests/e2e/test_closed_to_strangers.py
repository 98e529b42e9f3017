"""Ray runs code for whoever may submit a job: only KubeRay, which has the token, may."""

from __future__ import annotations

import httpx

from tests.e2e.support import modelset as ms

_JOB = {"entrypoint": "id"}


def test_nobody_submits_a_job_without_the_token(assistants: ms.ModelSet) -> None:
    """Through the head Service, which also shows that it finds its pod."""
    with assistants.kube.forward("service/assistants-head-svc", 8265) as port:
        ray = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        # The probes come without a token, so what follows is refused and not merely out of reach.
        assert ray.get("/api/gcs_healthz").status_code == 200
        assert ray.post("/api/jobs/", json=_JOB).status_code == 401
        wrong = ray.post("/api/jobs/", json=_JOB, headers={"x-ray-authorization": "Bearer guessed"})
        assert wrong.status_code in {401, 403}
        assert ray.get("/api/jobs/").status_code == 401
