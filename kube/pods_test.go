package kube_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/kube"
	"slipway/kube/kubetest"
)

// podOf is what is read of a pod with this status, which was created at minute 1.
func podOf(t *testing.T, status string) kube.PodStatus {
	t.Helper()
	var pod kubetest.Doc
	text := `{"metadata":{"namespace":"dev","name":"a-x","creationTimestamp":"` + stamp(1) + `","labels":{"job-name":"a"}},` +
		`"spec":{"containers":[{"name":"c"}]},"status":` + status + `}`
	if err := json.Unmarshal([]byte(text), &pod); err != nil {
		t.Fatal(err, text)
	}
	pods, err := answerPods(t, kubetest.New(t, "dev"), pod).Pods(t.Context(), "dev", []string{"a"})
	if err != nil || len(pods) != 1 {
		t.Fatal(pods, err)
	}
	return pods[0]
}

// TestSince: from when on the cause of a diagnosis kept the pod from starting.
func TestSince(t *testing.T) {
	conditions := func(pairs ...any) string { // type, minute, type, minute, ...
		var all []string
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, fmt.Sprintf(`{"type":%q,"status":"True","lastTransitionTime":%q}`, pairs[i], stamp(pairs[i+1].(int))))
		}
		return `"conditions":[` + strings.Join(all, ",") + `]`
	}
	waits := func(reason string) string { return `{"name":"c","state":{"waiting":{"reason":"` + reason + `"}}}` }
	ends := func(name, state string, minute int) string {
		return fmt.Sprintf(`{"name":%q,%q:{"terminated":{"exitCode":0,"finishedAt":%q}}}`, name, state, stamp(minute))
	}
	scheduled := conditions("PodScheduled", 3, "Initialized", 3)
	for name, c := range map[string]struct {
		status string
		want   kube.Category
		since  int
	}{
		"unschedulable": {`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1","lastTransitionTime":"` + stamp(5) + `"}]}`, kube.Unschedulable, 5},
		"unschedulable, before the pod was created": {`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","lastTransitionTime":"` + stamp(0) + `"}]}`, kube.Unschedulable, 1},
		"unschedulable, no time":                    {`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","lastTransitionTime":null}]}`, kube.Unschedulable, 1},
		"image, no conditions":                      {`{"phase":"Pending","containerStatuses":[` + waits("ErrImagePull") + `]}`, kube.ImagePullError, 1},
		"image":                                     {`{"phase":"Pending",` + scheduled + `,"containerStatuses":[` + waits("ImagePullBackOff") + `]}`, kube.ImagePullError, 3},
		"image, after its volumes":                  {`{"phase":"Pending",` + conditions("PodScheduled", 3, "Initialized", 3, "PodReadyToStartContainers", 7) + `,"containerStatuses":[` + waits("ImagePullBackOff") + `]}`, kube.ImagePullError, 7},
		"image, after an init container":            {`{"phase":"Pending",` + conditions("PodScheduled", 3, "Initialized", 8) + `,"containerStatuses":[` + waits("ErrImagePull") + `]}`, kube.ImagePullError, 8},
		"init image":                                {`{"phase":"Pending",` + conditions("PodScheduled", 3) + `,"initContainerStatuses":[` + waits("ErrImagePull") + `]}`, kube.ImagePullError, 3},
		"init image, after another":                 {`{"phase":"Pending",` + conditions("PodScheduled", 3) + `,"initContainerStatuses":[` + ends("i", "state", 6) + `,` + waits("ErrImagePull") + `]}`, kube.ImagePullError, 6},
		"init image, beside a sidecar":              {`{"phase":"Pending",` + conditions("PodScheduled", 3) + `,"initContainerStatuses":[{"name":"i","state":{"running":{"startedAt":"` + stamp(5) + `"}}},` + waits("ErrImagePull") + `]}`, kube.ImagePullError, 5},
		"no secret":                                 {`{"phase":"Pending",` + scheduled + `,"containerStatuses":[` + waits("CreateContainerConfigError") + `]}`, kube.ConfigError, 3},
		"no secret, after it ran":                   {`{"phase":"Running",` + scheduled + `,"containerStatuses":[{"name":"c","state":{"waiting":{"reason":"CreateContainerConfigError"}},"lastState":{"terminated":{"exitCode":1,"finishedAt":"` + stamp(9) + `"}}}]}`, kube.ConfigError, 9},
		"crash loop":                                {`{"phase":"Running",` + scheduled + `,"containerStatuses":[{"name":"c","state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":1,"finishedAt":"` + stamp(9) + `"}}}]}`, kube.CrashLoop, 3},
		"out of memory, restarts":                   {`{"phase":"Running",` + scheduled + `,"containerStatuses":[{"name":"c","state":{"terminated":{"reason":"OOMKilled","exitCode":137,"finishedAt":"` + stamp(9) + `"}}}]}`, kube.OOMKilled, 3},
		"out of memory, ended":                      {`{"phase":"Failed",` + scheduled + `,"containerStatuses":[{"name":"c","state":{"terminated":{"reason":"OOMKilled","exitCode":137,"finishedAt":"` + stamp(9) + `"}}}]}`, kube.OOMKilled, 9},
		"exit code, ended":                          {`{"phase":"Failed",` + scheduled + `,"containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":1,"finishedAt":"` + stamp(9) + `"}}}]}`, kube.Exited, 9},
		"evicted":                                   {`{"phase":"Failed","reason":"Evicted",` + conditions("DisruptionTarget", 8) + `}`, kube.Evicted, 8},
		"evicted, no time":                          {`{"phase":"Failed","reason":"Evicted"}`, kube.Evicted, 1},
	} {
		pod := podOf(t, c.status)
		if d := pod.Diagnosis; d == nil || d.Category != c.want || !d.Since.Equal(at(c.since)) {
			t.Errorf("%s: %+v, want %s since minute %d", name, d, c.want, c.since)
		}
	}
}

// TestRestartedContainer: one that runs again is not diagnosed by its former end.
func TestRestartedContainer(t *testing.T) {
	pod := podOf(t, `{"phase":"Running","containerStatuses":[{"name":"c","restartCount":1,"state":{"running":{"startedAt":"`+stamp(4)+`"}},"lastState":{"terminated":{"exitCode":1}}}]}`)
	if pod.Diagnosis != nil || pod.Restarts != 1 || !pod.Started {
		t.Errorf("%+v, %v", pod, pod.Diagnosis)
	}
}

func TestStarted(t *testing.T) {
	for status, want := range map[string]bool{
		`{}`:                  false,
		`{"phase":"Pending"}`: false,
		`{"phase":"Unknown"}`: false,
		`{"phase":"Running"}`: true, `{"phase":"Succeeded"}`: true, `{"phase":"Failed"}`: true,
		`{"phase":"Pending","containerStatuses":[{"name":"c","state":{"waiting":{"reason":"ContainerCreating"}}}]}`: false,
		`{"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"running":{}}}]}`:                         true,
		`{"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"terminated":{}}}]}`:                      true,
		`{"phase":"Pending","initContainerStatuses":[{"name":"i","lastState":{"terminated":{}}}]}`:                  true,
		`{"phase":"Pending","containerStatuses":[{"name":"c","restartCount":1}]}`:                                   true,
	} {
		if pod := podOf(t, status); pod.Started != want {
			t.Errorf("%s: started %t", status, pod.Started)
		}
	}
}

// TestAdviceForImages: by reason, as the category's speaks of Secrets.
func TestAdviceForImages(t *testing.T) {
	for reason, part := range map[string]string{
		"ErrImageNeverPull":          "imagePullPolicy Never",
		"InvalidImageName":           "Correct the image's name",
		"CreateContainerConfigError": "Secrets",
	} {
		pod := podOf(t, `{"phase":"Pending","containerStatuses":[{"name":"c","state":{"waiting":{"reason":"`+reason+`","message":"m"}}}]}`)
		if d := pod.Diagnosis; d == nil || d.Category != kube.ConfigError || !strings.Contains(d.Advice, part) || !strings.HasPrefix(d.Text(), "ConfigError: container c: "+reason+": m. ") {
			t.Errorf("%s: %+v", reason, d)
		}
	}
}

// TestPodsInPages: of many Jobs, by Job and age.
func TestPodsInPages(t *testing.T) {
	server := kubetest.New(t, "dev")
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if limit := r.URL.Query().Get("limit"); limit == "" {
			t.Error("pods are listed without a limit")
		}
		jobs := strings.Split(strings.TrimSuffix(strings.TrimPrefix(r.URL.Query().Get("labelSelector"), "job-name in ("), ")"), ",")
		from, _ := strconv.Atoi(r.URL.Query().Get("continue")) // two pods each, one page each
		metadata, items := kubetest.Doc{}, []any{}
		for _, job := range jobs {
			items = append(items, kubetest.Doc{"metadata": kubetest.Doc{
				"name": fmt.Sprint(job, "-", from), "labels": kubetest.Doc{"job-name": job}, "creationTimestamp": at(9 - from).Format(time.RFC3339)}})
		}
		if from == 0 {
			metadata["continue"] = "1"
		}
		_ = json.NewEncoder(w).Encode(kubetest.Doc{"kind": "PodList", "metadata": metadata, "items": items})
		return true
	})
	var jobs []string
	for i := range 120 {
		jobs = append(jobs, fmt.Sprintf("j%03d", 119-i))
	}
	pods, err := newClient(t, server.Config(), kube.Options{}).Pods(t.Context(), "dev", jobs)
	if err != nil || len(pods) != 240 {
		t.Fatal(len(pods), err)
	}
	for i, pod := range pods {
		if want := fmt.Sprintf("j%03d-%d", i/2, 1-i%2); pod.Name != want {
			t.Fatalf("pod %d is %s, want %s", i, pod.Name, want)
		}
	}
	if n := len(server.Requests()); n != 6 {
		t.Errorf("%d requests, want 6: 50 Jobs each, two pages each", n)
	}
}

// TestPodLog: its end is read, however long its lines are.
func TestPodLog(t *testing.T) {
	lines := []string{}
	for i := range 600 {
		lines = append(lines, fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 1_000)))
	}
	server := kubetest.New(t, "dev")
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		query := r.URL.Query()
		tail, _ := strconv.Atoi(query.Get("tailLines"))
		limit, _ := strconv.Atoi(query.Get("limitBytes"))
		text := strings.Join(lines[len(lines)-min(tail, len(lines)):], "")
		if query.Get("previous") == "true" {
			text = "previous\n"
		}
		if query.Get("container") == "rude" {
			limit = len(text)
		}
		_, _ = io.WriteString(w, text[:min(limit, len(text))]) // as a kubelet does
		return true
	})
	client := newClient(t, server.Config(), kube.Options{})
	for name, c := range map[string]struct {
		lines    int
		previous bool
		ends     string
		requests int
	}{
		"few":      {10, false, lines[599], 1},
		"many":     {500, false, lines[599], 2},
		"previous": {500, true, "previous\n", 1},
	} {
		before := len(server.Requests())
		log, err := client.PodLog(t.Context(), "dev", "a", "c", c.lines, c.previous)
		if err != nil || !strings.HasSuffix(log, c.ends) || len(log) > 256<<10 {
			t.Errorf("%s: %d bytes, %v", name, len(log), err)
		}
		if n := len(server.Requests()) - before; n != c.requests {
			t.Errorf("%s: %d requests, want %d", name, n, c.requests)
		}
	}
	if log, err := client.PodLog(t.Context(), "dev", "a", "rude", 1, false); err != nil || log != lines[599] {
		t.Errorf("%d bytes, %v", len(log), err)
	}
}

// TestDifferencesOfSlipway: its own name, annotations and labels are none.
func TestDifferencesOfSlipway(t *testing.T) {
	want := `{"metadata":{"name":"a","labels":{"slipway/work-pool-id":"p","x":"1"},"annotations":{"slipway/cluster":"c"}}}`
	have := `{"metadata":{"name":"b","labels":{"x":"2"}}}`
	found, err := kube.Differences([]byte(want), []byte(have))
	if err != nil || len(found) != 1 || found[0] != (kube.Difference{Path: "/metadata/labels/x", Want: `"1"`, Have: `"2"`}) {
		t.Errorf("%+v, %v", found, err)
	}
}
