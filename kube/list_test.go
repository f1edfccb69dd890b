package kube_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"slipway/kube"
	"slipway/kube/kubetest"
	"slipway/kube/kubetest/contract"
)

// answerJobs lets a server list n Jobs in pages, each of about size bytes. It
// returns a client and the limits that it asked for.
func answerJobs(t *testing.T, n, size int) (*kube.Client, *[]int) {
	server := kubetest.New(t)
	padding := strings.Repeat("p", size)
	var limits []int
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		limits = append(limits, limit)
		end := min(n, from+limit)
		next := ""
		if end < n {
			next = strconv.Itoa(end)
		}
		var page bytes.Buffer
		fmt.Fprintf(&page, `{"kind":"JobList","apiVersion":"batch/v1","metadata":{"resourceVersion":"1","continue":%q},"items":[`, next)
		for i := from; i < end; i++ {
			if i > from {
				page.WriteByte(',')
			}
			fmt.Fprintf(&page, `{"metadata":{"name":"etl-%d","namespace":"dev","uid":"00000000-0000-4000-8000-%012d","creationTimestamp":"2026-01-02T03:04:05Z",`+
				`"labels":{"run":"r-%d","other":"%s"},"annotations":{"slipway/cluster":"c-%d","other":"%s"}},"spec":{"template":{"spec":{"x":"%s"}}},"status":{"succeeded":1}}`,
				i, i, i, padding[:size/8], i, padding[:size/8], padding[:size*6/8])
		}
		page.WriteString("]}")
		w.Header().Set("Content-Type", "application/json")
		_, _ = page.WriteTo(w)
		return true
	})
	return newClient(t, server.Config(), kube.Options{}), &limits
}

// heap is what is in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryOfJobs: what stays of a list is what the caller keeps, and that is a
// small part of what the API server sent.
func TestMemoryOfJobs(t *testing.T) {
	const jobs, size = 20_000, 1_000
	client, _ := answerJobs(t, jobs, size)
	before := heap()
	seen, peak := 0, uint64(0)
	var kept []*kube.Job
	err := client.EachJob(t.Context(), kube.JobList{Keys: []string{"run", "slipway/cluster"}}, func(job *kube.Job) {
		seen++
		if seen%10 == 0 {
			kept = append(kept, job)
		}
		if seen%5_000 == 0 {
			peak = max(peak, heap())
		}
	})
	if err != nil || seen != jobs {
		t.Fatalf("%d Jobs, %v", seen, err)
	}
	if grown := int64(peak) - int64(before); grown > 8<<20 {
		t.Errorf("a list of %d MiB takes %d MiB", jobs*size>>20, grown>>20)
	}
	perJob := (int64(heap()) - int64(before)) / int64(len(kept))
	if perJob > 2_000 {
		t.Errorf("a Job that is kept takes %d bytes", perJob)
	}
	last := kept[len(kept)-1]
	if want := map[string]string{"run": "r-19999"}; last.Name != "etl-19999" || !maps.Equal(last.Labels, want) || last.Annotations["slipway/cluster"] != "c-19999" || len(last.Annotations) != 1 {
		t.Errorf("the last Job is %+v", last)
	}
}

// TestLargePages: a page that is too large is asked for again with half as many
// Jobs, from where it began.
func TestLargePages(t *testing.T) {
	client, limits := answerJobs(t, 600, 1_000)
	client.SetMaxAnswer(400_000)
	var names []string
	if err := client.EachJob(t.Context(), kube.JobList{}, func(job *kube.Job) { names = append(names, job.Name) }); err != nil {
		t.Fatal(err)
	}
	if len(names) != 600 || names[0] != "etl-0" || names[599] != "etl-599" {
		t.Errorf("%d Jobs", len(names))
	}
	if want := []int{500, 250, 250, 250}; !slices.Equal(*limits, want) {
		t.Errorf("limits %v, want %v", *limits, want)
	}
}

func TestOneJobTooLarge(t *testing.T) {
	client, limits := answerJobs(t, 1, 1_000)
	client.SetMaxAnswer(1_000)
	err := client.EachJob(t.Context(), kube.JobList{PageSize: 4}, func(*kube.Job) {})
	if err == nil || !strings.Contains(err.Error(), "too large: more than 0 KiB") || !slices.Equal(*limits, []int{4, 2, 1}) {
		t.Errorf("%v, limits %v", err, *limits)
	}
}

// TestExpiredList: a list whose continue token has expired starts again, once.
func TestExpiredList(t *testing.T) {
	for _, c := range []struct {
		expirations, want int
		fails             bool
	}{{0, 3, false}, {1, 4, false}, {2, 2, true}} {
		server := kubetest.New(t, "dev")
		client := newClient(t, server.Config(), kube.Options{})
		for _, name := range []string{"a", "b", "c"} {
			if _, _, err := client.CreateJob(t.Context(), "dev", name, contract.Manifest("dev", name, "i")); err != nil {
				t.Fatal(err)
			}
		}
		seen, left := 0, c.expirations
		err := client.EachJob(t.Context(), kube.JobList{Namespace: "dev", PageSize: 1}, func(*kube.Job) {
			if seen++; left > 0 {
				left--
				server.ExpireLists()
			}
		})
		if (err != nil) != c.fails || seen != c.want {
			t.Errorf("%d expirations: %d Jobs, %v", c.expirations, seen, err)
		}
	}
}

// TestListsThatAreNotWhole: an error, and no Job of a page that is not whole.
func TestListsThatAreNotWhole(t *testing.T) {
	for name, answer := range map[string]string{
		"not a list": `{"kind":"Status","status":"Success"}`,
		"cut":        `{"metadata":{},"items":[{"metadata":{"name":"a"}},{"metadata":`,
		"cut later":  `{"metadata":{},"items":[{"metadata":{"name":"a"}}]`,
		"no JSON":    `<html>`,
		"an array":   `[]`,
		"a number":   `{"items":1}`,
		"no end":     `{"metadata":{"continue":"same"},"items":[]}`,
	} {
		server := kubetest.New(t)
		server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
			return true
		})
		err := newClient(t, server.Config(), kube.Options{}).EachJob(t.Context(), kube.JobList{}, func(job *kube.Job) {
			t.Errorf("%s: Job %s", name, job.Name)
		})
		if !kube.IsUnknown(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEmptyLists(t *testing.T) {
	for _, items := range []string{"[]", "null"} {
		server := kubetest.New(t)
		server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `{"items":`+items+`,"metadata":{},"new":{"a":[1,{}]}}`)
			return true
		})
		if err := newClient(t, server.Config(), kube.Options{}).EachJob(t.Context(), kube.JobList{}, nil); err != nil {
			t.Errorf("%s: %v", items, err)
		}
	}
}

// TestSuccessfulJobsAreLeftOut: so says the field selector.
func TestSuccessfulJobsAreLeftOut(t *testing.T) {
	server := kubetest.New(t, "dev")
	client := newClient(t, server.Config(), kube.Options{})
	for _, name := range []string{"active", "complete", "failed"} {
		if _, _, err := client.CreateJob(t.Context(), "dev", name, contract.Manifest("dev", name, "i")); err != nil {
			t.Fatal(err)
		}
	}
	server.Change("jobs/dev/complete", func(job kubetest.Doc) { job["status"] = kubetest.Doc{"succeeded": 1} })
	server.Change("jobs/dev/failed", func(job kubetest.Doc) { job["status"] = kubetest.Doc{"failed": 1} })
	var names []string
	l := kube.JobList{FieldSelector: "status.successful=0"}
	if err := client.EachJob(t.Context(), l, func(job *kube.Job) { names = append(names, job.Name) }); err != nil || !slices.Equal(names, []string{"active", "failed"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// TestJobStatus: what is read of a Job's status.
func TestJobStatus(t *testing.T) {
	condition := func(kind, status string) string {
		return fmt.Sprintf(`{"startTime":"2026-01-02T03:00:00Z","failed":1,"conditions":[{"type":%q,"status":%q,"lastTransitionTime":"2026-01-02T03:04:05Z","reason":"BackoffLimitExceeded","message":"m"}]}`, kind, status)
	}
	for name, c := range map[string]struct {
		status                              string
		finished, complete, failed, podless bool
	}{
		"new":         {`{}`, false, false, false, true},
		"active":      {`{"active":1}`, false, false, false, false},
		"terminating": {`{"terminating":1}`, false, false, false, false},
		"ready":       {`{"ready":1}`, false, false, false, false},
		"uncounted":   {`{"uncountedTerminatedPods":{"failed":["u"]}}`, false, false, false, false},
		"none of any": {`{"active":0,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}`, false, false, false, true},
		"complete":    {condition("Complete", "True"), true, true, false, false},
		"failed":      {condition("Failed", "True"), true, false, true, false},
		"not failed":  {condition("Failed", "False"), false, false, false, false},
		"will fail":   {condition("FailureTarget", "True"), false, false, false, false},
	} {
		server := kubetest.New(t, "dev")
		client := newClient(t, server.Config(), kube.Options{})
		if _, _, err := client.CreateJob(t.Context(), "dev", "a", contract.Manifest("dev", "a", "i")); err != nil {
			t.Fatal(err)
		}
		server.Change("jobs/dev/a", func(job kubetest.Doc) {
			var status kubetest.Doc
			if err := json.Unmarshal([]byte(c.status), &status); err != nil {
				t.Fatal(err)
			}
			job["status"] = status
		})
		job, err := client.Job(t.Context(), "dev", "a")
		if err != nil {
			t.Fatal(err)
		}
		if job.Finished() != c.finished || job.Complete != c.complete || job.Failed != c.failed || job.Podless != c.podless || job.FinishedAt.IsZero() == c.finished {
			t.Errorf("%s: %+v", name, job)
		}
		if (job.Reason == "BackoffLimitExceeded" && job.Message == "m") != c.failed || job.Started.IsZero() == strings.Contains(c.status, "startTime") {
			t.Errorf("%s: %+v", name, job)
		}
	}
}

// TestAnswersAreBounded: not only those of lists.
func TestAnswersAreBounded(t *testing.T) {
	server := kubetest.New(t)
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/refused") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, `{"metadata":{"name":"`)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		_, _ = io.WriteString(w, `"}}`)
		return true
	})
	client := newClient(t, server.Config(), kube.Options{})
	if _, err := client.Job(t.Context(), "dev", "read"); err != nil {
		t.Error(err)
	}
	client.SetMaxAnswer(1 << 20)
	for _, name := range []string{"read", "refused"} {
		if _, err := client.Job(t.Context(), "dev", name); !kube.IsUnknown(err) || !strings.Contains(err.Error(), "too large: more than 1024 KiB") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}
