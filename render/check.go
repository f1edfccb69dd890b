package render

import (
	"fmt"
	"regexp"
	"strings"
)

// Check looks at a rendered Job for what the Kubernetes API server is certain to
// refuse, so that a dispatcher can say so before any effect. It changes nothing:
// the manifest stays the worker's.
func (j *Job) Check() error {
	for _, check := range []func() *Fault{j.checkName, j.checkNamespace, j.checkEnv, j.checkSecrets} {
		if fault := check(); fault != nil {
			return fault
		}
	}
	return nil
}

func refusal(path, format string, args ...any) *Fault {
	return &Fault{At: "check", Kind: "Refused", Path: "job_configuration/job_manifest/" + path,
		Message: fmt.Sprintf(format, args...) + ": the Kubernetes API server refuses such a Job"}
}

// A generateName begins a DNS subdomain (RFC 1123), which the hash completes.
var nameStart = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*(\.[a-z0-9][-a-z0-9]*)*)?$`)

func (j *Job) checkName() *Fault {
	value := j.manifest.vals["metadata"].(*object).vals["generateName"]
	name, ok := value.(string)
	if !ok {
		return refusal("metadata/generateName", "must be a string, not %s", typeName(value))
	}
	if !nameStart.MatchString(name) {
		return refusal("metadata/generateName", "%q may hold only a-z, 0-9, - and ., and begin with a letter or digit", name)
	}
	return nil
}

func (j *Job) checkNamespace() *Fault {
	value := j.manifest.vals["metadata"].(*object).vals["namespace"]
	if value == nil || value == "" || value == j.Namespace {
		return nil
	}
	return refusal("metadata/namespace", "is %s, and the Job goes to the namespace %q that job_configuration/namespace names", reprOf(value), j.Namespace)
}

// checkEnv looks at the variables of every container.
func (j *Job) checkEnv() *Fault {
	for path, list := range j.environments() {
		for i, item := range list {
			variable, ok := item.(*object)
			if !ok {
				return refusal(fmt.Sprintf("%s/%d", path, i), "must be an object, not %s", typeName(item))
			}
			value, from := variable.vals["value"], variable.vals["valueFrom"]
			if truthy(value) && from != nil {
				return refusal(fmt.Sprintf("%s/%d", path, i), "the variable %q has both value and valueFrom; leave one out", textOf(variable, "name"))
			}
		}
	}
	return nil
}

// environments are the env lists of the pod's containers, by path.
func (j *Job) environments() map[string][]any {
	found := map[string][]any{}
	for _, kind := range []string{"initContainers", "containers"} {
		containers, _ := j.podSpec().vals[kind].([]any)
		for i, item := range containers {
			container, _ := item.(*object)
			value, _ := container.get("env")
			if list, ok := value.([]any); ok {
				found[fmt.Sprintf("spec/template/spec/%s/%d/env", kind, i)] = list
			}
		}
	}
	return found
}

// podSpec was seen by checkManifest.
func (j *Job) podSpec() *object {
	spec := j.manifest.vals["spec"].(*object)
	return spec.vals["template"].(*object).vals["spec"].(*object)
}

var secretName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

func (j *Job) checkSecrets() *Fault {
	for _, s := range j.Secrets {
		if !secretName.MatchString(s.Name) || len(s.Name) > 253 || strings.Contains(s.Name, "..") {
			return refusal("metadata/generateName", "makes %q the name of the Secret for the environment, which is none", s.Name)
		}
	}
	return nil
}
