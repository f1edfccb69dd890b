// Package parity compares fresh random inputs between Slipway's renderer and the
// Python worker's own functions, so that parity is shown beyond the stored corpus.
package parity

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/e2e/world"
)

type doc = map[string]any

// Input is everything that a rendering depends on.
type Input struct {
	WorkPool   doc            `json:"work_pool"`
	Deployment doc            `json:"deployment"`
	FlowRun    doc            `json:"flow_run"`
	Flow       doc            `json:"flow"`
	Blocks     map[string]any `json:"blocks"`    // "type-slug/name" -> data
	Variables  map[string]any `json:"variables"` // name -> value

	Environ map[string]string `json:"environ,omitempty"` // what the worker's environment holds beside the settings of all
}

// generator draws inputs: documents as real servers send them, with random changes
// where users make theirs.
type generator struct {
	*rand.Rand
	base    map[string]json.RawMessage // documents of the corpus
	version string                     // "3.8.8"
}

func newGenerator(seed uint64, version string) (*generator, error) {
	f, err := os.Open(filepath.Join(world.Root(), "render", "testdata", "corpus", "documents.json.gz"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	unzip, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), version: version}
	return g, json.NewDecoder(unzip).Decode(&g.base)
}

// document is a fresh copy of a base document.
func (g *generator) document(name string) doc {
	decoder := json.NewDecoder(strings.NewReader(string(g.base[name])))
	decoder.UseNumber()
	var d doc
	if err := decoder.Decode(&d); err != nil {
		panic(fmt.Errorf("document %s: %w", name, err))
	}
	return d
}

func (g *generator) templates() []string {
	var names []string
	for name := range g.base {
		if strings.HasPrefix(name, "template:") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// maybe is true that often in a hundred.
func (g *generator) maybe(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// input draws one.
func (g *generator) input() Input {
	in := Input{
		WorkPool: g.document("work_pool:" + g.version), Deployment: g.document("deployment:" + g.version),
		FlowRun: g.document("flow_run:" + g.version), Flow: g.document("flow:" + g.version),
		Blocks:    map[string]any{"secret/tok": doc{"value": "s3"}, "json/doc": doc{"value": doc{"key": doc{"n": 1}, "list": []any{"a", 2}}}},
		Variables: map[string]any{"v1": g.text(), "v2": "plain"},
	}
	template := g.document(pick(g, g.templates()))
	in.WorkPool["base_job_template"] = template
	for _, named := range []doc{in.WorkPool, in.Deployment, in.FlowRun, in.Flow} {
		if g.maybe(40) {
			named["name"] = g.name()
		}
	}
	names := variableNames(template)
	in.Deployment["job_variables"] = g.variables(names)
	delete(in.Deployment, "infra_overrides")
	if g.version != "3.8.8" && g.maybe(50) { // servers of 2.20 send this name and no other
		in.Deployment["infra_overrides"] = in.Deployment["job_variables"]
		delete(in.Deployment, "job_variables")
	}
	if g.maybe(60) {
		in.FlowRun["job_variables"] = g.variables(names)
	}
	g.changeTemplate(template)
	if g.maybe(15) {
		in.Deployment["updated"] = g.timestamp()
	}
	if g.maybe(8) {
		in.Environ = g.environ()
	}
	return in
}

// timestamp draws spellings that Prefect's models read: one without a zone is UTC.
func (g *generator) timestamp() string {
	text := pick(g, []string{"2026-08-01T12:34:56", "2026-08-01 12:34:56.120", "2026-08-01T12:34:56.1234567", "2026-01-31T23:59:59,5", "2026-08-01T12:34"})
	return text + pick(g, []string{"", "", "Z", "+02:00", "-0530"})
}

// environ draws settings that decide which others the worker hands on: its test
// modes and debug mode, and what its profile or Prefect Cloud implies.
func (g *generator) environ() map[string]string {
	switches := []string{"1", "true", "false", "0", "no"}
	values := map[string][]string{
		"PREFECT_TEST_MODE":                   switches,
		"PREFECT_UNIT_TEST_MODE":              switches,
		"PREFECT_TESTING_TEST_MODE":           switches,
		"PREFECT_TESTING_UNIT_TEST_MODE":      switches,
		"PREFECT_DEBUG_MODE":                  switches,
		"PREFECT_LOGGING_LEVEL":               {"debug", "INFO"},
		"PREFECT_INTERNAL_LOGGING_LEVEL":      {"error"},
		"PREFECT_LOGGING_INTERNAL_LEVEL":      {"WARNING"},
		"PREFECT_SERVER_EPHEMERAL_ENABLED":    switches,
		"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": switches,
		"PREFECT_API_URL":                     {"https://api.prefect.cloud/api/accounts/a/workspaces/w"},
		"Prefect_Api_Key":                     {"pnu_x"},
	}
	names := slices.Sorted(maps.Keys(values))
	out := map[string]string{}
	for range 1 + g.IntN(4) {
		name := pick(g, names)
		out[name] = pick(g, values[name])
	}
	return out
}

func variableNames(template doc) []string {
	names := []string{"env", "labels", "annotations", "name", "namespace", "command", "image", "stream_output", "nonsense"}
	if variables, ok := template["variables"].(doc); ok {
		if properties, ok := variables["properties"].(doc); ok {
			for name := range properties {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// variables draws job variables, mostly of the kind that their names ask for.
func (g *generator) variables(names []string) doc {
	out := doc{}
	for range g.IntN(7) {
		name := pick(g, names)
		switch {
		case g.maybe(4):
			out[name] = g.value(0)
		case name == "stream_output":
			out[name] = pick(g, []any{true, false, "yes", 0})
		case name == "cluster_config":
			out[name] = nil
		case name == "namespace":
			out[name] = pick(g, []any{"dev", "a-b", g.name()})
		case name == "env" && g.maybe(15):
			out[name] = g.envList()
		case name == "env" || name == "labels" || name == "annotations":
			out[name] = g.mapping()
		case strings.Contains(name, "seconds") || strings.Contains(name, "ttl") || strings.Contains(name, "limit"):
			out[name] = pick(g, []any{0, 1, 300, 60, 7, json.Number("1.0"), "7", nil})
		case name == "command":
			out[name] = pick(g, []any{"python -m x", `sh -c "echo 'a b'"`, "", nil, `a\ b`, g.text()})
		case g.maybe(8) && g.version == "3.8.8":
			out[name+"."+pick(g, []string{"a", "b.c", "0"})] = g.value(1)
		default:
			out[name] = pick(g, []any{g.name(), g.text(), "x", nil})
		}
	}
	return out
}

func (g *generator) mapping() doc {
	out := doc{}
	for range g.IntN(4) {
		out[pick(g, []string{"A", "B_C", "PREFECT_API_URL", "PREFECT__FLOW_RUN_ID", "app/x", "Ünï", "a b", "prefect.io/x", g.name()})] =
			pick(g, []any{"1", g.text(), g.name(), g.text(), g.name(), "x", "y", "z", pick(g, []any{nil, 5, true, json.Number("1.50")})})
	}
	return out
}

func (g *generator) envList() []any {
	var list []any
	for range g.IntN(4) {
		item := doc{"name": pick(g, []string{"A", "B", "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "PREFECT__FLOW_RUN_ID"})}
		if g.maybe(60) {
			item["value"] = g.text()
		} else {
			item["valueFrom"] = doc{"secretKeyRef": doc{"name": "s", "key": "k"}}
		}
		list = append(list, item)
	}
	return list
}

// name draws one that the server takes: not empty, and without / % & < >.
func (g *generator) name() string {
	return pick(g, []string{
		"etl", "My Flow", "Größe 7", "测试-flow", "a_b.c", "-x-", strings.Repeat("long-", 30), "ALL CAPS!", "é amp; b", "1,000 things", "é", "ﬁ", "x.y",
		fmt.Sprintf("n%d", g.IntN(1000)),
	})
}

// text draws what a user might write into a string, placeholders included.
func (g *generator) text() string {
	var b strings.Builder
	for range 1 + g.IntN(3) {
		b.WriteString(pick(g, []string{
			"x", " ", "-", "{{ name }}", "{{image}}", "{{ env }}", "{{ nonsense }}", "{{ labels.A }}", "{{ name[0] }}", "{{ $HOME_X }}", "{{", "}}",
			"{{ prefect.variables.v1 }}", "{{ prefect.variables.none }}", "ü", "'\"", "1.0", "{{ namespace }}",
		}))
	}
	return b.String()
}

// value draws any JSON.
func (g *generator) value(depth int) any {
	switch g.IntN(9) {
	case 0:
		return nil
	case 1:
		return g.maybe(50)
	case 2:
		return g.IntN(100)
	case 3:
		return json.Number(pick(g, []string{"1.0", "1e3", "0.1", "1E-7", "123456789012345678901", "-0.0"}))
	case 4, 5:
		return g.text()
	case 6:
		if depth > 2 {
			return []any{}
		}
		return []any{g.value(depth + 1), g.value(depth + 1)}
	default:
		if depth > 2 {
			return doc{}
		}
		return doc{pick(g, []string{"a", "b", "name", "value"}): g.value(depth + 1)}
	}
}

// changeTemplate edits what an administrator edits: texts of the job
// configuration, keys left out, defaults.
func (g *generator) changeTemplate(template doc) {
	configuration, ok := template["job_configuration"].(doc)
	if !ok {
		return
	}
	if g.maybe(40) {
		g.edit(configuration, func(parent doc, key string) { parent[key] = g.text() })
	}
	if g.maybe(10) {
		g.edit(configuration, func(parent doc, key string) { parent[key] = g.value(0) })
	}
	if g.maybe(12) {
		g.edit(configuration, func(parent doc, key string) { delete(parent, key) })
	}
	if g.maybe(8) {
		configuration["env"] = g.mapping()
	}
	if g.maybe(8) {
		g.edit(configuration, func(parent doc, key string) {
			parent[key] = pick(g, []any{"{{ prefect.blocks.secret.tok }}", "{{ prefect.blocks.json.doc.key }}", "a-{{ prefect.blocks.secret.tok }}", "{{ prefect.blocks.json.none }}"})
		})
	}
	variables, _ := template["variables"].(doc)
	properties, _ := variables["properties"].(doc)
	if len(properties) > 0 && g.maybe(20) {
		names := sorted(properties)
		if property, ok := properties[pick(g, names)].(doc); ok {
			property["default"] = g.value(0)
		}
	}
}

// edit applies a change at a random place.
func (g *generator) edit(root doc, change func(parent doc, key string)) {
	type place struct {
		parent doc
		key    string
	}
	var places []place
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case doc:
			for _, key := range sorted(v) {
				places = append(places, place{v, key})
				walk(v[key])
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(root)
	if len(places) > 0 {
		p := pick(g, places)
		change(p.parent, p.key)
	}
}

func sorted(d doc) []string {
	keys := make([]string, 0, len(d))
	for key := range d {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
