package render

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The corpus holds what the real Python workers made of thousands of inputs. It
// is read from testdata, or from the folder that SLIPWAY_CORPUS names.
func corpusFile(t testing.TB, name string) []byte {
	t.Helper()
	if dir := os.Getenv("SLIPWAY_CORPUS"); dir != "" {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	f, err := os.Open(filepath.Join("testdata/corpus", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	unzip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func lines(t testing.TB, name string) []*object {
	t.Helper()
	var out []*object
	scanner := bufio.NewScanner(bytes.NewReader(corpusFile(t, name)))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		v, err := parse(scanner.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v.(*object))
	}
	return out
}

// same is equality as the corpus defines it: key order is ignored, numbers are
// compared by value, and true is no 1.
func same(a, b any) bool {
	switch x := a.(type) {
	case number:
		y, ok := b.(number)
		return ok && (x == y || equal(x, y))
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !same(x[i], y[i]) {
				return false
			}
		}
		return true
	case *object:
		y, ok := b.(*object)
		if !ok || x.len() != y.len() {
			return false
		}
		for _, k := range x.keys {
			other, there := y.get(k)
			if !there || !same(x.vals[k], other) {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

// difference names the first place where two values differ.
func difference(path string, got, want any) string {
	a, ok1 := got.(*object)
	b, ok2 := want.(*object)
	if ok1 && ok2 {
		for _, k := range b.keys {
			v, there := a.get(k)
			if !there {
				return path + "/" + k + " is missing; want " + string(marshal(b.vals[k]))
			}
			if !same(v, b.vals[k]) {
				return difference(path+"/"+k, v, b.vals[k])
			}
		}
		for _, k := range a.keys {
			if _, there := b.get(k); !there {
				return path + "/" + k + " is too much: " + string(marshal(a.vals[k]))
			}
		}
	}
	x, ok1 := got.([]any)
	y, ok2 := want.([]any)
	if ok1 && ok2 {
		for i := range min(len(x), len(y)) {
			if !same(x[i], y[i]) {
				return difference(fmt.Sprintf("%s/%d", path, i), x[i], y[i])
			}
		}
	}
	return fmt.Sprintf("%s:\n got  %s\n want %s", path, marshal(got), marshal(want))
}

// expand applies the edits by which a case refers to a base document.
func expand(t testing.TB, bases *object, value any) any {
	t.Helper()
	o, ok := value.(*object)
	if !ok {
		return value
	}
	name, ok := o.get("$base")
	if !ok {
		return value
	}
	base, ok := bases.get(name.(string))
	if !ok {
		t.Fatalf("no base document %v", name)
	}
	out := deepCopy(base)
	if list, ok := o.get("$delete"); ok {
		for _, pointer := range list.([]any) {
			edit(out, pointer.(string), nil, true)
		}
	}
	if set, ok := o.get("$set"); ok {
		for _, pointer := range set.(*object).keys {
			edit(out, pointer, set.(*object).vals[pointer], false)
		}
	}
	return out
}

func deepCopy(v any) any {
	out, err := parse(marshal(v))
	if err != nil {
		panic(err)
	}
	return out
}

func edit(root any, pointer string, value any, remove bool) {
	parts := strings.Split(pointer, "/")[1:]
	for i, part := range parts {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		last := i == len(parts)-1
		switch v := root.(type) {
		case *object:
			switch {
			case last && remove:
				v.remove(part)
			case last:
				v.set(part, value)
			default:
				root = v.vals[part]
			}
		case []any:
			n, _ := strconv.Atoi(part)
			switch {
			case last && remove:
				panic("deletion from a list at " + pointer)
			case last && n < len(v):
				v[n] = value
			case last:
				panic("append to a list at " + pointer)
			default:
				root = v[n]
			}
		default:
			panic("no container at " + pointer)
		}
	}
}

// corpusCase is one rendering with its inputs in full.
type corpusCase struct {
	id, group string
	options   Options
	pool      json.RawMessage
	run       Run
	docs      Documents // everything that the server holds
	want      *object
	failure   *object
}

func loadCase(t testing.TB, bases, line *object, as Version) corpusCase {
	t.Helper()
	input := line.vals["input"].(*object)
	c := corpusCase{id: textOf(line, "id"), group: textOf(line, "group")}
	c.want, _ = line.vals["want"].(*object)
	c.failure, _ = line.vals["error"].(*object)
	environ := map[string]string{}
	for _, part := range []string{"settings", "environ"} {
		if o, ok := line.vals[part].(*object); ok {
			for _, k := range o.keys {
				environ[k] = o.vals[k].(string)
			}
		}
	}
	version := textOf(line.vals["oracle"].(*object), "prefect")
	c.options = Options{As: as, PrefectVersion: version, PythonVersion: "3.11", WorkerName: textOf(line, "worker_name"), Environ: environ}

	pool := expand(t, bases, input.vals["work_pool"])
	if o, ok := pool.(*object); ok {
		if template, ok := o.get("base_job_template"); ok {
			o.set("base_job_template", expand(t, bases, template))
		}
	}
	c.pool = marshal(pool)
	run := expand(t, bases, input.vals["flow_run"]).(*object)
	c.run = Run{FlowRun: marshal(run), Suffix: "c0ffee00"}
	if d, ok := expand(t, bases, input.vals["deployment"]).(*object); ok {
		c.run.Deployment = marshal(d)
	}
	if f, ok := expand(t, bases, input.vals["flow"]).(*object); ok {
		c.run.Flow = marshal(f)
	}
	c.docs = serverDocuments(input, as)
	return c
}

// serverDocuments turns a case's lists into what a fetch by reference finds.
func serverDocuments(input *object, as Version) Documents {
	docs := Documents{BlocksByName: map[string]json.RawMessage{}, BlocksByID: map[string]json.RawMessage{}, Variables: map[string]json.RawMessage{}}
	if blocks, ok := input.vals["blocks"].([]any); ok {
		for _, b := range blocks {
			o := b.(*object)
			docs.BlocksByID[textOf(o, "id")] = marshal(o)
			docs.BlocksByName[textOf(o, "block_type_slug")+"/"+textOf(o, "name")] = marshal(o)
		}
	}
	if variables, ok := input.vals["variables"].(*object); ok {
		for _, k := range variables.keys {
			if _, isText := variables.vals[k].(string); as == V2 && !isText {
				continue
			}
			docs.Variables[k] = marshal(variables.vals[k])
		}
	}
	return docs
}

// fetching renders as a caller does: with what was asked for, round by round.
func fetching(template *Template, run Run, server Documents) (*Job, error) {
	have := Documents{BlocksByName: map[string]json.RawMessage{}, BlocksByID: map[string]json.RawMessage{}, Variables: map[string]json.RawMessage{}}
	for range 10 {
		job, err := template.Render(run, have)
		var missing *Missing
		if !errors.As(err, &missing) {
			return job, err
		}
		for _, n := range missing.BlocksByName {
			have.BlocksByName[n] = server.BlocksByName[n]
		}
		for _, n := range missing.BlocksByID {
			have.BlocksByID[n] = server.BlocksByID[n]
		}
		for _, n := range missing.Variables {
			have.Variables[n] = server.Variables[n]
		}
	}
	return nil, errors.New("still missing after 10 rounds")
}

// verdict compares a case with its rendering; "" means equal.
func (c corpusCase) verdict() string {
	var job *Job
	template, err := Parse(c.pool, c.options)
	if err == nil {
		job, err = fetching(template, c.run, c.docs)
	}
	if c.failure != nil {
		var fault *Fault
		if err == nil || !errors.As(err, &fault) {
			return fmt.Sprintf("want the error %s, got %v", marshal(c.failure), err)
		}
		return ""
	}
	if err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	manifest, _ := parse(job.Manifest(Identity{}))
	if want := c.want.vals["manifest"]; !same(manifest, want) {
		return difference("", manifest, want)
	}
	if job.Namespace != textOf(c.want, "namespace") {
		return fmt.Sprintf("namespace %q", job.Namespace)
	}
	if got, want := configOf(job), c.want.vals["config"]; !same(got, want) {
		return difference("config", got, want)
	}
	return c.secretsVerdict(job)
}

func configOf(job *Job) any {
	c := job.config
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var cluster any
	if c.cluster != nil {
		cluster = c.cluster
	}
	return object1("cluster_config", cluster, "command", text(c.command), "job_watch_timeout_seconds", c.jobWatch,
		"name", text(c.name), "pod_watch_timeout_seconds", c.podWatch, "stream_output", c.streamOutput)
}

// secretsVerdict compares the Secrets with the bodies of the worker's POSTs.
func (c corpusCase) secretsVerdict(job *Job) string {
	var want []any
	if list, ok := c.want.vals["other_requests"].([]any); ok {
		for _, r := range list {
			if textOf(r.(*object), "method") == "POST" {
				want = append(want, r.(*object).vals["body"])
			}
		}
	}
	var got []any
	for _, s := range job.Secrets {
		body, _ := parse(s.Body)
		got = append(got, body)
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d Secrets, want %d", len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			return difference("secret", got[i], want[i])
		}
	}
	return ""
}

func allCases(t testing.TB) []corpusCase {
	t.Helper()
	value, err := parse(corpusFile(t, "documents.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []corpusCase
	for _, v := range []struct {
		name string
		as   Version
	}{{"3.8.8", V3}, {"2.20.25", V2}} {
		for _, file := range []string{"render-" + v.name + ".jsonl", "render-" + v.name + "-random.jsonl"} {
			for _, line := range lines(t, file) {
				c := loadCase(t, value.(*object), line, v.as)
				c.id = v.name + ":" + c.id
				cases = append(cases, c)
			}
		}
	}
	return cases
}

// TestCorpus holds the renderer to the Python workers, case by case.
func TestCorpus(t *testing.T) {
	total, equal := 0, 0
	shown := map[string]int{}
	for _, c := range allCases(t) {
		total++
		verdict := c.verdict()
		if verdict == "" {
			equal++
			continue
		}
		group := c.options.PrefectVersion + c.group
		if shown[group]++; shown[group] <= 3 {
			t.Errorf("%s: %s", c.id, verdict)
		}
	}
	for group, n := range shown {
		t.Logf("%-30s %d differ", group, n)
	}
	t.Logf("corpus: %d of %d equal", equal, total)
}
