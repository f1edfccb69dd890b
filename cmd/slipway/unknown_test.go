package main

import (
	"slices"
	"testing"
)

// TestUnknownSettings: what Kubernetes puts into a container for Services is not
// taken for misspelt settings.
func TestUnknownSettings(t *testing.T) {
	got := unknownSettings([]string{
		"SLIPWAY_WORK_POOLS=a", "SLIPWAY_WORK_POOL=a", "SLIPWAY_=", "SLIPWAY_PORTS=1", "SLIPWAY_SERVICE=1", "slipway_limit=1", "PREFECT_API_ULR=x", "PATH=/", "X_SLIPWAY_Y=1",
		"SLIPWAY_SERVICE_HOST=10.0.0.1", "SLIPWAY_SERVICE_PORT=8080", "SLIPWAY_SERVICE_PORT_HTTP=8080", "SLIPWAY_PORT=tcp://10.0.0.1:8080",
		"SLIPWAY_PORT_8080_TCP=tcp://10.0.0.1:8080", "SLIPWAY_PORT_8080_TCP_PROTO=tcp", "SLIPWAY_PORT_8080_TCP_PORT=8080", "SLIPWAY_PORT_8080_TCP_ADDR=10.0.0.1",
		"SLIPWAY_PORT_53_UDP=udp://10.0.0.1:53", "SLIPWAY_HOOKS_SERVICE_HOST=10.0.0.2", "SLIPWAY_HOOKS_PORT_8080_TCP_ADDR=10.0.0.2", "SLIPWAY_HOOKS_PORT=tcp://10.0.0.2:1",
	})
	if want := []string{"SLIPWAY_", "SLIPWAY_PORTS", "SLIPWAY_SERVICE", "SLIPWAY_WORK_POOL"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestNearestSetting(t *testing.T) {
	for name, want := range map[string]string{
		"SLIPWAY_WORK_POOL": "SLIPWAY_WORK_POOLS", "SLIPWAY_WORKPOOLS": "SLIPWAY_WORK_POOLS", "SLIPWAY_WORK_QUEUE": "SLIPWAY_WORK_QUEUES",
		"SLIPWAY_NAMESPACE_": "SLIPWAY_NAMESPACE", "SLIPWAY_LOOKAHEAD": "SLIPWAY_LOOK_AHEAD", "SLIPWAY_LIMTI": "SLIPWAY_LIMIT", "SLIPWAY_POLL_SECONDS": "",
	} {
		if got := nearestSetting(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestConnections(t *testing.T) {
	for pools, want := range map[int]int{0: 10, 1: 10, 3: 26, 4: 34, 9: 34} {
		cfg := Config{Concurrency: 8, WorkPools: make(List, pools)}
		if got := cfg.connections(); got != want {
			t.Errorf("%d work pools: %d, want %d", pools, got, want)
		}
	}
}

func TestSecretsOfSettings(t *testing.T) {
	got := secrets(Config{
		APIURL: "https://me:url-password@host/api", APIKey: "key", APIAuthString: "user:pass:word", AuthTokens: SecretList{"t1", "t2"},
		CustomHeaders: Headers{"A": "Bearer header-token", "B": "two words"},
	})
	for _, want := range []string{"key", "user:pass:word", "pass:word", "t1", "t2", "Bearer header-token", "header-token", "two words", "url-password"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	if slices.Contains(got, "words") {
		t.Error("a word of a header's value is a secret")
	}
}
