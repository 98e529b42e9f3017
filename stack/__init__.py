"""Brings up everything the project runs on: engine, tools, images, kind cluster, KubeRay, models.

Standard library only, because it runs before anything is installed. One subject a module:

- `pins`     versions and hashes, read from `pins/`
- `step`     progress lines, logs, failures
- `cache`    build results outside the checkout, keyed by what they were built from
- `engine`   a container engine, installed and started where there is none
- `golang`   Go toolchain and binaries
- `images`   every container image, pulled or built
- `models`   the demo models, put into a registry as `ollama push` does it
- `cluster`  the kind cluster and what runs on it
- `demo`     the main job, shown
"""
