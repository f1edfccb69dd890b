package kube_test

import (
	"testing"

	"slipway/kube"
)

func TestSameCause(t *testing.T) {
	const three = "0/3 nodes are available: "
	const preemption = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
	const cannotPull = `failed to pull and unpack image "registry.invalid/flow:1": no such host`
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"equal":              {"Exited: exit code 1 Error", "Exited: exit code 1 Error", true},
		"a digit":            {"Exited: exit code 1 Error", "Exited: exit code 2 Error", false},
		"order":              {three + "1 Insufficient cpu, 2 node(s) had untolerated taint(s).", three + "2 node(s) had untolerated taint(s), 1 Insufficient cpu.", true},
		"order, more follow": {"T: " + three + "1 a, 2 b." + preemption + " Add nodes.", "T: " + three + "2 b, 1 a." + preemption + " Add nodes.", true},
		"order of the second": {three + "3 a. preemption: 0/3 nodes are available: 1 x, 2 y.",
			three + "3 a. preemption: 0/3 nodes are available: 2 y, 1 x.", true},
		"a count":          {three + "1 Insufficient cpu, 2 a.", three + "2 Insufficient cpu, 1 a.", false},
		"a node more":      {three + "3 Insufficient cpu.", "0/4 nodes are available: 3 Insufficient cpu.", false},
		"a reason less":    {three + "1 a, 2 b.", three + "1 a.", false},
		"dots in a reason": {three + "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 b.", three + "2 b, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.", true},
		"order elsewhere":  {"the volumes a, b are missing", "the volumes b, a are missing", false},
		"pod names":        {`pods "etl-8rjf2" is forbidden: exceeded quota: q`, `pods "etl-x7kqz" is forbidden: exceeded quota: q`, true},
		"pod names, quota": {`pods "etl-8rjf2" is forbidden: exceeded quota: q1`, `pods "etl-x7kqz" is forbidden: exceeded quota: q2`, false},
		"other names":      {`secret "a1" not found`, `secret "a2" not found`, false},
		"sandboxes":        {`for sandbox "0a1b": no IP address`, `for sandbox "2c3d": no IP address`, true},
		"pull, wait":       {"container c: ErrImagePull: " + cannotPull, `container c: ImagePullBackOff: Back-off pulling image "registry.invalid/flow:1": ErrImagePull: ` + cannotPull, true},
		"pull, otherwise":  {"container c: ErrImagePull: " + cannotPull, `container c: ImagePullBackOff: Back-off pulling image "registry.invalid/flow:1": ErrImagePull: denied`, false},
		"pull, container":  {"container c: ErrImagePull: x", "container d: ErrImagePull: x", false},
		"nothing":          {"", "", true},
		"something":        {"", "x", false},
	} {
		if got := kube.SameCause(c.a, c.b); got != c.same || kube.SameCause(c.b, c.a) != c.same {
			t.Errorf("%s: %t, want %t:\n%s\n%s", name, got, c.same, c.a, c.b)
		}
	}
}

func TestDiagnosisText(t *testing.T) {
	for _, c := range []struct{ words, advice, want, short string }{
		{"no such image", "Check it.", "ConfigError: no such image. Check it.", "ConfigError: no such image"},
		{"it failed. ", "Check it.", "ConfigError: it failed. Check it.", "ConfigError: it failed. "},
		{"really?", "Check it.", "ConfigError: really? Check it.", "ConfigError: really?"},
		{"container c: ErrImagePull:", "Check it.", "ConfigError: container c: ErrImagePull. Check it.", "ConfigError: container c: ErrImagePull:"},
		{"", "Check it.", "ConfigError. Check it.", "ConfigError: "},
		{"no advice", "", "ConfigError: no advice.", "ConfigError: no advice"},
	} {
		d := &kube.Diagnosis{Category: kube.ConfigError, Words: c.words, Advice: c.advice}
		if d.Text() != c.want || d.String() != c.short {
			t.Errorf("%q and %q, want %q and %q", d.Text(), d, c.want, c.short)
		}
	}
}

func TestKnownToPrefect(t *testing.T) {
	for category, want := range map[kube.Category]bool{
		kube.ImagePullError: true, kube.CrashLoop: true, kube.OOMKilled: true, kube.Evicted: true, kube.Unschedulable: true,
		kube.InsufficientResources: true, kube.NodeAffinity: true, kube.Taint: true,
		kube.Exited: false, kube.ConfigError: false, kube.QuotaExceeded: false, kube.PodsRefused: false,
		kube.VolumeNotReady: false, kube.SandboxNotCreated: false, kube.NotStarting: false,
	} {
		if got := (&kube.Diagnosis{Category: category}).KnownToPrefect(); got != want {
			t.Errorf("%s: %t", category, got)
		}
	}
	if (*kube.Diagnosis)(nil).KnownToPrefect() {
		t.Error("no diagnosis is known to Prefect")
	}
}
