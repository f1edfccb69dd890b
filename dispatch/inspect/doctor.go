package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Level of a Check.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Check is one line of a doctor's report.
type Check struct {
	Level Level  `json:"level"`
	About string `json:"about"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"` // what to do, a command where one does it
}

// doctor looks and changes nothing: no heartbeat, no claim.
type doctor struct {
	servers *workpool.Servers
	options workpool.Options
	checks  []Check
}

// Doctor checks what a pass over work pools needs, for as far as each check lets
// the next one be asked.
func Doctor(ctx context.Context, servers *workpool.Servers, pools []string) []Check {
	x := &doctor{servers: servers, options: servers.Options}
	x.settings()
	prefectAnswers := x.prefectServer(ctx)
	clusterAnswers := x.apiServer(ctx)
	if prefectAnswers {
		for _, name := range pools {
			x.workPool(ctx, name, clusterAnswers)
		}
	}
	for i, c := range x.checks {
		x.checks[i].About, x.checks[i].Found = x.options.Redactor.Text(c.About), x.options.Redactor.Text(c.Found)
		x.checks[i].Fix = x.options.Redactor.Text(c.Fix)
	}
	return x.checks
}

func (x *doctor) add(level Level, about, fix, format string, args ...any) {
	x.checks = append(x.checks, Check{Level: level, About: about, Found: fmt.Sprintf(format, args...), Fix: fix})
}

// settings looks for those that are each legal, and together not likely meant.
func (x *doctor) settings() {
	if least := x.options.Deadline + submit.UnclaimMargin; x.options.OrphanGrace < least {
		x.add(Warn, "settings", fmt.Sprintf("set SLIPWAY_ORPHAN_GRACE to %s at least, or SLIPWAY_DEADLINE to less", least),
			"SLIPWAY_ORPHAN_GRACE is %s and SLIPWAY_DEADLINE %s: a run whose Job cannot be made stays PENDING until a sweep can, where its owner would have given it back",
			x.options.OrphanGrace, x.options.Deadline)
	}
}

func (x *doctor) prefectServer(ctx context.Context) bool {
	const about = "Prefect server"
	version, err := x.options.Prefect.ServerVersion(ctx)
	switch {
	case err != nil:
		x.add(Fail, about, "check PREFECT_API_URL (it ends in /api), and PREFECT_API_KEY or PREFECT_API_AUTH_STRING", "%v", err)
		return false
	case strings.HasPrefix(version, "3.") || strings.HasPrefix(version, "2.20."):
		x.add(OK, about, "", "version %s answers", version)
	default:
		x.add(Warn, about, "run Prefect 3.x or 2.20", "version %s answers, which Slipway is not tested with", version)
	}
	x.clock(about, x.options.Prefect.Skew())
	return true
}

func (x *doctor) clock(of string, skew time.Duration) {
	if skew != 0 {
		x.add(Warn, of, "let this machine keep time (NTP)", "its clock is %s from this machine's; ages use server time", skew.Round(time.Second))
	}
}

func (x *doctor) apiServer(ctx context.Context) bool {
	const about = "Kubernetes API server"
	if err := x.options.Kube.Ready(ctx); err != nil && !kube.IsRefused(err) {
		x.add(Fail, about, "check KUBECONFIG, or that the pod has its service account's token", "%v", err)
		return false
	}
	id, err := x.servers.ClusterID(ctx)
	if err != nil {
		x.add(Fail, about, "kubectl apply -f deploy/base/cluster-id.yaml, or set SLIPWAY_CLUSTER", "the cluster cannot be named: %v", err)
		return true
	}
	x.add(OK, about, "", "answers; claims name the cluster %s", id)
	x.clock(about, x.options.Kube.Skew())
	return true
}

func (x *doctor) workPool(ctx context.Context, name string, cluster bool) {
	about := "work pool " + name
	session, err := x.servers.Open(ctx, name)
	if err != nil {
		fix := "" // the message of any other fault says what to do
		if prefect.IsNotFound(err) {
			fix = fmt.Sprintf("prefect work-pool create %s --type kubernetes", name)
		}
		x.add(Fail, about, fix, "%v", err)
		return
	}
	if session.Pool.IsPaused {
		x.add(Warn, about, "prefect work-pool resume "+name, "it is paused: no run of it is claimed")
	} else {
		x.add(OK, about, "", "exists, is of type kubernetes and not paused")
	}
	if session.Fault != nil {
		x.add(Fail, about, "slipway render --lint, and correct the base job template", "its base job template makes no Job: %v", session.Fault)
		return
	}
	x.workers(ctx, session)
	x.deployments(ctx, session, cluster)
}

// workers looks for others, and for the readiness that heartbeats give.
func (x *doctor) workers(ctx context.Context, session *workpool.Session) {
	about := "work pool " + session.Pool.Name
	workers, err := x.options.Prefect.Workers(ctx, session.Pool.Name)
	if err != nil {
		x.add(Warn, about, "", "%v", err)
		return
	}
	own := false
	for _, worker := range workers {
		switch {
		case worker.Status != "ONLINE":
		case worker.Name == x.options.WorkerName:
			own = true
		default:
			x.add(Warn, about, "stop it when Slipway serves the pool: a mixed pool is for a migration (docs/migrate.md)", "worker %q serves it too", worker.Name)
		}
	}
	if own {
		x.add(OK, about, "", "%q is ONLINE", x.options.WorkerName)
		return
	}
	x.add(Warn, about, "start a trigger (deploy/overlays/cronjob); SLIPWAY_HEARTBEAT_INTERVAL must be at least its period",
		"no heartbeat of %q within the last minutes: no pass was made, or the heartbeat's interval is too short", x.options.WorkerName)
}

// deployments renders the Job of each, and has the API server try it.
func (x *doctor) deployments(ctx context.Context, session *workpool.Session, cluster bool) {
	about := "work pool " + session.Pool.Name
	found, err := x.options.Prefect.DeploymentsOfPool(ctx, session.Pool.Name)
	if err != nil {
		x.add(Fail, about, "", "%v", err)
		return
	}
	namespaces := map[string]bool{}
	accounts := map[string]podNeeds{}
	rendered := 0
	for _, d := range found {
		inspection, err := Inspect(ctx, x.servers, Subject{WorkPool: session.Pool.Name, Deployment: d.ID})
		if err != nil {
			var fault *render.Fault
			level, fix := Fail, fmt.Sprintf("slipway render --deployment %s --explain", d.ID)
			if !errors.As(err, &fault) {
				level, fix = Warn, ""
			}
			x.add(level, "deployment "+d.Name, fix, "no Job can be rendered: %v", err)
			continue
		}
		rendered++
		namespaces[inspection.Job.Namespace] = true
		needs := needsOf(inspection.Job.Namespace, inspection.Manifest)
		accounts[fmt.Sprint(needs)] = needs
		if cluster {
			x.try(ctx, d.Name, inspection)
		}
	}
	if len(found) == 0 {
		for _, namespace := range session.Template.Namespaces() {
			namespaces[namespace] = true
		}
	}
	x.add(OK, about, "", "%d of %d deployments make a Job", rendered, len(found))
	if !cluster {
		return
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		x.rights(ctx, namespace)
	}
	for _, key := range slices.Sorted(maps.Keys(accounts)) {
		x.pods(ctx, accounts[key])
	}
}

// try has the API server take a Job in a dry run.
func (x *doctor) try(ctx context.Context, name string, i *Inspection) {
	if err := i.Job.Check(); err != nil {
		x.add(Fail, "deployment "+name, "slipway render --lint", "the API server would refuse its Job: %v", err)
		return
	}
	_, _, err := x.options.Kube.TryJob(ctx, i.Job.Namespace, i.Manifest)
	switch {
	case err == nil:
	case kube.IsForbidden(err):
		// The rights are checked by namespace.
	case kube.IsRefused(err):
		x.add(Fail, "deployment "+name, "correct what the message names, in the base job template or the job variables", "the API server refuses its Job: %v", err)
	default:
		x.add(Warn, "deployment "+name, "", "the API server does not take its Job now: %v", err)
	}
}

// needed is what a pass and its sweep do in a namespace (deploy/namespace).
var needed = []kube.Access{
	{Verb: "create", Group: "batch", Resource: "jobs"}, {Verb: "get", Group: "batch", Resource: "jobs"},
	{Verb: "list", Group: "batch", Resource: "jobs"}, {Verb: "delete", Group: "batch", Resource: "jobs"},
	{Verb: "list", Resource: "pods"}, {Verb: "get", Resource: "pods", Subresource: "log"}, {Verb: "list", Resource: "events"},
}

func (x *doctor) rights(ctx context.Context, namespace string) {
	about := "namespace " + namespace
	var missing []string
	for _, access := range needed {
		access.Namespace = namespace
		allowed, err := x.options.Kube.May(ctx, access)
		if err != nil {
			x.add(Warn, about, "", "its rights are not known: %v", err)
			return
		}
		if !allowed {
			missing = append(missing, access.Verb+" "+strings.TrimSuffix(access.Resource+"/"+access.Subresource, "/"))
		}
	}
	if len(missing) > 0 {
		x.add(Fail, about, fmt.Sprintf("kubectl apply -n %s -k deploy/namespace", namespace), "Slipway may not: %s", strings.Join(missing, ", "))
		return
	}
	x.add(OK, about, "", "Slipway has its rights")
}

// podNeeds are what a pod cannot start without.
type podNeeds struct {
	namespace, account string
	secrets            []string
}

func needsOf(namespace string, manifest []byte) podNeeds {
	var job struct {
		Spec struct {
			Template struct {
				Spec struct {
					ServiceAccountName string `json:"serviceAccountName"`
					ImagePullSecrets   []struct {
						Name string `json:"name"`
					} `json:"imagePullSecrets"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	needs := podNeeds{namespace: namespace}
	if json.Unmarshal(manifest, &job) == nil {
		needs.account = job.Spec.Template.Spec.ServiceAccountName
		for _, s := range job.Spec.Template.Spec.ImagePullSecrets {
			needs.secrets = append(needs.secrets, s.Name)
		}
	}
	return needs
}

// pods looks for the service account and the image pull secrets of pods.
func (x *doctor) pods(ctx context.Context, needs podNeeds) {
	look := func(resource, kind, name, create string) {
		there, err := x.options.Kube.Has(ctx, needs.namespace, resource, name)
		about := "namespace " + needs.namespace
		switch {
		case err != nil:
			x.add(Warn, about, fmt.Sprintf("kubectl get %s -n %s %s", kind, needs.namespace, name), "whether %s %q exists may not be looked at with these rights", kind, name)
		case !there:
			x.add(Fail, about, create, "%s %q, which Jobs name, does not exist: their pods are refused", kind, name)
		default:
			x.add(OK, about, "", "%s %q exists", kind, name)
		}
	}
	if needs.account != "" {
		look("serviceaccounts", "serviceaccount", needs.account, fmt.Sprintf("kubectl create serviceaccount -n %s %s", needs.namespace, needs.account))
	}
	for _, secret := range needs.secrets {
		look("secrets", "secret", secret, fmt.Sprintf("kubectl create secret docker-registry -n %s %s ...", needs.namespace, secret))
	}
}
