package inspect

import (
	"context"
	"strings"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/workpool"
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

// maxCompared bounds the worker's Jobs that are compared.
const maxCompared = 500

// shadow is one comparison of one work pool.
type shadow struct {
	servers *workpool.Servers
	session *workpool.Session
	report  *ShadowReport
}

// Shadow claims nothing and submits nothing: it renders what is due, and the runs
// whose Jobs a Python worker has made, and compares these with the Jobs. Errors are
// *workpool.Error.
func Shadow(ctx context.Context, servers *workpool.Servers, pool string, queues []string, lookAhead time.Duration) (*ShadowReport, error) {
	s := &shadow{servers: servers, report: &ShadowReport{Pool: pool, Rows: []ShadowRow{}}}
	var err error
	if s.session, err = servers.Open(ctx, pool); err != nil {
		return s.report, err
	}
	err = s.compareAll(ctx, queues, lookAhead)
	s.report.Warnings = s.session.TakeWarnings()
	return s.report, err
}

func (s *shadow) compareAll(ctx context.Context, queues []string, lookAhead time.Duration) error {
	polled, err := s.session.Prefect.ScheduledFlowRuns(ctx, s.report.Pool, prefect.ScheduledRequest{
		WorkQueueNames: queues, ScheduledBefore: s.session.ServerNow().Add(lookAhead),
	})
	if err != nil {
		return workpool.PrefectError(ctx, "poll work pool "+s.report.Pool, err)
	}
	for i := range polled.Runs {
		s.due(ctx, &polled.Runs[i])
	}
	jobs, ids := s.workersJobs(ctx)
	if len(ids) == 0 {
		return nil
	}
	runs, err := s.session.Prefect.FlowRuns(ctx, prefect.RunFilter{WorkPool: s.report.Pool, IDs: ids})
	if err != nil {
		return workpool.PrefectError(ctx, "read the flow runs of the Jobs", err)
	}
	for i := range runs {
		row := s.compare(ctx, &runs[i], jobs[strings.ToLower(runs[i].ID)])
		if row.Fault != "" || len(row.Differences) > 0 {
			s.report.Different++
		} else {
			s.report.Equal++
		}
		s.report.Rows = append(s.report.Rows, row)
	}
	return nil
}

// due renders a run that a pass would claim.
func (s *shadow) due(ctx context.Context, run *prefect.FlowRun) {
	s.report.Due++
	row := ShadowRow{ID: run.ID, Name: run.Name}
	inspection, err := Inspect(ctx, s.servers, Subject{WorkPool: s.report.Pool, FlowRun: run.ID})
	if err == nil {
		err = inspection.Job.Check()
	}
	if err != nil {
		s.report.Refused++
		row.Fault = s.session.Text(err)
	}
	s.report.Rows = append(s.report.Rows, row)
}

// workersJobs are the Jobs of flow runs that are not Slipway's, by flow run id. A
// worker of Prefect 3 labels them with the work pool; one of 2.20 does not.
func (s *shadow) workersJobs(ctx context.Context) (map[string]*kube.Job, []string) {
	selector := claim.LabelFlowRun + ",!" + claim.LabelPool
	if s.session.As == render.V3 {
		selector = claim.LabelWorkersPool + "=" + strings.ToLower(s.session.Pool.ID) + ",!" + claim.LabelPool
	}
	namespaces := s.session.Options.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	jobs := map[string]*kube.Job{}
	var ids []string
	for i := 0; i < len(namespaces); i++ {
		list := kube.JobList{Namespace: namespaces[i], LabelSelector: selector, Keys: []string{claim.LabelFlowRun, claim.LabelWorker, claim.AnnotationID}}
		err := s.session.Kube.EachJob(ctx, list, func(job *kube.Job) {
			id := strings.ToLower(job.Labels[claim.LabelFlowRun])
			if jobs[id] == nil && id != "" && len(ids) < maxCompared && job.Annotations[claim.AnnotationID] == "" {
				jobs[id] = job
				ids = append(ids, id)
			}
		})
		switch {
		case err != nil && kube.IsRefused(err) && namespaces[i] == "":
			namespaces = append(append(namespaces, s.session.DeploymentNamespaces(ctx)...), s.session.Template.Namespaces()...)
		case err != nil:
			s.session.Warn("%v: nothing there is compared", err)
		}
	}
	return jobs, ids
}

// compare renders as that worker, by its name, and as the API server would store it.
func (s *shadow) compare(ctx context.Context, run *prefect.FlowRun, job *kube.Job) ShadowRow {
	row := ShadowRow{ID: run.ID, Name: run.Name, Job: job.Namespace + "/" + job.Name}
	options := s.servers.Options
	if name := job.Labels[claim.LabelWorker]; name != "" {
		options.WorkerName = name
	}
	differences, err := differences(ctx, workpool.New(options), run, job)
	if err != nil {
		row.Fault = s.session.Text(err)
	}
	row.Differences = differences
	redactor := s.servers.Options.Redactor
	for i, d := range row.Differences {
		row.Differences[i] = kube.Difference{Path: redactor.Text(d.Path), Want: shown(redactor.JSON, d.Want), Have: shown(redactor.JSON, d.Have)}
	}
	return row
}

// shown redacts a value of a difference, which is JSON, or "" where there is none.
func shown(redact func([]byte) []byte, value string) string {
	if value == "" {
		return ""
	}
	return string(redact([]byte(value)))
}

func differences(ctx context.Context, as *workpool.Servers, run *prefect.FlowRun, job *kube.Job) ([]kube.Difference, error) {
	inspection, err := Inspect(ctx, as, Subject{FlowRun: run.ID})
	if err != nil {
		return nil, err
	}
	verdict, err := Try(ctx, as, inspection)
	if err != nil {
		return nil, err
	}
	if verdict.Refusal != "" {
		return nil, &render.Fault{At: "submit", Path: "job_manifest", Message: verdict.Refusal}
	}
	live, err := as.Options.Kube.JobJSON(ctx, job.Namespace, job.Name)
	if err != nil {
		return nil, err
	}
	return kube.Differences(verdict.Defaulted, live)
}
