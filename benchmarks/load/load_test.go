package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"modelset/benchmarks/load/drive"
	"modelset/benchmarks/load/stub"
)

// Every kind of load runs against the stub, over both of its APIs, without an error.
func TestEveryKindOfLoad(t *testing.T) {
	server := httptest.NewServer(stub.Handler(0))
	defer server.Close()
	kinds := map[string][]string{
		"verify":  {},
		"unary":   {"-count", "20", "-clients", "4"},
		"embed":   {"-count", "20", "-model", "embed"},
		"streams": {"-clients", "4", "-model", "paced", "-tokens", "5"},
		"cancel":  {"-count", "3", "-model", "paced", "-tokens", "200", "-control", server.URL},
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

// With one slot, five tokens of 20 ms each for three clients take three times as long as for one.
func TestSlots(t *testing.T) {
	server := httptest.NewServer(stub.Handler(1))
	defer server.Close()
	flags := []string{"-clients", "3", "-count", "3", "-model", "paced", "-tokens", "5", "-url", server.URL}
	began := time.Now()
	result, err := drive.Run(context.Background(), "unary", flags)
	if err != nil || drive.Failures(result) != 0 {
		t.Fatal(err, result)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Fatalf("three answers of 100 ms took %v", took)
	}
}

func TestOnlyLoopbackIsDriven(t *testing.T) {
	if _, err := drive.Run(context.Background(), "unary", []string{"-url", "http://192.0.2.1"}); err == nil {
		t.Fatal("another machine was accepted")
	}
}

// A contender that is late to leave the stub is late, however long that takes, and is not said never to leave.
func TestLateLeaving(t *testing.T) {
	const late = 150 * time.Millisecond
	for _, stream := range []string{"true", "false"} {
		t.Run("stream="+stream, func(t *testing.T) {
			found := cancelThrough(t, late, "-stream="+stream, "-count", "6", "-clients", "3", "-tokens", "200", "-limit", "20s")
			if found.Cut != 6 || found.Unnoticed != 0 || found.Freed.Count != 6 {
				t.Fatalf("%+v", found)
			}
			if found.Freed.P50 < float64(late.Milliseconds()) || found.Freed.Max > 1000 {
				t.Fatalf("%+v", found)
			}
		})
	}
}

func TestNeverLeaving(t *testing.T) {
	found := cancelThrough(t, time.Hour, "-count", "3", "-clients", "3", "-tokens", "200")
	if found.Cut != 3 || found.Unnoticed != 3 || found.Freed.Count != 0 {
		t.Fatalf("%+v", found)
	}
}

type cancelFound struct {
	Cut       int
	Unnoticed int
	Freed     struct {
		Count    int
		P50, Max float64
	} `json:"freed_ms"`
}

// cancelThrough runs the kind "cancel" through a proxy that leaves the stub some time after its client has gone.
func cancelThrough(t *testing.T, late time.Duration, flags ...string) (found cancelFound) {
	server := httptest.NewServer(stub.Handler(0))
	defer server.Close()
	proxy := httptest.NewServer(lateLeaver(server.URL, late))
	defer proxy.Close()
	flags = append(flags, "-model", "paced", "-url", proxy.URL, "-control", server.URL)
	result, err := drive.Run(context.Background(), "cancel", flags)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(result)
	if err == nil {
		err = json.Unmarshal(encoded, &found)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func lateLeaver(upstream string, late time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own, leave := context.WithCancel(context.Background())
		defer leave()
		context.AfterFunc(r.Context(), func() { time.AfterFunc(late, leave) })
		request, err := http.NewRequestWithContext(own, r.Method, upstream+r.URL.Path, r.Body)
		if err != nil {
			panic(err)
		}
		request.ContentLength = r.ContentLength
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return
		}
		defer response.Body.Close()
		flush := http.NewResponseController(w)
		for part := make([]byte, 4096); err == nil; {
			var size int
			size, err = response.Body.Read(part)
			// A client that has gone is not why this stops.
			_, _ = w.Write(part[:size])
			_ = flush.Flush()
		}
	})
}
