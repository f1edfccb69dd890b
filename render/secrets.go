package render

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Secret is created before the Job that refers to it.
type Secret struct {
	Name, Namespace string
	Body            []byte // JSON of the v1 Secret
	OwnedByJob      bool   // gets an owner reference to the Job once that exists

	document *object // what Body spells
}

// newSecret adds kind and metadata to the data fields of a Secret.
func newSecret(metadata *object, owned bool, field string, data *object) Secret {
	body := object1("apiVersion", "v1", "kind", "Secret", "metadata", metadata, field, data)
	return Secret{Name: textOf(metadata, "name"), Namespace: textOf(metadata, "namespace"), Body: marshal(body), OwnedByJob: owned, document: body}
}

// in is the same Secret in another namespace.
func (s Secret) in(namespace string) Secret {
	body := s.document.clone()
	metadata := body.vals["metadata"].(*object).clone()
	metadata.set("namespace", namespace)
	body.set("metadata", metadata)
	return Secret{Name: s.Name, Namespace: namespace, Body: marshal(body), OwnedByJob: s.OwnedByJob, document: body}
}

const secretPrefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_"

// legacySecret is the setting's name of Prefect 2, which 3.x takes as well.
const legacySecret = "PREFECT_KUBERNETES_WORKER_STORE_PREFECT_API_IN_SECRET"

// hideSecrets moves what the integration's settings name out of the manifest.
func (j *job) hideSecrets() error {
	if !j.secretsV3 {
		if on := strings.ToLower(strings.TrimSpace(j.environ[legacySecret])); on == "true" || on == "1" {
			return j.secretForAPIKey()
		}
		return nil
	}
	if err := j.hideAPIKey(); err != nil {
		return err
	}
	j.hideAuthString()
	if j.switchedOn(secretPrefix + "STORE_ENV_AS_SECRET") {
		return j.storeEnvironment()
	}
	return nil
}

// checkIntegration refuses settings of the integration that the worker would not
// start a Job with.
func (r rules) checkIntegration(environ map[string]string) error {
	if !r.secretsV3 {
		return nil
	}
	const retry = secretPrefix + "CREATE_JOB_RETRY_"
	for _, check := range []struct {
		kind  byte
		least int64
		names []string
	}{
		{'b', 0, []string{secretPrefix + "CREATE_SECRET_FOR_API_KEY", legacySecret}},
		{'b', 0, []string{secretPrefix + "STORE_ENV_AS_SECRET"}},
		{'b', 0, []string{secretPrefix + "ADD_TCP_KEEPALIVE", "PREFECT_KUBERNETES_WORKER_ADD_TCP_KEEPALIVE"}},
		{'i', 1, []string{retry + "MAX_RETRIES"}},
		{'i', 0, []string{retry + "DELAY_SECONDS"}},
		{'i', 0, []string{retry + "JITTER_MIN_SECONDS"}},
		{'i', 0, []string{retry + "JITTER_MAX_SECONDS"}},
	} {
		value, given := integration(environ, check.names...)
		if !given {
			continue
		}
		text, err := setting{kind: check.kind}.spell(value, false)
		if n, ok := pythonInt(text); err == nil && ok && n.Cmp(big.NewInt(check.least)) < 0 {
			err = fmt.Errorf("must be at least %d", check.least)
		}
		if err != nil {
			return &Fault{At: "settings", Kind: "ValidationError", Path: check.names[0], Message: err.Error()}
		}
	}
	return nil
}

func (j *job) switchedOn(names ...string) bool {
	value, _ := integration(j.environ, names...)
	return booleans[strings.ToLower(strings.TrimSpace(value))]
}

func (j *job) hideAPIKey() error {
	name, _ := integration(j.environ, secretPrefix+"API_KEY_SECRET_NAME")
	key, _ := integration(j.environ, secretPrefix+"API_KEY_SECRET_KEY")
	switch {
	case name != "" && key != "":
		j.refer("PREFECT_API_KEY", name, key)
	case name != "":
		j.warn("PREFECT_API_KEY stays in clear text: %sAPI_KEY_SECRET_NAME is set, and %sAPI_KEY_SECRET_KEY is not", secretPrefix, secretPrefix)
	case j.switchedOn(secretPrefix+"CREATE_SECRET_FOR_API_KEY", legacySecret):
		return j.secretForAPIKey()
	}
	return nil
}

func (j *job) hideAuthString() {
	name, _ := integration(j.environ, secretPrefix+"API_AUTH_STRING_SECRET_NAME")
	key, _ := integration(j.environ, secretPrefix+"API_AUTH_STRING_SECRET_KEY")
	if name != "" && key != "" {
		j.refer("PREFECT_API_AUTH_STRING", name, key)
		return
	}
	if j.plainValue("PREFECT_API_AUTH_STRING") != "" {
		j.warn("PREFECT_API_AUTH_STRING stands in the Job in clear text: set %sAPI_AUTH_STRING_SECRET_NAME and _KEY", secretPrefix)
	}
}

func (j *job) warn(format string, args ...any) {
	j.warnings = append(j.warnings, fmt.Sprintf(format, args...))
}

func (j *job) variables() []any {
	list, _ := j.container.vals["env"].([]any)
	return list
}

// plainValue is the text of the first variable of that name.
func (j *job) plainValue(name string) string {
	for _, item := range j.variables() {
		if variable, ok := item.(*object); ok && textOf(variable, "name") == name {
			return textOf(variable, "value")
		}
	}
	return ""
}

// refer replaces a variable that is there by a reference to a key of a Secret.
func (j *job) refer(variable, secret, key string) {
	reference := object1("name", variable, "valueFrom", object1("secretKeyRef", object1("name", secret, "key", key)))
	list := slices.Clone(j.variables())
	for i, item := range list {
		if o, ok := item.(*object); ok && textOf(o, "name") == variable {
			list[i] = reference
		}
	}
	j.container.set("env", list)
}

// secretForAPIKey puts the key into a Secret of the worker's name, shared by its
// Jobs.
func (j *job) secretForAPIKey() error {
	value := j.plainValue("PREFECT_API_KEY")
	if value == "" {
		return nil
	}
	name := "prefect-" + orText(slugName(j.workerName), "None") + "-api-key"
	data := object1("value", base64.StdEncoding.EncodeToString([]byte(value)))
	j.secrets = append(j.secrets, newSecret(object1("name", name, "namespace", j.config.namespace), false, "data", data))
	j.refer("PREFECT_API_KEY", name, "value")
	return nil
}

// storeEnvironment moves all plain variables into a Secret of the Job's own.
func (j *job) storeEnvironment() error {
	plain := newObject()
	kept := []any{}
	for _, item := range j.variables() {
		variable, ok := item.(*object)
		if !ok {
			continue
		}
		name := textOf(variable, "name")
		value, hasValue := variable.get("value")
		if _, ok := variable.get("valueFrom"); ok {
			kept = append(kept, variable)
		} else if hasValue && name != "" {
			plain.set(name, value)
		}
	}
	if plain.len() == 0 {
		return nil
	}
	existing, ok := j.container.get("envFrom")
	if !ok {
		existing = []any{}
	}
	list, ok := existing.([]any)
	if !ok {
		return &Fault{At: "submit", Kind: "TypeError", Path: "job_configuration/job_manifest/spec/template/spec/containers/0/envFrom",
			Message: "must be a list, not " + typeName(existing)}
	}
	if generated := j.metadata().vals["generateName"]; typeName(generated) != "a string" {
		return &Fault{At: "submit", Kind: "AttributeError", Path: "job_configuration/job_manifest/metadata/generateName",
			Message: "must be a string for the name of a Secret, not " + typeName(generated)}
	}
	name := strings.TrimRight(j.generated(), "-") + "-env-" + j.suffix
	labels := object1("app.kubernetes.io/managed-by", "prefect")
	if id, ok := j.metadata().vals["labels"].(*object).get("prefect.io/flow-run-id"); ok {
		labels.set("prefect.io/flow-run-id", id)
	}
	metadata := object1("name", name, "namespace", j.config.namespace, "labels", labels)
	j.secrets = append(j.secrets, newSecret(metadata, true, "stringData", plain))
	j.container.set("env", kept)
	j.container.set("envFrom", append(slices.Clone(list), object1("secretRef", object1("name", name))))
	return nil
}

func (j *job) generated() string { return textOf(j.metadata(), "generateName") }
