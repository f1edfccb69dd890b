package render

import (
	"fmt"
	"slices"
	"strings"
)

// job is a Job in the making: a configuration being prepared for a flow run.
type job struct {
	rules
	*Template
	config     *config
	run        *object // documents of the API
	deployment *object // nil: none
	flow       *object
	suffix     string

	container *object // the first one
	pod       *object // pod template
	secrets   []Secret
	warnings  []string
}

// prepare lists the steps in the worker's order; each depends on those before.
func (j *job) prepare() error {
	for _, step := range []func() error{
		j.own,
		j.baseEnvironment,
		j.baseLabels,
		j.nameAndCommand,
		j.evictionHandling,
		j.environmentIntoManifest,
		j.labels,
		j.annotate,
		j.image,
		j.arguments,
		j.generateName,
		j.podMetadata,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func prepareFault(at, format string, args ...any) *Fault {
	return &Fault{At: "prepare", Kind: "ValueError", Path: strings.TrimSuffix("job_configuration/job_manifest/"+at, "/"), Message: fmt.Sprintf(format, args...)}
}

// own copies the parts of the manifest that the steps write to, which so far
// belong to the template.
func (j *job) own() error {
	m := j.config.manifest
	spec := m.vals["spec"].(*object).clone() // checkManifest has seen these
	m.set("spec", spec)
	j.pod = spec.vals["template"].(*object).clone()
	spec.set("template", j.pod)
	podSpec := j.pod.vals["spec"].(*object).clone()
	j.pod.set("spec", podSpec)
	containers := append([]any{}, podSpec.vals["containers"].([]any)...)
	podSpec.set("containers", containers)
	j.container = containers[0].(*object).clone()
	containers[0] = j.container
	return nil
}

// nameAndCommand fills what the configuration leaves open.
func (j *job) nameAndCommand() error {
	c := j.config
	if c.name != "" && j.ctxInName {
		values := object1("ctx", object1("flow", j.flow.clone(), "flow_run", j.run.clone()))
		switch name := apply(c.name, values, j.environ); {
		case name == (notSet{}): // a whole name that means nothing stays
		case !truthy(name):
			c.name = ""
		default:
			c.name, c.nameValue = str(name), name
		}
	}
	if c.name == "" {
		c.name = textOf(j.run, "name")
	}
	if c.command == "" {
		c.command = j.defaultCommand()
	}
	return nil
}

// defaultCommand is what runs a flow run; Prefect 2 has an older way behind a
// setting.
func (j *job) defaultCommand() string {
	if j.lowerLabels && !settingOn(j.environ, "PREFECT_EXPERIMENTAL_ENABLE_ENHANCED_CANCELLATION", true) {
		return "python -m prefect.engine"
	}
	return "prefect flow-run execute"
}

func (j *job) metadata() *object { return j.config.manifest.vals["metadata"].(*object) }

func textsOf(value any, at string) (*object, error) {
	o, ok := value.(*object)
	if !ok {
		return newObject(), prepareFault(at, "must be an object, not %s", typeName(value))
	}
	return o, nil
}

func (j *job) annotate() error {
	if !j.annotations {
		return nil
	}
	all, err := textsOf(j.metadata().vals["annotations"], "metadata/annotations")
	if err != nil {
		return err
	}
	all = all.clone()
	all.update(j.config.annotations)
	out := newObject()
	for _, k := range all.keys {
		out.set(j.slugLabelKey(k), all.vals[k])
	}
	j.metadata().set("annotations", out)
	return nil
}

// image is the one of the worker's own Prefect and Python where the manifest has
// no such key; an image of null stays.
func (j *job) image() error {
	orSet(j.container, "image", fmt.Sprintf("prefecthq/prefect:%s-python%s", j.prefectVersion, j.pythonVersion))
	return nil
}

func (j *job) arguments() error {
	command := j.container.vals["args"]
	switch v := command.(type) {
	case []any:
		return nil
	case nil:
		command = j.defaultCommand()
	case string:
		command = v
	default:
		return prepareFault("spec/template/spec/containers/0/args", "must be a string or a list, not %s", typeName(v))
	}
	words, err := splitCommand(command.(string))
	if err != nil {
		return prepareFault("spec/template/spec/containers/0/args", "the command %q cannot be split into words: %v", command, err)
	}
	j.container.set("args", words)
	return nil
}

// generateName is filled where the template leaves nothing of it.
func (j *job) generateName() error {
	value, ok := j.metadata().get("generateName")
	if !ok {
		value = ""
	}
	if holdsNull(value) && !j.nullTemplates {
		return prepareFault("metadata/generateName", "must be a string and hold no null")
	}
	if truthy(value) && value != "-" && value != "None-" && !holdsPlaceholder(value) {
		return nil
	}
	if _, ok := j.config.nameValue.(string); j.config.nameValue != nil && !ok {
		return &Fault{At: "prepare", Kind: "TypeError", Path: "job_configuration/name",
			Message: "must come to a string, not " + typeName(j.config.nameValue) + ": name one of its values"}
	}
	j.metadata().set("generateName", orText(slugName(j.config.name), "prefect-job")+"-")
	return nil
}

func holdsNull(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	case *object:
		return slices.ContainsFunc(v.keys, func(k string) bool { return holdsNull(v.vals[k]) })
	}
	return false
}

func holdsPlaceholder(value any) bool {
	switch v := value.(type) {
	case string:
		return len(placeholders(v)) > 0
	case []any:
		return slices.ContainsFunc(v, holdsPlaceholder)
	case *object:
		return slices.ContainsFunc(v.keys, func(k string) bool { return holdsPlaceholder(v.vals[k]) })
	}
	return false
}

func (j *job) podMetadata() error {
	if !j.rules.podMetadata {
		return nil
	}
	given, ok := j.pod.get("metadata")
	if !ok {
		given = newObject()
	}
	metadata, err := textsOf(given, "spec/template/metadata")
	if err != nil {
		return err
	}
	metadata = metadata.clone()
	j.pod.set("metadata", metadata)
	if err := j.podLabels(metadata); err != nil {
		return err
	}
	annotations := j.metadata().vals["annotations"].(*object)
	if annotations.len() == 0 {
		return nil
	}
	given, ok = metadata.get("annotations")
	if !ok {
		given = newObject()
	}
	all, err := textsOf(given, "spec/template/metadata/annotations")
	if err != nil {
		return err
	}
	all = all.clone()
	all.update(annotations)
	metadata.set("annotations", all)
	return nil
}

// textOf is a string field of a document; "" if it has none.
func textOf(o *object, key string) string {
	value, _ := o.get(key)
	s, _ := value.(string)
	return s
}
