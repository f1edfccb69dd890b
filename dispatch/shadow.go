package dispatch

import (
	"context"
	"errors"
	"strings"

	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// ShadowReport compares what Slipway would submit with what the Python worker of a
// work pool has submitted.
type ShadowReport struct {
	Pool      string      `json:"pool"`
	Equal     int         `json:"equal"`
	Different int         `json:"different"`
	Due       int         `json:"due"`     // runs that a pass would claim now
	Refused   int         `json:"refused"` // of which Slipway can make no Job
	Warnings  []string    `json:"warnings,omitempty"`
	Error     string      `json:"error,omitempty"`
	Rows      []ShadowRow `json:"rows"`
}

// ShadowRow is one run: due, or with a Job of the worker's.
type ShadowRow struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Job         string            `json:"job,omitempty"` // the worker's
	Fault       string            `json:"fault,omitempty"`
	Differences []kube.Difference `json:"differences,omitempty"`
}

// Shadow claims nothing and submits nothing: it renders what is due, and the runs
// whose Jobs a Python worker has made, and compares these with the Jobs.
func (d *Dispatcher) Shadow(ctx context.Context, req Request) ([]ShadowReport, error) {
	var reports []ShadowReport
	var errs []error
	for _, name := range req.WorkPools {
		s := newSweep(d.newPass(name, req), true)
		report := ShadowReport{Pool: name, Rows: []ShadowRow{}}
		if err := s.shadow(ctx, &report); err != nil {
			report.Error = s.plain(err)
			errs = append(errs, err)
		}
		report.Warnings = s.report.Warnings
		reports = append(reports, report)
	}
	return reports, errors.Join(errs...)
}

func (s *sweep) shadow(ctx context.Context, report *ShadowReport) error {
	for _, step := range []func(context.Context) error{s.meetServer, s.meetCluster, s.readPool} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	due, err := s.Prefect.ScheduledFlowRuns(ctx, report.Pool, prefect.ScheduledRequest{
		WorkQueueNames: s.req.WorkQueues, ScheduledBefore: s.Now().Add(s.req.LookAhead), Limit: pageSize,
	})
	if err != nil {
		return prefectError(ctx, "poll work pool "+report.Pool, err)
	}
	for i := range due {
		s.shadowDue(ctx, report, &due[i])
	}
	s.listJobs(ctx, nil)
	return s.shadowJobs(ctx, report)
}

func (s *sweep) shadowDue(ctx context.Context, report *ShadowReport, run *prefect.FlowRun) {
	report.Due++
	row := ShadowRow{ID: run.ID, Name: run.Name}
	inspection, err := s.Inspect(ctx, Subject{WorkPool: report.Pool, FlowRun: run.ID})
	if err == nil {
		err = inspection.Job.Check()
	}
	if err != nil {
		report.Refused++
		row.Fault = s.plain(err)
	}
	report.Rows = append(report.Rows, row)
}

// shadowJobs compares the Jobs that are not Slipway's with its own renderings.
func (s *sweep) shadowJobs(ctx context.Context, report *ShadowReport) error {
	byRun := map[string]kube.JobStatus{}
	var ids []string
	for _, job := range s.jobs {
		id := strings.ToLower(job.Labels[labelRun])
		if _, seen := byRun[id]; !seen && !s.isOurs(job) {
			byRun[id] = job
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	runs, err := s.Prefect.FlowRuns(ctx, prefect.RunFilter{WorkPool: report.Pool, IDs: ids})
	if err != nil {
		return prefectError(ctx, "read the flow runs of the Jobs", err)
	}
	for i := range runs {
		row := s.compare(ctx, &runs[i], byRun[strings.ToLower(runs[i].ID)])
		if row.Fault != "" || len(row.Differences) > 0 {
			report.Different++
		} else {
			report.Equal++
		}
		report.Rows = append(report.Rows, row)
	}
	return nil
}

// compare renders as that worker, by its name, and as the API server would store it.
func (s *sweep) compare(ctx context.Context, run *prefect.FlowRun, job kube.JobStatus) ShadowRow {
	row := ShadowRow{ID: run.ID, Name: run.Name, Job: job.Namespace + "/" + job.Name}
	options := s.Options
	if name := job.Labels["prefect.io/worker-name"]; name != "" {
		options.WorkerName = name
	}
	as := New(options)
	differences, err := as.differences(ctx, run, job)
	if err != nil {
		row.Fault = s.plain(err)
	}
	row.Differences = differences
	for i := range row.Differences {
		row.Differences[i].Want, row.Differences[i].Have = s.redact(row.Differences[i].Want), s.redact(row.Differences[i].Have)
	}
	return row
}

func (d *Dispatcher) differences(ctx context.Context, run *prefect.FlowRun, job kube.JobStatus) ([]kube.Difference, error) {
	inspection, err := d.Inspect(ctx, Subject{FlowRun: run.ID})
	if err != nil {
		return nil, err
	}
	verdict, err := d.Try(ctx, inspection)
	if err != nil {
		return nil, err
	}
	if verdict.Refusal != "" {
		return nil, &render.Fault{At: "submit", Path: "job_manifest", Message: verdict.Refusal}
	}
	live, err := d.Kube.JobJSON(ctx, job.Namespace, job.Name)
	if err != nil {
		return nil, err
	}
	return kube.Differences(verdict.Defaulted, live)
}
