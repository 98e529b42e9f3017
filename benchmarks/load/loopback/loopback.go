// Package loopback keeps all of this on the machine: what is asked, and where is listened.
package loopback

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
)

// URL refuses one that leads anywhere but to a loopback address.
func URL(address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return err
	}
	if !is(parsed.Hostname()) {
		return fmt.Errorf("not a loopback URL: %q", address)
	}
	return nil
}

// Listen listens on a loopback address and port, 0 for any, and prints {"address": "127.0.0.1:port"}.
func Listen(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !is(host) {
		return nil, fmt.Errorf("not a loopback address: %q", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return listener, json.NewEncoder(os.Stdout).Encode(map[string]string{"address": listener.Addr().String()})
}

func is(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
