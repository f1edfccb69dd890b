package render

import (
	"slices"
	"strconv"
	"strings"
)

// Where a value of a manifest comes from.
const (
	FromTemplate   = "template"     // written in the base job template
	FromDefault    = "pool default" // a variable's default
	FromDeployment = "deployment"   // its job variables
	FromFlowRun    = "flow run"     // its job variables
	FromWorker     = "worker"       // added or changed as the worker does
)

// Origin tells where one value of a Job's manifest comes from.
type Origin struct {
	Path      string   // JSON pointer into the manifest
	Value     string   // JSON
	Sources   []string // of the variables, or one of the others
	Variables []string // job variables that the template names there
}

// Explain tells of every value in the Job of a run where it comes from. Errors are
// those of Render.
func (t *Template) Explain(run Run, docs Documents) ([]Origin, error) {
	j, filled, err := t.fill(run, docs)
	if err != nil {
		return nil, err
	}
	before, _ := filled.(*object).get("job_manifest")
	done, err := j.finish(filled)
	if err != nil {
		return nil, err
	}
	e := &explainer{Template: t, flowRun: variablesIn(j.run), deployment: variablesIn(j.deployment)}
	template, _ := t.config.get("job_manifest")
	e.walk("", done.manifest, before, template, nil)
	return e.origins, nil
}

type explainer struct {
	*Template
	flowRun, deployment *object
	origins             []Origin
}

// walk goes through the manifest with, beside it, what it was before the worker's
// own steps and the template. under are the variables of a placeholder above.
func (e *explainer) walk(path string, value, before, template any, under []string) {
	if text, ok := template.(string); ok && under == nil {
		under = variablesOfText(text)
	}
	switch v := value.(type) {
	case *object:
		if v.len() > 0 {
			a, _ := before.(*object)
			b, _ := template.(*object)
			for _, key := range v.keys {
				e.child(join(path, key), key, v.vals[key], a, b, under)
			}
			return
		}
	case []any:
		if len(v) > 0 {
			e.list(path, v, before, template, under)
			return
		}
	}
	e.leaf(path, value, before, template, under)
}

func (e *explainer) child(path, key string, value any, before, template *object, under []string) {
	was, _ := before.get(key)
	node, _ := template.get(key)
	e.walk(path, value, was, node, under)
}

// list pairs environment variables by name and all else by position.
func (e *explainer) list(path string, list []any, before, template any, under []string) {
	was, _ := before.([]any)
	nodes, _ := template.([]any)
	for i, item := range list {
		at := join(path, strconv.Itoa(i))
		if variable, ok := item.(*object); ok && strings.HasSuffix(path, "/containers/0/env") {
			e.variable(at, variable)
			continue
		}
		e.walk(at, item, nth(was, i), nth(nodes, i), under)
	}
}

func nth(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// variable tells whose an environment variable is: the last that names it wins.
func (e *explainer) variable(path string, variable *object) {
	name := textOf(variable, "name")
	source := FromWorker
	value, _ := e.config.get("env")
	if named(value, name) {
		source = FromTemplate
	}
	for _, level := range []struct {
		from *object
		as   string
	}{{e.defaults, FromDefault}, {e.deployment, FromDeployment}, {e.flowRun, FromFlowRun}} {
		value, _ := level.from.get("env")
		if named(value, name) {
			source = level.as
		}
	}
	e.origins = append(e.origins, Origin{Path: path, Value: string(marshal(variable)), Sources: []string{source}, Variables: []string{"env"}})
}

// named tells whether an environment, a mapping or a list, has a variable.
func named(env any, name string) bool {
	switch v := env.(type) {
	case *object:
		_, ok := v.get(name)
		return ok
	case []any:
		return slices.ContainsFunc(v, func(item any) bool {
			o, _ := item.(*object)
			return textOf(o, "name") == name
		})
	}
	return false
}

func (e *explainer) leaf(path string, value, before, template any, under []string) {
	o := Origin{Path: path, Value: string(marshal(value)), Variables: under}
	switch {
	case canonical(value) != canonical(before):
		o.Sources = []string{FromWorker}
	case len(under) == 0 && template == nil && before == nil:
		o.Sources = []string{FromWorker}
	case len(under) == 0:
		o.Sources = []string{FromTemplate}
	default:
		for _, name := range under {
			o.Sources = append(o.Sources, e.source(name))
		}
	}
	e.origins = append(e.origins, o)
}

// source tells which level's value of a job variable holds.
func (e *explainer) source(name string) string {
	for _, level := range []struct {
		from *object
		as   string
	}{{e.flowRun, FromFlowRun}, {e.deployment, FromDeployment}, {e.defaults, FromDefault}} {
		if level.from == nil {
			continue
		}
		if slices.ContainsFunc(level.from.keys, func(key string) bool { return rootOf(key) == name }) {
			return level.as
		}
	}
	return FromTemplate
}

// rootOf is the job variable that a path such as a.b[0] begins with.
func rootOf(path string) string {
	root, _, _ := strings.Cut(path, ".")
	root, _, _ = strings.Cut(root, "[")
	return root
}

// variablesOfText are the job variables whose placeholders a text holds.
func variablesOfText(text string) []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range placeholders(text) {
		if name := rootOf(p.name); p.kind == standard && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
