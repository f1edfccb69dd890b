// Package render turns a flow run into the Kubernetes Job that Prefect's Python
// Kubernetes worker would submit for it, JSON-equal field by field.
//
// It is pure: no context, clock, randomness, log or I/O. What lives on the
// Prefect server beside the run (blocks, variables) is handed in as Documents;
// what is missing there comes back as a *Missing error, so that a caller can
// fetch it and render again.
package render

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Options is what the Python worker takes from its own process.
type Options struct {
	As             Version
	PrefectVersion string            // "3.8.8": labels and the default image
	PythonVersion  string            // "3.11": the default image
	WorkerName     string            // PREFECT__WORKER_NAME and the label
	Environ        map[string]string // the dispatcher's whole environment: {{ $NAME }}, PREFECT_* settings passed on, integration settings
	Namespace      string            // where neither template nor variables name one; "" means "default"
}

// Run holds documents of the Prefect API, byte for byte: key order and number
// spelling matter.
type Run struct {
	FlowRun    json.RawMessage
	Deployment json.RawMessage // nil for a run without deployment
	Flow       json.RawMessage
	Suffix     string // 8 hex digits for the names of per-run Secrets
}

// Template is a work pool's base job template, parsed once; goroutines share it.
type Template struct {
	rules          rules
	prefectVersion string
	pythonVersion  string
	workerName     string
	environ        map[string]string
	namespace      string

	poolName, poolID    string
	config              *object // job_configuration
	defaults            *object // of the variables
	declared            []string
	settingsEnvironment *object
}

// Parse reads a work pool (GET /work_pools/{name}). Its errors are *Fault.
func Parse(pool json.RawMessage, o Options) (*Template, error) {
	t := &Template{
		rules:          versions[o.As],
		prefectVersion: o.PrefectVersion,
		pythonVersion:  o.PythonVersion,
		workerName:     o.WorkerName,
		environ:        o.Environ,
		namespace:      orText(o.Namespace, "default"),
	}
	if t.rules.settings == nil {
		return nil, fmt.Errorf("render: no worker of version %q is known", o.As)
	}
	if strings.ContainsAny(o.WorkerName, "/%") {
		return nil, &Fault{At: "worker", Kind: "ValueError", Path: "SLIPWAY_WORKER_NAME", Message: "a worker's name may hold neither / nor %"}
	}
	var err error
	if t.settingsEnvironment, err = t.rules.settingsEnv(o.Environ); err != nil {
		return nil, err
	}
	if err := t.rules.checkIntegration(o.Environ); err != nil {
		return nil, err
	}
	document, err := parse(pool)
	if err != nil {
		return nil, &Fault{At: "template", Kind: "ValueError", Path: "work_pool", Message: "cannot be read: " + err.Error()}
	}
	whole, _ := document.(*object)
	t.poolName, t.poolID = textOf(whole, "name"), canonicalID(textOf(whole, "id"))
	template, _ := whole.get("base_job_template")
	return t, t.read(template)
}

// Namespaces are those that Jobs get unless job variables name another: literally
// in the job configuration, by default of a variable, or by the worker's setting.
func (t *Template) Namespaces() []string {
	if t == nil {
		return nil
	}
	named := []string{t.namespace}
	for _, from := range []*object{t.config, t.defaults} {
		if text := textOf(from, "namespace"); text != "" && !strings.Contains(text, "{") {
			named = append(named, text)
		}
	}
	return named
}

// read takes a base job template apart.
func (t *Template) read(value any) error {
	template, ok := value.(*object)
	if !ok {
		return templateFault("base_job_template", "must be an object, not %s", typeName(value))
	}
	for _, part := range []string{"job_configuration", "variables"} {
		value, ok := template.get(part)
		if !ok {
			return templateFault("base_job_template/"+part, "is required")
		}
		if !isObject(value) {
			return templateFault("base_job_template/"+part, "must be an object, not %s", typeName(value))
		}
	}
	t.config = template.vals["job_configuration"].(*object)
	t.defaults = newObject()
	properties, ok := template.vals["variables"].(*object).get("properties")
	if !ok {
		return nil
	}
	o, ok := properties.(*object)
	if !ok {
		return templateFault("base_job_template/variables/properties", "must be an object, not %s", typeName(properties))
	}
	return t.readDefaults(o)
}

// readDefaults keeps the default of each variable; the rest of its schema is the
// server's business.
func (t *Template) readDefaults(properties *object) error {
	for _, name := range properties.keys {
		attributes, ok := properties.vals[name].(*object)
		if !ok {
			return templateFault("base_job_template/variables/properties/"+name, "must be an object, not %s", typeName(properties.vals[name]))
		}
		t.declared = append(t.declared, name)
		if value, ok := attributes.get("default"); ok && (value != nil || t.rules.nullDefaults) {
			t.defaults.set(name, value)
		}
	}
	return nil
}

func templateFault(path, format string, args ...any) *Fault {
	return &Fault{At: "template", Kind: "TypeError", Path: path, Message: fmt.Sprintf(format, args...)}
}

// Render makes the Job of a run. Errors: *Missing, *Fault.
func (t *Template) Render(run Run, docs Documents) (*Job, error) {
	j, filled, err := t.fill(run, docs)
	if err != nil {
		return nil, err
	}
	return j.finish(filled)
}

// fill puts the values of all variables into the job configuration.
func (t *Template) fill(run Run, docs Documents) (_ *job, _ any, err error) {
	defer bounded(&err)
	j := &job{rules: t.rules, Template: t, suffix: run.Suffix}
	if j.run, err = document("flow_run", run.FlowRun); err != nil {
		return nil, nil, err
	}
	if j.deployment, err = document("deployment", run.Deployment); err != nil {
		return nil, nil, err
	}
	if j.flow, err = document("flow", run.Flow); err != nil {
		return nil, nil, err
	}
	if j.deployment == nil && t.rules.needDeployment {
		return nil, nil, &Fault{At: "deployment", Kind: "HTTPStatusError", Path: "flow_run/deployment_id", Message: "Prefect 2 runs no flow run without a deployment"}
	}
	for _, o := range []*object{j.run, j.deployment, j.flow} {
		canonicalIDs(o)
	}
	if err := j.belongTogether(); err != nil {
		return nil, nil, err
	}
	overrides, err := jobVariables(variablesIn(j.deployment), variablesIn(j.run))
	if err != nil {
		return nil, nil, err
	}
	template, values, err := t.merge(overrides)
	if err != nil {
		return nil, nil, err
	}
	if mixedEnv(variablesIn(j.deployment), variablesIn(j.run)) {
		j.warn("the flow run's job variable env is a list and the deployment's a mapping: the worker takes each item for a pair, and its variables are lost; write both as mappings")
	}
	resolver := references{rules: t.rules, docs: docs}
	filled, err := resolver.resolve(apply(template, values, t.environ))
	j.warnings = append(j.warnings, resolver.absent...)
	return j, filled, err
}

// finish makes the Job from the filled configuration.
func (j *job) finish(filled any) (_ *Job, err error) {
	defer bounded(&err)
	if j.config, err = j.newConfig(filled); err != nil {
		return nil, err
	}
	if err := j.prepare(); err != nil {
		return nil, err
	}
	if err := j.hideSecrets(); err != nil {
		return nil, err
	}
	checkSize(j.config.manifest)
	return j.done(), nil
}

// document parses one of a run's documents; none is nil.
func document(name string, raw json.RawMessage) (*object, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	value, err := parse(raw)
	if err != nil {
		return nil, &Fault{At: name, Kind: "ValueError", Path: name, Message: "cannot be read: " + err.Error()}
	}
	o, ok := value.(*object)
	if !ok && value != nil {
		return nil, &Fault{At: name, Kind: "ValueError", Path: name, Message: "must be an object, not " + typeName(value)}
	}
	return o, nil
}

// belongTogether refuses a deployment or a flow that is not the run's, which the
// worker would not find by the ids in the run, and one that it cannot read.
func (j *job) belongTogether() error {
	for _, one := range []struct {
		name string
		of   *object
	}{{"deployment", j.deployment}, {"flow", j.flow}} {
		want, have := textOf(j.run, one.name+"_id"), textOf(one.of, "id")
		if want != "" && have != "" && want != have {
			return &Fault{At: one.name, Kind: "ObjectNotFound", Path: "flow_run/" + one.name + "_id",
				Message: fmt.Sprintf("is %s, and the %s given is %s", want, one.name, have)}
		}
	}
	if j.infraOverrides {
		if err := renameOverrides(j.deployment); err != nil {
			return err
		}
	}
	if value, ok := j.deployment.get("job_variables"); ok && !isObject(value) {
		return &Fault{At: "deployment", Kind: "ValidationError", Path: "deployment/job_variables", Message: "must be an object, not " + typeName(value)}
	}
	return nil
}

// renameOverrides reads what servers of 2.20 send as infra_overrides and nothing
// else (seen on 2.20.25), though they take job_variables.
func renameOverrides(deployment *object) error {
	former, there := deployment.get("infra_overrides")
	if !there || former == nil {
		return nil
	}
	if now, both := deployment.get("job_variables"); both && now != nil && !equal(now, former) {
		return &Fault{At: "deployment", Kind: "ValueError", Path: "deployment/infra_overrides", Message: "differs from job_variables, which is its new name"}
	}
	deployment.set("job_variables", former)
	return nil
}

// canonicalIDs spells a document's ids as Python does after parsing them.
func canonicalIDs(o *object) {
	for _, key := range []string{"id", "flow_id", "deployment_id"} {
		if id := textOf(o, key); id != "" {
			o.set(key, canonicalID(id))
		}
	}
}

func canonicalID(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return text
}

func variablesIn(document *object) *object {
	value, _ := document.get("job_variables")
	o, _ := value.(*object)
	return o
}
