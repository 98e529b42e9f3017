"""What the cache counts, for Prometheus."""

import prometheus_client

FETCHED = prometheus_client.Counter(
    "modelset_cache_fetched_bytes", "Bytes of blobs that came from registries"
)
SERVED = prometheus_client.Counter("modelset_cache_served_bytes", "Bytes of blobs that went to Ollama pods")
