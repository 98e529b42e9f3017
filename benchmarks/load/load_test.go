package main

import (
	"context"
	"net/http/httptest"
	"testing"

	"modelset/benchmarks/load/drive"
	"modelset/benchmarks/load/stub"
)

// Every kind of load runs against the stub, over both of its APIs, without an error.
func TestEveryKindOfLoad(t *testing.T) {
	server := httptest.NewServer(stub.Handler())
	defer server.Close()
	kinds := map[string][]string{
		"verify":  {},
		"unary":   {"-count", "20", "-clients", "4"},
		"embed":   {"-count", "20", "-model", "embed"},
		"streams": {"-clients", "4", "-model", "paced", "-tokens", "5"},
		"cancel":  {"-count", "3", "-model", "paced", "-tokens", "500", "-control", server.URL},
	}
	for kind, flags := range kinds {
		for _, api := range []string{"openai", "ollama"} {
			t.Run(kind+" "+api, func(t *testing.T) {
				result, err := drive.Run(context.Background(), kind, append(flags, "-url", server.URL, "-api", api))
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", result)
				if failures := drive.Failures(result); failures != 0 {
					t.Fatalf("%d failed", failures)
				}
			})
		}
	}
}

func TestOnlyLoopbackIsDriven(t *testing.T) {
	if _, err := drive.Run(context.Background(), "unary", []string{"-url", "http://192.0.2.1"}); err == nil {
		t.Fatal("another machine was accepted")
	}
}
