package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"slipway/dispatch"
	"slipway/internal/redact"
	"slipway/render"
)

// offlineCase is a file that `slipway render --file` reads: documents as the Prefect
// API sends them. All but a base job template may be left out.
type offlineCase struct {
	WorkPool        json.RawMessage   `json:"work_pool"`
	BaseJobTemplate json.RawMessage   `json:"base_job_template"` // in place of work_pool
	Deployment      json.RawMessage   `json:"deployment"`
	FlowRun         json.RawMessage   `json:"flow_run"`
	Flow            json.RawMessage   `json:"flow"`
	Settings        map[string]string `json:"settings"` // environment of the dispatcher; left out: that of this process

	BlocksByName map[string]json.RawMessage `json:"blocks"`     // "type-slug/name" -> block document
	BlocksByID   map[string]json.RawMessage `json:"block_ids"`  // id -> block document
	Variables    map[string]json.RawMessage `json:"variables"`  // name -> value
	Input        *offlineCase               `json:"input"`      // the same, one level deeper
	Prefect      string                     `json:"prefect"`    // version, for labels and the default image
	WorkerName   string                     `json:"workerName"` // left out: slipway
}

// read gathers a case from the files that the flags name.
func (r renderFlags) read() (*offlineCase, error) {
	var c offlineCase
	if r.file != "" {
		if err := readYAML(r.file, &c); err != nil {
			return nil, err
		}
		if c.Input != nil {
			c.Input.Settings = c.Settings
			c = *c.Input
		}
		return &c, nil
	}
	if err := readYAML(r.template, &c.BaseJobTemplate); err != nil {
		return nil, err
	}
	if r.variables == "" {
		return &c, nil
	}
	var variables json.RawMessage
	if err := readYAML(r.variables, &variables); err != nil {
		return nil, err
	}
	var err error
	c.Deployment, err = json.Marshal(map[string]any{"id": example, "name": "example", "job_variables": variables})
	return &c, err
}

// readYAML reads YAML or JSON, which is YAML too; the file's name is in its errors.
func readYAML(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if json.Valid(data) { // keeps the order of keys, which YAML's reader does not
		err = json.Unmarshal(data, into)
	} else {
		err = yaml.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

const example = "00000000-0000-0000-0000-000000000000"

// complete fills in documents that were left out.
func (c *offlineCase) complete() error {
	if len(c.WorkPool) == 0 {
		if len(c.BaseJobTemplate) == 0 {
			return errors.New("the file has neither work_pool nor base_job_template")
		}
		pool, err := json.Marshal(map[string]any{"id": example, "name": "example", "type": "kubernetes", "base_job_template": c.BaseJobTemplate})
		if err != nil {
			return err
		}
		c.WorkPool = pool
	}
	if len(c.FlowRun) == 0 {
		c.FlowRun = json.RawMessage(`{"id":"` + example + `","name":"example","flow_id":"` + example + `"}`)
	}
	if len(c.Deployment) == 0 {
		c.Deployment = json.RawMessage(`{"id":"` + example + `","name":"example","job_variables":{}}`)
	}
	if len(c.Flow) == 0 {
		c.Flow = json.RawMessage(`{"id":"` + example + `","name":"example"}`)
	}
	if c.Settings == nil {
		c.Settings = environ()
	}
	return nil
}

// inspect renders the case as a version's worker would; "" is Prefect 3's. The
// redactor learns the secrets of the case first: a fault may quote them.
func (c *offlineCase) inspect(as string, redactor *redact.Redactor) (*dispatch.Inspection, error) {
	if err := c.complete(); err != nil {
		return nil, &usageError{err.Error()}
	}
	c.teach(redactor)
	options := render.Options{
		As: render.V3, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "slipway", Environ: c.Settings,
		Namespace: c.Settings["SLIPWAY_NAMESPACE"],
	}
	switch render.Version(as) {
	case "", render.V3:
	case render.V2:
		options.As, options.PrefectVersion = render.V2, "2.20.25"
	default:
		return nil, &usageError{"SLIPWAY_RENDER_AS must be one of 3 2.20"}
	}
	if c.Prefect != "" {
		options.PrefectVersion = c.Prefect
	}
	if c.WorkerName != "" {
		options.WorkerName = c.WorkerName
	}
	template, err := render.Parse(c.WorkPool, options)
	if err != nil {
		return nil, err
	}
	run := render.Run{FlowRun: c.FlowRun, Deployment: c.Deployment, Flow: c.Flow, Suffix: "00000000"}
	documents := render.Documents{BlocksByName: c.BlocksByName, BlocksByID: c.BlocksByID, Variables: c.Variables}
	job, err := template.Render(run, documents)
	var missing *render.Missing
	if errors.As(err, &missing) {
		return nil, &usageError{"offline, the file must hold what the template refers to: " + missing.Error()}
	}
	if err != nil {
		return nil, err
	}
	i := &dispatch.Inspection{Job: job, Manifest: job.Manifest(render.Identity{})}
	if i.Origins, err = template.Explain(run, documents); err != nil {
		return nil, err
	}
	i.Findings, err = template.Lint(run, documents)
	return i, err
}

// teach tells the redactor the secrets of the case: those of its settings, which the
// Job's environment holds, and of its blocks.
func (c *offlineCase) teach(redactor *redact.Redactor) {
	redactor.Keep(c.Settings["PREFECT_API_KEY"])
	redactor.Keep(authSecrets(c.Settings["PREFECT_API_AUTH_STRING"])...)
	for _, blocks := range []map[string]json.RawMessage{c.BlocksByName, c.BlocksByID} {
		for _, block := range blocks {
			redactor.LearnBlock(block)
		}
	}
}
