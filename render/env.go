package render

import (
	"fmt"
	"slices"
)

const sigtermVariable = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"

// baseEnvironment puts what every flow run gets before the configured variables,
// which win and keep the first's place. Null takes a variable away.
func (j *job) baseEnvironment() error {
	var special []any
	configured, isMapping := j.config.env.(*object)
	if !isMapping {
		if !j.listEnv {
			return &Fault{At: "prepare", Kind: "TypeError", Path: "job_configuration/env",
				Message: "must be an object of names and values for Prefect 2, not a list"}
		}
		var err error
		if configured, special, err = splitVariables(j.config.env.([]any)); err != nil {
			return err
		}
	}
	env := j.settingsEnvironment.clone()
	env.set("PREFECT__FLOW_RUN_ID", textOf(j.run, "id"))
	if j.attribution {
		j.attribute(env)
	}
	env.update(configured)
	kept := newObject()
	for _, name := range env.keys {
		if value := env.vals[name]; value != nil {
			kept.set(name, value)
		}
	}
	j.config.env = kept
	if len(special) > 0 {
		j.config.env = append(variablesOf(kept), special...)
	}
	return nil
}

// splitVariables takes a list of Kubernetes variables apart: plain ones, and those
// with valueFrom. Those with neither are left out here.
func splitVariables(list []any) (*object, []any, error) {
	plain := newObject()
	var special []any
	for _, item := range list {
		variable := item.(*object) // the configuration's validation has seen it
		if _, ok := variable.get("valueFrom"); ok {
			special = append(special, variable)
		}
		name, hasName := variable.get("name")
		value, hasValue := variable.get("value")
		if !hasName || !hasValue {
			continue
		}
		text, ok := name.(string)
		if !ok {
			return nil, nil, &Fault{At: "prepare", Kind: "TypeError", Path: "job_configuration/env",
				Message: fmt.Sprintf("the name of a variable must be a string, not %s", typeName(name))}
		}
		plain.set(text, value)
	}
	return plain, special, nil
}

// attribute tells the flow run's process whom it works for.
func (j *job) attribute(env *object) {
	for _, v := range []struct {
		name  string
		value string
	}{
		{"PREFECT__WORKER_NAME", j.workerName},
		{"PREFECT__FLOW_ID", textOf(j.run, "flow_id")},
		{"PREFECT__FLOW_NAME", textOf(j.flow, "name")},
		{"PREFECT__DEPLOYMENT_ID", textOf(j.run, "deployment_id")},
		{"PREFECT__DEPLOYMENT_NAME", textOf(j.deployment, "name")},
	} {
		if v.value != "" {
			env.set(v.name, v.value)
		}
	}
}

func variablesOf(env *object) []any {
	list := make([]any, 0, env.len())
	for _, name := range env.keys {
		list = append(list, object1("name", name, "value", env.vals[name]))
	}
	return list
}

// evictionHandling tells the flow run's process what to do on SIGTERM: when
// Kubernetes does not retry the pod, give the run back to Prefect; when it does,
// leave the run to it, whatever the user set.
func (j *job) evictionHandling() error {
	if !j.sigterm {
		return nil
	}
	limit, _ := j.config.manifest.vals["spec"].(*object).get("backoffLimit")
	reschedule := limit != nil && equal(limit, number("0"))
	if env, ok := j.config.env.(*object); ok {
		if !reschedule {
			env.set(sigtermVariable, "relinquish")
		} else if !truthy(env.vals[sigtermVariable]) {
			env.set(sigtermVariable, "reschedule")
		}
		return nil
	}
	list := j.config.env.([]any)
	isSigterm := func(v any) bool { return equal(v.(*object).vals["name"], sigtermVariable) }
	switch {
	case !reschedule:
		list = append(slices.DeleteFunc(list, isSigterm), object1("name", sigtermVariable, "value", "relinquish"))
	case !slices.ContainsFunc(list, isSigterm):
		list = append(list, object1("name", sigtermVariable, "value", "reschedule"))
	}
	j.config.env = list
	return nil
}

// environmentIntoManifest writes the variables into the first container. A list
// that stands there already, hard-coded or put in by {{ env }}, follows ours.
func (j *job) environmentIntoManifest() error {
	ours, ok := j.config.env.([]any)
	if !ok {
		ours = variablesOf(j.config.env.(*object))
	}
	theirs, ok := j.container.vals["env"].([]any)
	if !ok {
		j.container.set("env", ours)
		return nil
	}
	names, err := variableNames(ours)
	if err != nil {
		return err
	}
	all := slices.Clone(ours)
	for i, item := range theirs {
		variable, ok := item.(*object)
		switch {
		case !j.keepListEnv:
			all = append(all, item)
			continue
		case !ok:
			return prepareFault(fmt.Sprintf("spec/template/spec/containers/0/env/%d", i), "must be an object with name and value or valueFrom, not %s", typeName(item))
		}
		if isList(variable.vals["name"]) || isObject(variable.vals["name"]) {
			return unhashable(fmt.Sprintf("job_manifest/spec/template/spec/containers/0/env/%d", i), variable.vals["name"])
		}
		if name, ok := variable.vals["name"].(string); !ok || !names[name] {
			all = append(all, item)
		}
	}
	j.container.set("env", all)
	return nil
}

func variableNames(list []any) (map[string]bool, error) {
	names := map[string]bool{}
	for i, item := range list {
		name, ok := item.(*object).get("name")
		if !ok {
			return nil, &Fault{At: "prepare", Kind: "KeyError", Path: fmt.Sprintf("job_configuration/env/%d", i), Message: "has no name"}
		}
		if isList(name) || isObject(name) {
			return nil, unhashable(fmt.Sprintf("env/%d", i), name)
		}
		if text, ok := name.(string); ok {
			names[text] = true
		}
	}
	return names, nil
}

// unhashable: the worker keeps the names of variables in a set.
func unhashable(at string, name any) *Fault {
	return &Fault{At: "prepare", Kind: "TypeError", Path: "job_configuration/" + at + "/name", Message: "must be a string, not " + typeName(name)}
}
