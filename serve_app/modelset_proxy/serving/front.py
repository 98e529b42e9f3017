"""What HAProxy is told beyond Ray Serve's configuration, so that its own replies are OpenAI's errors too.

Serve has no setting for what HAProxy says when it answers by itself, for how many headers a request may have,
or for how long they may take. It does let a program stand in for HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH), and
HAProxy's configuration has words for all of it: ``amended`` adds them, section by section, to what Serve has
written.

Three replies are out of reach, since HAProxy has their text built in and sends it before there is a request:
400 to what is not HTTP/1 or too large, 408 to headers that do not end, 422 to a body coded otherwise than in
chunks.
"""

from collections.abc import Iterable

from modelset_proxy.openai import errors

# Also a connection that has not sent a byte ends then, without a reply.
_HEADERS_SECONDS = 15
_MOST_HEADERS = 256
_METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS"

_NOT_HTTP = errors.invalid(
    "The request is not valid HTTP: a header or the body's framing is wrong, or it broke off.",
    code="invalid_http",
)
_METHOD = errors.ApiError(
    405, "This API has no such method (allowed: GET, HEAD, OPTIONS, POST).", code="method_not_allowed"
)
_NO_PATH = errors.ApiError(404, "Invalid URL: paths begin with /v1/.", code="unknown_url")
_WEBSOCKET = errors.invalid(
    "This API speaks no WebSocket: send the request without an upgrade header.", code="unsupported_protocol"
)
_AWAY = errors.unavailable(
    "The proxy is starting or being replaced; try again.", code="proxy_unavailable", retry_after=1
)
_BROKEN = errors.upstream_failed("The proxy ended before it had answered.", code="proxy_disconnected")
_SILENT = errors.upstream_failed(
    "The proxy did not answer in time.", status=504, code="timeout", may_retry=False
)

# Lines that Serve writes and that ours replace, by section: its 500 in plain text for each of HAProxy's 502,
# 503 and 504, and its 404 for the time before an application is there.
_REPLACED = {"defaults": ("errorfile ",), "backend default_backend": ("http-request return ",)}


def amended(config: str) -> str:
    """Return Serve's configuration with ours at the beginning of each section, where Serve's settings win."""
    lines: list[str] = []
    replaced: tuple[str, ...] = ()
    for line in config.splitlines():
        if line[:1].isalpha():
            section = line.strip()
            replaced = _REPLACED.get(section, ())
            lines += [line, *(f"    {added}" for added in _ADDED.get(section, ()))]
        elif not (replaced and line.strip().startswith(replaced)):
            lines.append(line)
    return "\n".join([*lines, ""])


def _reply(error: errors.ApiError, *, headers: Iterable[tuple[str, str]] = ()) -> str:
    """Return a reply in HAProxy's words."""
    more = list(headers)
    if error.retry_after is not None:
        more.append(("retry-after", str(error.retry_after)))
    if not error.may_retry:
        more.append(("x-should-retry", "false"))
    body = error.body().decode().replace("'", r"'\''")
    words = [f"status {error.status} content-type application/json string '{body}'"]
    return " ".join([*words, *(f'hdr {name} "{value}"' for name, value in more)])


_ALLOW = [("allow", "GET, HEAD, OPTIONS, POST")]
_ADDED = {
    "global": [f"tune.http.maxhdr {_MOST_HEADERS}"],
    "defaults": [
        f"timeout http-request {_HEADERS_SECONDS}s",
        "option http-ignore-probes",
        *(f"http-error {_reply(error)}" for error in (_NOT_HTTP, errors.internal(), _BROKEN, _AWAY, _SILENT)),
    ],
    "frontend http_frontend": [
        f"http-request return {_reply(_METHOD, headers=_ALLOW)} unless {{ method {_METHODS} }}",
        f"http-request return {_reply(_NO_PATH)} unless {{ path_beg / }}",
        f"http-request return {_reply(_WEBSOCKET)} if {{ req.hdr(upgrade) -i websocket }}",
        # The application's errors are JSON; text is of the servers around it.
        "acl is_text res.hdr(content-type) -m beg text/",
        f"http-response return {_reply(_NOT_HTTP)} if {{ status 400 }} is_text",
        f"http-response return {_reply(errors.internal())} if {{ status 500 }} is_text",
        f"http-response return {_reply(_AWAY)} if {{ status ge 400 }} is_text",
        "http-after-response set-header x-request-id req_%[uuid] unless { res.hdr(x-request-id) -m found }",
    ],
    "backend default_backend": [f"http-request return {_reply(_AWAY)}"],
}
