package render

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Finding is something in a template, in job variables or in a Job that works and
// is likely not meant.
type Finding struct {
	Path    string
	Message string
}

// Lint looks at the Job of a run and at all that it is made of. Errors are those
// of Render.
func (t *Template) Lint(run Run, docs Documents) ([]Finding, error) {
	j, filled, err := t.fill(run, docs)
	if err != nil {
		return nil, err
	}
	done, err := j.finish(filled)
	if err != nil {
		return nil, err
	}
	l := &linter{}
	l.variables(t, j)
	for _, warning := range done.warnings {
		l.say("", "%s", warning)
	}
	var fault *Fault
	if errors.As(done.Check(), &fault) {
		l.say(fault.Path, "%s", fault.Message)
	}
	l.pod(done)
	return l.findings, nil
}

type linter struct{ findings []Finding }

func (l *linter) say(path, format string, args ...any) {
	l.findings = append(l.findings, Finding{Path: path, Message: fmt.Sprintf(format, args...)})
}

// variables compares those that are declared, used and given.
func (l *linter) variables(t *Template, j *job) {
	used := map[string]bool{"env": true} // laid over job_configuration/env without a placeholder
	collect(t.config, used)
	for _, name := range t.declared {
		if !used[name] {
			l.say("base_job_template/variables/properties/"+name, "is declared, and the job configuration does not use it")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if name != "env" && !slices.Contains(t.declared, name) {
			l.say("base_job_template/job_configuration", "names the variable %q, which variables/properties does not declare", name)
		}
	}
	for _, level := range []struct {
		of     string
		values *object
	}{{"deployment", variablesIn(j.deployment)}, {"flow_run", variablesIn(j.run)}} {
		if level.values == nil {
			continue
		}
		for _, key := range level.values.keys {
			if name := rootOf(key); !used[name] {
				l.say(level.of+"/job_variables/"+key, "has no effect: the base job template does not use %q", name)
			}
		}
	}
}

// collect gathers the variables that a template names.
func collect(value any, into map[string]bool) {
	switch v := value.(type) {
	case string:
		for _, name := range variablesOfText(v) {
			into[name] = true
		}
	case []any:
		for _, item := range v {
			collect(item, into)
		}
	case *object:
		for _, key := range v.keys {
			collect(v.vals[key], into)
		}
	}
}

// pod looks at the containers.
func (l *linter) pod(j *Job) {
	containers, _ := j.podSpec().vals["containers"].([]any)
	for i, item := range containers {
		container, _ := item.(*object)
		path := fmt.Sprintf("job_configuration/job_manifest/spec/template/spec/containers/%d", i)
		l.image(path, container)
		if resources, _ := container.get("resources"); !truthy(resources) {
			l.say(path+"/resources", "are not set: the pod gets the namespace's defaults, or whatever the node has left")
		}
	}
	environments := j.environments()
	for _, path := range slices.Sorted(maps.Keys(environments)) {
		for i, item := range environments[path] {
			variable, _ := item.(*object)
			if name := textOf(variable, "name"); secretLooking.MatchString(name) && truthy(variable.vals["value"]) {
				l.say(fmt.Sprintf("job_configuration/job_manifest/%s/%d", path, i), "%s stands in the Job in clear text: use valueFrom with a Secret", name)
			}
		}
	}
}

var secretLooking = regexp.MustCompile(`(?i)(password|passwd|secret|token|api_?key|access_?key|private_?key|auth_string|credential)`)

func (l *linter) image(path string, container *object) {
	image := textOf(container, "image")
	last := image[strings.LastIndex(image, "/")+1:]
	if strings.Contains(last, "@") {
		return
	}
	_, tag, tagged := strings.Cut(last, ":")
	if policy := textOf(container, "imagePullPolicy"); (!tagged || tag == "latest") && policy == "IfNotPresent" {
		l.say(path+"/image", "%q has the tag latest and the pull policy IfNotPresent: nodes go on running the image they pulled first", image)
	}
}
