package kube_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/kube"
	"slipway/kube/kubetest"
)

// at is a moment of one hour.
func at(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }

// warning is an event that happened first and last at these minutes.
func warning(first, last int, reason, message string) kube.Event {
	return kube.Event{First: at(first), Last: at(last), Count: 1, Warning: true, Reason: reason, Message: message}
}

func normal(minute int, reason string) kube.Event {
	return kube.Event{First: at(minute), Last: at(minute), Count: 1, Reason: reason}
}

func TestDiagnoseEvents(t *testing.T) {
	const noConfigMap = `MountVolume.SetUp failed for volume "config" : configmap "missing" not found`
	const summary = "Unable to attach or mount volumes: unmounted volumes=[config], unattached volumes=[], failed to process volumes=[]: context deadline exceeded"
	for name, c := range map[string]struct {
		events []kube.Event // by Last
		want   kube.Category
		words  string
		since  int
	}{
		"none":     {nil, "", "", 0},
		"normal":   {[]kube.Event{normal(1, "Scheduled"), normal(2, "Pulling")}, "", "", 0},
		"mount":    {[]kube.Event{normal(1, "Scheduled"), warning(2, 9, "FailedMount", noConfigMap)}, kube.VolumeNotReady, noConfigMap, 2},
		"attach":   {[]kube.Event{warning(2, 9, "FailedAttachVolume", "x")}, kube.VolumeNotReady, "x", 2},
		"map":      {[]kube.Event{warning(2, 9, "FailedMapVolume", "x")}, kube.VolumeNotReady, "x", 2},
		"sandbox":  {[]kube.Event{warning(2, 9, "FailedCreatePodSandBox", "x")}, kube.SandboxNotCreated, "x", 2},
		"network":  {[]kube.Event{warning(2, 9, "NetworkNotReady", "x")}, kube.SandboxNotCreated, "x", 2},
		"other":    {[]kube.Event{warning(2, 9, "FailedPrepareDynamicResources", "x")}, kube.NotStarting, "x", 2},
		"harmless": {[]kube.Event{warning(2, 9, "DNSConfigForming", "x")}, "", "", 0},
		"harmless and newer": {[]kube.Event{warning(2, 8, "FailedMount", noConfigMap), warning(2, 9, "DNSConfigForming", "x")},
			kube.VolumeNotReady, noConfigMap, 2},
		"the newest decides": {[]kube.Event{warning(1, 8, "FailedMount", "x"), warning(5, 9, "FailedCreatePodSandBox", "y")}, kube.SandboxNotCreated, "y", 5},
		"the earliest of the category": {[]kube.Event{warning(1, 4, "FailedAttachVolume", "x"), warning(3, 5, "FailedCreatePodSandBox", "y"), warning(6, 9, "FailedMount", "z")},
			kube.VolumeNotReady, "z", 1},
		"a summary says less":      {[]kube.Event{warning(2, 8, "FailedMount", noConfigMap), warning(4, 9, "FailedMount", summary)}, kube.VolumeNotReady, noConfigMap, 2},
		"a summary alone":          {[]kube.Event{warning(4, 9, "FailedMount", summary)}, kube.VolumeNotReady, summary, 4},
		"mounted, now it pulls":    {[]kube.Event{warning(2, 8, "FailedMount", noConfigMap), normal(9, "Pulling")}, "", "", 0},
		"scheduled in the end":     {[]kube.Event{warning(1, 8, "FailedScheduling", "0/1"), normal(8, "Scheduled")}, "", "", 0},
		"not scheduled":            {[]kube.Event{warning(1, 8, "FailedScheduling", "0/1")}, kube.NotStarting, "0/1", 1},
		"again since it was":       {[]kube.Event{warning(1, 2, "FailedMount", "x"), normal(3, "Pulled"), warning(7, 9, "FailedMount", "y")}, kube.VolumeNotReady, "y", 7},
		"several events in one":    {[]kube.Event{warning(1, 9, "FailedMount", "(combined from similar events): x")}, kube.VolumeNotReady, "x", 1},
		"the first is not told of": {[]kube.Event{{Last: at(3), Warning: true, Reason: "FailedMount"}, warning(4, 9, "FailedMount", "y")}, kube.VolumeNotReady, "y", 4},
	} {
		got := kube.DiagnoseEvents(c.events)
		if c.want == "" {
			if got != nil {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		if got == nil || got.Category != c.want || got.Words != c.words || !got.Since.Equal(at(c.since)) || got.Advice == "" || got.KnownToPrefect() {
			t.Errorf("%s: %+v, want %+v", name, got, c)
		}
	}
}

// eventsServer answers lists of events with these, and tells the field selectors.
func eventsServer(t *testing.T, events ...kubetest.Doc) (*kube.Client, *[]string) {
	server := kubetest.New(t, "dev")
	var selectors []string
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		selectors = append(selectors, r.URL.Query().Get("fieldSelector"))
		_ = json.NewEncoder(w).Encode(kubetest.Doc{"kind": "EventList", "apiVersion": "v1", "metadata": kubetest.Doc{}, "items": events})
		return true
	})
	return newClient(t, server.Config(), kube.Options{}), &selectors
}

func event(reason, message string, fields kubetest.Doc) kubetest.Doc {
	fields["type"], fields["reason"], fields["message"] = "Warning", reason, message
	return fields
}

func stamp(minute int) string { return at(minute).Format(time.RFC3339) }

// TestTimesOfEvents: of the old form, of the new one, and of a series.
func TestTimesOfEvents(t *testing.T) {
	micro := func(minute int) string { return at(minute).Format("2006-01-02T15:04:05.000000Z") }
	client, _ := eventsServer(t,
		event("New", "", kubetest.Doc{"eventTime": micro(9), "firstTimestamp": nil, "lastTimestamp": nil}),
		event("Old", "", kubetest.Doc{"firstTimestamp": stamp(1), "lastTimestamp": stamp(7), "count": 3}),
		event("Series", "", kubetest.Doc{"eventTime": micro(2), "series": kubetest.Doc{"count": 4, "lastObservedTime": micro(8)}}),
	)
	events, err := client.Events(t.Context(), "dev", "Pod", "a")
	if err != nil || len(events) != 3 {
		t.Fatal(events, err)
	}
	for i, want := range []struct {
		reason      string
		first, last int
		count       int32
	}{{"Old", 1, 7, 3}, {"Series", 2, 8, 4}, {"New", 9, 9, 1}} {
		e := events[i]
		if e.Reason != want.reason || !e.First.Equal(at(want.first)) || !e.Last.Equal(at(want.last)) || e.Count != want.count || !e.Warning {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
}

func TestDiagnosePending(t *testing.T) {
	mount := event("FailedMount", "x", kubetest.Doc{"firstTimestamp": stamp(1), "lastTimestamp": stamp(9)})
	client, selectors := eventsServer(t, mount)
	pod := kube.PodStatus{Namespace: "dev", Name: "a", UID: "u", Phase: "Pending", Created: at(0)}
	d, err := client.DiagnosePending(t.Context(), pod)
	if err != nil || d == nil || d.Category != kube.VolumeNotReady || !d.Since.Equal(at(1)) {
		t.Errorf("%+v, %v", d, err)
	}
	if len(*selectors) != 1 || (*selectors)[0] != "involvedObject.kind=Pod,involvedObject.name=a,involvedObject.uid=u" {
		t.Errorf("asked for %q", *selectors)
	}
	pod.Created = at(5)
	if d, err := client.DiagnosePending(t.Context(), pod); err != nil || d == nil || !d.Since.Equal(at(5)) {
		t.Errorf("before the pod was created: %+v, %v", d, err)
	}
	pod.Phase = "Running"
	if d, err := client.DiagnosePending(t.Context(), pod); err != nil || d != nil {
		t.Errorf("a running pod: %+v, %v", d, err)
	}
	pod.Phase, pod.Diagnosis = "Pending", &kube.Diagnosis{Category: kube.Taint}
	if d, err := client.DiagnosePending(t.Context(), pod); err != nil || d != pod.Diagnosis || len(*selectors) != 2 {
		t.Errorf("its status tells: %+v, %v", d, err)
	}
}

func TestEventsThatMayNotBeRead(t *testing.T) {
	server := kubetest.New(t, "dev")
	server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		kubetest.Refuse(w, 403, "Forbidden", `events is forbidden: User "u" cannot list resource "events"`, nil)
		return true
	})
	client := newClient(t, server.Config(), kube.Options{})
	if d, err := client.DiagnosePending(t.Context(), kube.PodStatus{Namespace: "dev", Phase: "Pending"}); d != nil || !kube.IsForbidden(err) {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := client.DiagnosePodless(t.Context(), &kube.Job{Namespace: "dev"}); d != nil || !kube.IsForbidden(err) {
		t.Errorf("%v, %v", d, err)
	}
}

func TestDiagnosePodless(t *testing.T) {
	refused := func(first, last int, words string) kubetest.Doc {
		return event("FailedCreate", "Error creating: "+words, kubetest.Doc{"firstTimestamp": stamp(first), "lastTimestamp": stamp(last)})
	}
	const quota = `pods "quota-8rjf2" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`
	const policy = `pods "x" is forbidden: violates PodSecurity "restricted:latest"`
	created := kubetest.Doc{"type": "Normal", "reason": "SuccessfulCreate", "message": "Created pod: x", "firstTimestamp": stamp(9), "lastTimestamp": stamp(9)}
	job := kube.Job{Namespace: "dev", Name: "a", UID: "u", Created: at(0)}
	resumed, suspended := job, job
	resumed.Started, suspended.Suspended = at(6), true
	for name, c := range map[string]struct {
		job    kube.Job
		events []kubetest.Doc
		want   kube.Category
		since  int
	}{
		"none":        {job, nil, "", 0},
		"quota":       {job, []kubetest.Doc{refused(2, 8, quota)}, kube.QuotaExceeded, 2},
		"policy":      {job, []kubetest.Doc{refused(2, 8, policy)}, kube.PodsRefused, 2},
		"then quota":  {job, []kubetest.Doc{refused(1, 3, policy), refused(4, 5, quota), refused(5, 8, quota)}, kube.QuotaExceeded, 4},
		"resumed":     {resumed, []kubetest.Doc{refused(2, 8, quota)}, kube.QuotaExceeded, 6},
		"suspended":   {suspended, []kubetest.Doc{refused(2, 8, quota)}, "", 0},
		"created":     {job, []kubetest.Doc{created}, "", 0},
		"then made":   {job, []kubetest.Doc{refused(2, 8, quota), created}, "", 0},
		"other event": {job, []kubetest.Doc{event("FailedDelete", "x", kubetest.Doc{"lastTimestamp": stamp(1)})}, "", 0},
	} {
		client, selectors := eventsServer(t, c.events...)
		got, err := client.DiagnosePodless(t.Context(), &c.job)
		if err != nil || (got == nil) != (c.want == "") || got != nil && (got.Category != c.want || !got.Since.Equal(at(c.since)) || got.Advice == "" || got.KnownToPrefect()) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c)
		}
		if c.want != "" && !strings.Contains((*selectors)[0], "involvedObject.kind=Job,involvedObject.name=a,involvedObject.uid=u") {
			t.Errorf("asked for %q", *selectors)
		}
	}
}
