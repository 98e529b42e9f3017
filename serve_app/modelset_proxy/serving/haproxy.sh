#!/bin/sh
# What Ray Serve starts as HAProxy: serving/haproxy.py, with the Python that Ray itself runs in.
ray=$(realpath "$(command -v ray)")
PYTHONPATH=$(realpath "$(dirname "$0")/../..") exec "${ray%/*}/python" -m modelset_proxy.serving.haproxy "$@"
