package prefect_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

func idsOf(runs []prefect.FlowRun) []string {
	ids := []string{}
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

func TestFlowRunsByDueTime(t *testing.T) {
	server := prefecttest.New(t)
	server.AddPool("p", nil)
	d := server.AddDeployment("p", "f", "d", nil)
	due := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	early, at, late := server.AddRun(d, due.Add(-time.Second), nil), server.AddRun(d, due, nil), server.AddRun(d, due.Add(time.Second), nil)
	client, _ := dial(t, prefect.Options{URL: server.URL})
	before, after := due.Add(-time.Microsecond), due.Add(time.Microsecond)
	for name, c := range map[string]struct {
		filter prefect.RunFilter
		want   []string
	}{
		"no bound":      {prefect.RunFilter{}, []string{early, at, late}},
		"at the time":   {prefect.RunFilter{DueFrom: &due, DueUntil: &due}, []string{at}},
		"from it on":    {prefect.RunFilter{DueFrom: &due}, []string{at, late}},
		"behind it":     {prefect.RunFilter{DueFrom: &after}, []string{late}},
		"up to it":      {prefect.RunFilter{DueUntil: &due}, []string{early, at}},
		"before it":     {prefect.RunFilter{DueUntil: &before}, []string{early}},
		"of some ids":   {prefect.RunFilter{DueUntil: &due, IDs: []string{at, late}}, []string{at}},
		"of no ids":     {prefect.RunFilter{IDs: []string{}}, []string{}},
		"of a state":    {prefect.RunFilter{DueUntil: &due, StateTypes: []string{"SCHEDULED"}}, []string{early, at}},
		"of none there": {prefect.RunFilter{StateTypes: []string{"RUNNING"}}, []string{}},
	} {
		c.filter.WorkPool = "p"
		runs, err := client.FlowRuns(t.Context(), c.filter)
		slices.Sort(c.want)
		if err != nil || !slices.Equal(idsOf(runs), c.want) {
			t.Errorf("%s: %v, want %v: %v", name, idsOf(runs), c.want, err)
		}
	}
}

func TestEachFlowRunEndsWithAnError(t *testing.T) {
	server := prefecttest.New(t, prefecttest.APILimit(2))
	server.AddPool("p", nil)
	d := server.AddDeployment("p", "f", "d", nil)
	var ids []string
	for range 9 {
		ids = append(ids, server.AddRun(d, time.Now(), nil))
	}
	client, _ := dial(t, prefect.Options{URL: server.URL})
	enough := errors.New("enough")
	for name, c := range map[string]struct {
		filter prefect.RunFilter
		stop   int
		want   int
	}{
		"an error": {prefect.RunFilter{}, 3, 3}, "an error among ids": {prefect.RunFilter{IDs: ids}, 3, 3},
		"a limit": {prefect.RunFilter{Limit: 5}, 0, 5}, "a limit of ids": {prefect.RunFilter{IDs: ids, Limit: 5}, 0, 5},
	} {
		seen := 0
		err := client.EachFlowRun(t.Context(), c.filter, func(*prefect.FlowRun) error {
			if seen++; seen == c.stop {
				return enough
			}
			return nil
		})
		if seen != c.want || errors.Is(err, enough) != (c.stop > 0) || c.stop == 0 && err != nil {
			t.Errorf("%s: %d runs: %v", name, seen, err)
		}
	}
}

// Requests to Prefect are few: a list of known length needs no empty page at its end.
func TestRequestsOfLists(t *testing.T) {
	server := prefecttest.New(t)
	server.AddPool("p", nil)
	d := server.AddDeployment("p", "f", "d", nil)
	var ids []string
	for range 200 {
		ids = append(ids, server.AddRun(d, time.Now(), nil))
	}
	client, _ := dial(t, prefect.Options{URL: server.URL})
	runs, err := client.FlowRuns(t.Context(), prefect.RunFilter{IDs: ids})
	if err != nil || len(runs) != 200 || len(server.Requests()) != 1 {
		t.Errorf("%d runs in %d requests: %v", len(runs), len(server.Requests()), err)
	}
}

func TestWhatRunsKeep(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server := prefecttest.New(t)
	server.AddPool("p", nil)
	d := server.AddDeployment("p", "f", "d", nil)
	small := server.AddRun(d, now, map[string]any{"parameters": map[string]any{"x": 1}})
	large := server.AddRun(d, now, map[string]any{"parameters": map[string]any{"x": strings.Repeat("x", 40<<10)}})
	client, _ := dial(t, prefect.Options{URL: server.URL, Now: func() time.Time { return now }})
	poll, err := client.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{ScheduledBefore: now})
	if err != nil || len(poll.Runs) != 2 || poll.Full || !poll.Answered.Equal(now) {
		t.Fatalf("%+v %v", poll, err)
	}
	for _, r := range poll.Runs {
		if r.Trimmed != (r.ID == large) || strings.Contains(string(r.Raw), `"parameters"`) != (r.ID == small) || !strings.Contains(string(r.Raw), `"empirical_policy"`) {
			t.Errorf("polled: trimmed %v, %d bytes", r.Trimmed, len(r.Raw))
		}
	}
	server.Force(large, map[string]any{"type": "RUNNING"})
	whole, err := client.FlowRun(t.Context(), large)
	if err != nil || whole.Trimmed || len(whole.Raw) < 40<<10 || whole.StartTime == nil || whole.RunCount != 1 || whole.WorkPoolName != "p" || whole.State.Raw == nil {
		t.Errorf("read by id: %d bytes, %v", len(whole.Raw), err)
	}
}
