// Package render turns a flow run into the Kubernetes Job that Prefect's Python
// Kubernetes worker would submit for it, JSON-equal field by field.
//
// It is pure: no context, clock, randomness, log or I/O. What lives on the
// Prefect server beside the run (blocks, variables) is handed in as Documents;
// what is missing there comes back as a *Missing error, so that a caller can
// fetch it and render again.
package render

import "encoding/json"

// Version names the worker to imitate.
type Version string

const (
	V3 Version = "3"    // prefect-kubernetes 0.8.0 of Prefect 3.8.8
	V2 Version = "2.20" // prefect-kubernetes 0.4.6 of Prefect 2.20.25
)

// Options is what the Python worker takes from its own process.
type Options struct {
	As             Version
	PrefectVersion string            // "3.8.8": labels and the default image
	PythonVersion  string            // "3.11": the default image
	WorkerName     string            // PREFECT__WORKER_NAME and the label
	Environ        map[string]string // the dispatcher's whole environment: {{ $NAME }}, PREFECT_* settings passed on, integration settings
	Namespace      string            // fallback if neither template nor variables name one; "" means "default"
}

// Run holds documents of the Prefect API, byte for byte: key order and number
// spelling matter.
type Run struct {
	FlowRun    json.RawMessage
	Deployment json.RawMessage // nil for a run without deployment
	Flow       json.RawMessage
	Suffix     string // 8 hex digits for the names of per-run Secrets
}

// Documents is the content of the Prefect server that references point to.
type Documents struct {
	BlocksByName map[string]json.RawMessage // "<type-slug>/<document-name>" -> block document
	BlocksByID   map[string]json.RawMessage // id -> block document
	Variables    map[string]json.RawMessage // name -> value (JSON); a nil entry: known to be absent
}

// Job is a rendered Job, not yet named.
type Job struct {
	Namespace string
	NameBase  string // metadata.generateName
	Image     string // container 0, for messages
	Secrets   []Secret
	// ...
}

// Secret is created before the Job.
type Secret struct {
	Name, Namespace string
	Body            []byte // JSON of the v1 Secret
	OwnedByJob      bool   // gets an owner reference to the Job once that exists
}

// Identity is what Slipway adds to the manifest so that a Job can be recognised.
type Identity struct {
	Name        string            // metadata.name; generateName is kept
	Annotations map[string]string // added to metadata.annotations of the Job
}

// Template is a work pool's base job template, parsed once; goroutines share it.
type Template struct{}

// Parse reads a work pool (GET /work_pools/{name}).
func Parse(pool json.RawMessage, opts Options) (*Template, error) { panic("stub") }

// Render makes the Job of a run. Errors: *Missing, *Fault.
func (t *Template) Render(run Run, docs Documents) (*Job, error) { panic("stub") }

// Warnings tells what the user should know though the Job is rendered.
func (j *Job) Warnings() []string { panic("stub") }

// Manifest is the body of the Job POST.
func (j *Job) Manifest(id Identity) []byte { panic("stub") }

// Missing lists references that Documents does not hold yet.
type Missing struct {
	BlocksByName []string // "<type-slug>/<document-name>"
	BlocksByID   []string
	Variables    []string
}

func (m *Missing) Error() string { panic("stub") }

// Fault is a user's error: the template or the variables make no Job.
type Fault struct {
	At      string // stage, as in the corpus: merge, template, placeholders, blocks, variables, validate, prepare
	Kind    string // Python's exception name, for parity
	Path    string // JSON pointer or dotted path of the field
	Message string // what was wrong, where the value came from, what was expected
}

func (f *Fault) Error() string { panic("stub") }
