package render

import (
	"encoding/json"
	"errors"
	"testing"
)

var vectorVersions = map[string]Version{"3.8.8": V3, "2.20.25": V2}

// eachVector runs the lines of a vector file, for each version that they speak of.
func eachVector(t *testing.T, file string, try func(line *object, as Version) (any, error)) {
	t.Helper()
	checked := 0
	for _, line := range lines(t, file) {
		for name, as := range vectorVersions {
			want, ok := line.vals["want"].(*object).vals[name].(*object)
			if !ok {
				continue
			}
			checked++
			got, err := try(line, as)
			value, hasValue := want.get("value")
			_, removed := want.get("notset")
			switch {
			case removed:
				if got != (notSet{}) {
					t.Errorf("%s %s: got %v, want it removed", name, textOf(line, "id"), got)
				}
			case !hasValue && err == nil:
				t.Errorf("%s %s: got %s, want the error %s", name, textOf(line, "id"), marshal(got), marshal(want))
			case hasValue && err != nil:
				t.Errorf("%s %s: %v, want %s", name, textOf(line, "id"), err, marshal(value))
			case hasValue && !same(got, value):
				t.Errorf("%s %s: %s", name, textOf(line, "id"), difference("", got, value))
			}
		}
	}
	if checked == 0 {
		t.Fatalf("%s holds no vector", file)
	}
	t.Logf("%s: %d vectors", file, checked)
}

func environOf(line *object) map[string]string {
	environ := map[string]string{}
	if o, ok := line.vals["environ"].(*object); ok {
		for _, k := range o.keys {
			environ[k] = textOf(o, k)
		}
	}
	return environ
}

func TestSlugVectors(t *testing.T) {
	eachVector(t, "slugify.jsonl", func(line *object, as Version) (any, error) {
		in := textOf(line, "in")
		switch textOf(line, "fn") {
		case "label_key":
			return versions[as].slugLabelKey(in), nil
		case "label_value":
			return versions[as].slugLabelValue(in), nil
		}
		if s := slugName(in); s != "" {
			return s, nil
		}
		return nil, nil
	})
}

func TestApplyVectors(t *testing.T) {
	eachVector(t, "apply-values.jsonl", func(line *object, _ Version) (any, error) {
		return apply(line.vals["template"], line.vals["values"].(*object), environOf(line)), nil
	})
}

func TestCommandVectors(t *testing.T) {
	eachVector(t, "command.jsonl", func(line *object, _ Version) (any, error) {
		return splitCommand(textOf(line, "in"))
	})
}

func TestSettingsVectors(t *testing.T) {
	eachVector(t, "settings-env.jsonl", func(line *object, as Version) (any, error) {
		env, err := versions[as].settingsEnv(environOf(line))
		if err != nil {
			return nil, err
		}
		return variablesOf(env), nil
	})
}

func TestReferenceVectors(t *testing.T) {
	eachVector(t, "references.jsonl", func(line *object, as Version) (any, error) {
		server := serverDocuments(line, as)
		have := Documents{BlocksByName: map[string]json.RawMessage{}, BlocksByID: map[string]json.RawMessage{}, Variables: map[string]json.RawMessage{}}
		for {
			r := references{rules: versions[as], docs: have}
			got, err := r.resolve(line.vals["template"])
			var missing *Missing
			if !errors.As(err, &missing) {
				return got, err
			}
			for _, n := range missing.BlocksByName {
				have.BlocksByName[n] = server.BlocksByName[n]
			}
			for _, n := range missing.BlocksByID {
				have.BlocksByID[n] = server.BlocksByID[n]
			}
			for _, n := range missing.Variables {
				have.Variables[n] = server.Variables[n]
			}
		}
	})
}

func TestEnvMergeVectors(t *testing.T) {
	eachVector(t, "env-merge.jsonl", func(line *object, as Version) (any, error) {
		pool := object1("name", "p", "id", "i", "base_job_template", line.vals["base_job_template"])
		template, err := Parse(marshal(pool), Options{As: as, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "w", Environ: environOf(line)})
		if err != nil {
			return nil, err
		}
		config, values, err := template.merge(line.vals["values"].(*object))
		if err != nil {
			return nil, err
		}
		r := references{rules: template.rules}
		filled, err := r.resolve(apply(config, values, template.environ))
		if err != nil {
			return nil, err
		}
		c, err := template.newConfig(filled)
		if err != nil {
			return nil, err
		}
		kind, env := "list", c.env
		if o, ok := c.env.(*object); ok {
			kind, env = "dict", pairsOf(o)
		}
		podSpec := c.manifest.vals["spec"].(*object).vals["template"].(*object).vals["spec"].(*object)
		return object1("env", env, "env_kind", kind, "container", podSpec.vals["containers"].([]any)[0]), nil
	})
}

// pairsOf is a mapping as the vectors write it.
func pairsOf(o *object) []any { return variablesOf(o) }

// TestJobNameVectors: generateName follows from the template, the configuration's
// name, and the flow run's.
func TestJobNameVectors(t *testing.T) {
	eachVector(t, "job-names.jsonl", func(line *object, as Version) (any, error) {
		manifest := object1("apiVersion", "batch/v1", "kind", "Job", "spec", object1("template", object1("spec", object1(
			"restartPolicy", "Never", "completions", number("1"), "parallelism", number("1"), "containers", []any{object1("name", "prefect-job")}))))
		pool := object1("name", "p", "id", "i", "base_job_template", object1("variables", newObject(), "job_configuration", object1("job_manifest", manifest)))
		version := map[Version]string{V3: "3.8.8", V2: "2.20.25"}[as]
		template, err := Parse(marshal(pool), Options{As: as, PrefectVersion: version, PythonVersion: "3.11", WorkerName: "w"})
		if err != nil {
			return nil, err
		}
		run := Run{FlowRun: marshal(line.vals["flow_run"]), Flow: marshal(line.vals["flow"]), Deployment: []byte(`{"name":"d","job_variables":{}}`)}
		j, filled, err := template.fill(run, Documents{})
		if err != nil {
			return nil, err
		}
		// The vectors begin after the templates were filled.
		if name, ok := line.get("name"); ok {
			filled.(*object).set("name", name)
		}
		if name, ok := line.get("generateName"); ok {
			filled.(*object).vals["job_manifest"].(*object).set("metadata", object1("generateName", name))
		}
		job, err := j.finish(filled)
		if err != nil {
			return nil, err
		}
		return object1("generateName", job.manifest.vals["metadata"].(*object).vals["generateName"], "name", job.config.name), nil
	})
}
