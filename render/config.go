package render

import (
	"fmt"
	"math/big"
	"strings"

	"sigs.k8s.io/yaml"
)

// config is the filled job configuration, its fields checked and of their type.
type config struct {
	command, name string // "": none
	nameValue     any    // what a whole placeholder put into name; nil: nothing
	namespace     string
	env           any     // *object of text or nil, or a list of Kubernetes variables
	labels        *object // of text
	annotations   *object // of text
	manifest      *object
	cluster       *object // config (object), context_name; nil: none
	jobWatch      any     // number or nil
	podWatch      any     // number
	streamOutput  bool
}

// fields reads the fields of a configuration and keeps the first fault.
type fields struct {
	rules rules
	from  *object
	fault *Fault
}

// newConfig reads a filled configuration. Unknown keys are ignored.
func (t *Template) newConfig(filled any) (*config, error) {
	o, ok := filled.(*object)
	if !ok {
		return nil, &Fault{At: "template", Kind: "TypeError", Path: "job_configuration", Message: "must be an object, not " + typeName(filled)}
	}
	f := &fields{rules: t.rules, from: o}
	c := &config{
		command:      f.text("command", ""),
		env:          f.env(),
		labels:       f.texts("labels"),
		name:         f.text("name", ""),
		namespace:    f.required("namespace", t.namespace),
		manifest:     f.manifest(),
		cluster:      f.cluster(),
		jobWatch:     f.integer("job_watch_timeout_seconds", nil, true),
		podWatch:     f.integer("pod_watch_timeout_seconds", number("60"), false),
		streamOutput: f.boolean("stream_output", true),
		annotations:  newObject(),
	}
	if t.rules.annotations {
		c.annotations = f.texts("annotations")
	}
	if f.fault != nil {
		return nil, f.fault
	}
	checkSize(c.manifest) // what follows walks and compares it
	return c, t.checkManifest(c)
}

func (f *fields) wrong(field string, value any, expected string) {
	if f.fault == nil {
		f.fault = &Fault{At: "validate", Kind: "ValidationError", Path: "job_configuration/" + field,
			Message: fmt.Sprintf("must be %s, not %s", expected, typeName(value))}
	}
}

// asText validates one string.
func (f *fields) asText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool, number:
		return str(v), f.rules.laxStrings
	}
	return "", false
}

// text is a string or null.
func (f *fields) text(field, otherwise string) string {
	value, ok := f.from.get(field)
	if !ok {
		return otherwise
	}
	if value == nil {
		return ""
	}
	s, ok := f.asText(value)
	if !ok {
		f.wrong(field, value, "a string or null")
	}
	return s
}

// required is a string that may not be null.
func (f *fields) required(field, otherwise string) string {
	value, ok := f.from.get(field)
	if ok && value == nil {
		f.wrong(field, value, "a string")
	}
	return f.text(field, otherwise)
}

// mapping is an object; pydantic 1 takes a list of pairs for one.
func (f *fields) mapping(value any) (*object, bool) {
	if o, ok := value.(*object); ok {
		return o, true
	}
	if f.rules.laxStrings && value != nil {
		o := newObject()
		return o, pythonUpdate(o, value) == nil
	}
	return nil, false
}

// texts is an object of strings.
func (f *fields) texts(field string) *object {
	out := newObject()
	value, ok := f.from.get(field)
	if !ok {
		return out
	}
	o, ok := f.mapping(value)
	if !ok {
		f.wrong(field, value, "an object of strings")
		return out
	}
	for _, k := range o.keys {
		s, ok := f.asText(o.vals[k])
		if !ok {
			f.wrong(field+"/"+k, o.vals[k], "a string")
		}
		out.set(k, s)
	}
	return out
}

// env is an object of text and nulls, or a list of Kubernetes variables.
func (f *fields) env() any {
	value, ok := f.from.get("env")
	if !ok {
		return newObject()
	}
	out := newObject()
	switch v := value.(type) {
	case []any:
		if pairs, ok := f.pairs(v); ok {
			return pairs
		}
		return f.variables(v)
	case *object:
		for _, k := range v.keys {
			item := v.vals[k]
			if item != nil {
				item = str(item)
			}
			out.set(k, item)
		}
	default:
		f.wrong("env", value, "an object of names and values, or a list of Kubernetes variables")
	}
	return out
}

// pairs: pydantic 1 prefers a mapping to a list, and a list of objects with two
// keys each passes for one: [{"name": "A", "value": "1"}] is {"name": "value"}.
func (f *fields) pairs(list []any) (*object, bool) {
	if !f.rules.laxStrings {
		return nil, false
	}
	pairs := newObject()
	if pythonUpdate(pairs, list) != nil {
		return nil, false
	}
	for _, k := range pairs.keys {
		if pairs.vals[k] == nil {
			continue
		}
		text, ok := f.asText(pairs.vals[k])
		if !ok {
			return nil, false
		}
		pairs.set(k, text)
	}
	return pairs, true
}

func (f *fields) variables(list []any) []any {
	for i, item := range list {
		if _, ok := item.(*object); !ok {
			f.wrong(fmt.Sprintf("env/%d", i), item, "an object with name and value or valueFrom")
		}
	}
	return list
}

func (f *fields) manifest() *object {
	value, ok := f.from.get("job_manifest")
	if !ok && f.fault == nil {
		f.fault = &Fault{At: "validate", Kind: "ValidationError", Path: "job_configuration/job_manifest", Message: "is required"}
	}
	o, ok := f.mapping(value)
	if !ok {
		f.wrong("job_manifest", value, "an object")
		return newObject()
	}
	return o
}

// cluster is the data of a kubernetes-cluster-config block.
func (f *fields) cluster() *object {
	value, _ := f.from.get("cluster_config")
	if value == nil {
		return nil
	}
	in, ok := value.(*object)
	if !ok {
		f.wrong("cluster_config", value, "an object with config and context_name, or null")
		return nil
	}
	out := newObject()
	kubeconfig, _ := in.get("config")
	if text, ok := kubeconfig.(string); ok {
		kubeconfig = parseYAML(text)
	}
	if _, ok := kubeconfig.(*object); !ok {
		f.wrong("cluster_config/config", kubeconfig, "an object or its YAML")
	}
	out.set("config", kubeconfig)
	context, _ := in.get("context_name")
	name, ok := f.asText(context)
	if !ok {
		f.wrong("cluster_config/context_name", context, "a string")
	}
	out.set("context_name", name)
	return out
}

func parseYAML(text string) any {
	doc, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil
	}
	value, err := parse(doc)
	if err != nil {
		return nil
	}
	return value
}

func (f *fields) integer(field string, otherwise any, nullable bool) any {
	value, ok := f.from.get(field)
	if !ok {
		return otherwise
	}
	if value == nil && nullable {
		return nil
	}
	if n, ok := f.asInteger(value); ok {
		return number(n.String())
	}
	f.wrong(field, value, "an integer")
	return otherwise
}

// asInteger takes what pydantic takes for an integer: booleans, floats (2: those
// without a fraction, 1: any, cut off) and the text of an integer (2: also with
// a fraction of zeros).
func (f *fields) asInteger(value any) (*big.Int, bool) {
	switch v := value.(type) {
	case bool, number:
		r, ok := numeric(v)
		if !ok {
			return nil, false
		}
		if !r.IsInt() && !f.rules.laxStrings {
			return nil, false
		}
		return new(big.Int).Quo(r.Num(), r.Denom()), true
	case string:
		if !f.rules.laxStrings {
			if whole, fraction, ok := strings.Cut(v, "."); ok && strings.Trim(strings.TrimRight(fraction, " \t\n"), "0") == "" {
				v = whole
			}
		}
		return pythonInt(v)
	}
	return nil, false
}

var booleans = map[string]bool{
	"0": false, "off": false, "f": false, "false": false, "n": false, "no": false,
	"1": true, "on": true, "t": true, "true": true, "y": true, "yes": true,
}

func (f *fields) boolean(field string, otherwise bool) bool {
	value, ok := f.from.get(field)
	if !ok {
		return otherwise
	}
	switch v := value.(type) {
	case bool:
		return v
	case number:
		if equal(v, true) || equal(v, false) {
			return truthy(v)
		}
	case string:
		if b, ok := booleans[strings.ToLower(v)]; ok {
			return b
		}
	}
	f.wrong(field, value, "a boolean")
	return otherwise
}
