package render

import (
	"fmt"
	"slices"
	"strings"
	"time"
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

func (j *job) labels() error {
	all, err := textsOf(j.metadata().vals["labels"], "metadata/labels")
	if err != nil {
		return err
	}
	all = all.clone()
	all.update(j.config.labels)
	slugged, err := j.slugLabels(all, "metadata/labels")
	j.metadata().set("labels", slugged)
	return err
}

func (j *job) slugLabels(labels *object, at string) (*object, error) {
	out := newObject()
	for _, k := range labels.keys {
		value, ok := labels.vals[k].(string)
		if !ok {
			return out, prepareFault(at+"/"+k, "a label must be a string, not %s", typeName(labels.vals[k]))
		}
		out.set(j.slugLabelKey(k), j.slugLabelValue(value))
	}
	return out, nil
}

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

func (j *job) podLabels(metadata *object) error {
	given, ok := metadata.get("labels")
	if !ok {
		given = newObject()
	}
	all, err := textsOf(given, "spec/template/metadata/labels")
	if err != nil {
		return err
	}
	all = all.clone()
	all.update(j.config.labels)
	slugged, err := j.slugLabels(all, "spec/template/metadata/labels")
	metadata.set("labels", slugged)
	return err
}

// baseLabels come before the configured ones, which win.
func (j *job) baseLabels() error {
	labels := object1(
		"prefect.io/flow-run-id", textOf(j.run, "id"),
		"prefect.io/flow-run-name", textOf(j.run, "name"),
	)
	version := j.prefectVersion
	if j.appLabels {
		short, _, _ := strings.Cut(version, "+")
		version = j.slugLabelValue(short)
		labels.update(object1(
			"prefect.io/version", version,
			"app.kubernetes.io/managed-by", "prefect",
			"app.kubernetes.io/part-of", "prefect",
			"app.kubernetes.io/version", version,
		))
	} else {
		short, _, _ := strings.Cut(version, "+")
		labels.set("prefect.io/version", j.slugLabelValue(short))
	}
	if j.poolLabels {
		labels.set("prefect.io/work-pool-name", j.poolName)
		labels.set("prefect.io/work-pool-id", j.poolID)
		labels.set("prefect.io/worker-name", j.workerName)
	}
	if j.isoformat {
		j.flowLabels(labels)
		j.deploymentLabels(labels)
	} else {
		j.deploymentLabels(labels)
		j.flowLabels(labels)
	}
	labels.update(j.config.labels)
	j.config.labels = labels
	return nil
}

func (j *job) flowLabels(labels *object) {
	if j.flow == nil {
		return
	}
	labels.set("prefect.io/flow-id", textOf(j.flow, "id"))
	labels.set("prefect.io/flow-name", textOf(j.flow, "name"))
	if j.appLabels {
		labels.set("app.kubernetes.io/name", j.slugLabelValue(textOf(j.flow, "name")))
	}
}

func (j *job) deploymentLabels(labels *object) {
	if j.deployment == nil {
		return
	}
	labels.set("prefect.io/deployment-id", textOf(j.deployment, "id"))
	labels.set("prefect.io/deployment-name", textOf(j.deployment, "name"))
	if updated := textOf(j.deployment, "updated"); updated != "" {
		labels.set("prefect.io/deployment-updated", j.updated(updated))
	}
	if j.appLabels {
		labels.set("app.kubernetes.io/name", j.slugLabelValue(textOf(j.deployment, "name")))
	}
}

// timeLayouts are the spellings of a time that the worker's models read; a fraction
// of a second may follow in each. A time without a zone is UTC.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05",
	"2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700", "2006-01-02T15:04", time.DateOnly,
}

// updated spells a time in UTC as the worker's version does; microseconds are
// left out when they are zero.
func (j *job) updated(text string) string {
	at, ok := parseTime(strings.Replace(text, " ", "T", 1))
	if !ok {
		return text
	}
	layout := "2006-01-02T15:04:05"
	if at.Nanosecond()/1000 != 0 {
		layout += ".000000"
	}
	zone := "Z"
	if j.isoformat {
		zone = "+00:00"
	}
	return at.UTC().Format(layout) + zone
}

func parseTime(text string) (time.Time, bool) {
	for _, layout := range timeLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// textOf is a string field of a document; "" if it has none.
func textOf(o *object, key string) string {
	value, _ := o.get(key)
	s, _ := value.(string)
	return s
}
