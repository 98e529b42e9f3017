// Package forward is a proxy that only forwards bytes: what any proxy costs that does nothing else.
package forward

import (
	"flag"
	"net/http"
	"net/http/httputil"
	"net/url"

	"modelset/benchmarks/load/loopback"
)

const idleConnections = 2048

// Main listens on a free loopback port, prints {"address": "127.0.0.1:port"} and forwards until it is ended.
func Main(arguments []string) error {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	upstream := flags.String("upstream", "", "loopback base URL to forward to")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := loopback.URL(*upstream); err != nil {
		return err
	}
	target, err := url.Parse(*upstream)
	if err != nil {
		return err
	}
	listener, err := loopback.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(target) },
		// At once: these are streams.
		FlushInterval: -1,
		Transport:     &http.Transport{MaxIdleConnsPerHost: idleConnections, DisableCompression: true},
	}
	return http.Serve(listener, proxy)
}
