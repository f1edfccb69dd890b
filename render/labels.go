package render

import (
	"strings"
	"time"
)

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
