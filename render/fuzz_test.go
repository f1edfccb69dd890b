package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// seeds are cases of the corpus, one in so many.
func seeds(f testing.TB, every int, add func(pool, deployment, run []byte, v2 bool)) {
	bases, err := parse(corpusFile(f, "documents.json"))
	if err != nil {
		f.Fatal(err)
	}
	for file, as := range map[string]Version{"render-3.8.8.jsonl": V3, "render-2.20.25.jsonl": V2} {
		for i, line := range lines(f, file) {
			if i%every == 0 {
				c := loadCase(f, bases.(*object), line, as)
				add(c.pool, c.run.Deployment, c.run.FlowRun, as == V2)
			}
		}
	}
}

// seed is one case that the fuzzer changes.
type seed struct {
	pool, deployment, run []byte
	as                    Version
}

// FuzzRender puts any text in the place of any text of a corpus case, in the work
// pool or in the job variables. No text makes the renderer panic, change what it
// was given, or give two answers.
func FuzzRender(f *testing.F) {
	var all []seed
	seeds(f, 10, func(pool, deployment, run []byte, v2 bool) {
		as := V3
		if v2 {
			as = V2
		}
		all = append(all, seed{pool, deployment, run, as})
	})
	for i, text := range []string{"{{ name }}", "{{ prefect.variables.x }}", "{{ $HOME }}-{{ a[0].b }}", "}}{{", "\"", "\x00", "ß–İ", "-", "1e9999"} {
		f.Add(uint16(i), uint16(7*i), text)
	}
	f.Fuzz(func(t *testing.T, which, place uint16, text string) {
		s := all[int(which)%len(all)]
		pool, deployment := s.pool, s.deployment
		if place%2 == 0 {
			pool = replaceText(t, pool, int(place/2), text)
		} else if len(deployment) > 0 {
			deployment = replaceText(t, deployment, int(place/2), text)
		}
		given := [][]byte{bytes.Clone(pool), bytes.Clone(deployment), bytes.Clone(s.run)}
		first, err := renderOnce(pool, deployment, s.run, s.as)
		second, again := renderOnce(pool, deployment, s.run, s.as)
		if !bytes.Equal(first, second) || fmt.Sprint(err) != fmt.Sprint(again) {
			t.Errorf("two renderings differ:\n%s (%v)\n%s (%v)", first, err, second, again)
		}
		for i, now := range [][]byte{pool, deployment, s.run} {
			if !bytes.Equal(now, given[i]) {
				t.Errorf("input %d was changed", i)
			}
		}
		if err == nil && !json.Valid(first) {
			t.Errorf("no JSON: %s", first)
		}
	})
}

// replaceText puts another text in the place of the nth one of a document.
func replaceText(t *testing.T, document []byte, n int, text string) []byte {
	value, err := parse(document)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	var walk func(v any, put bool) any
	walk = func(v any, put bool) any {
		switch v := v.(type) {
		case string:
			count++
			if put && count == n {
				return text
			}
		case []any:
			for i, item := range v {
				v[i] = walk(item, put)
			}
		case *object:
			for _, k := range v.keys {
				v.vals[k] = walk(v.vals[k], put)
			}
		}
		return v
	}
	walk(value, false)
	n, count = 1+n%max(count, 1), 0
	return marshal(walk(value, true))
}

func renderOnce(pool, deployment, flowRun []byte, as Version) ([]byte, error) {
	template, err := Parse(pool, Options{As: as, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "w"})
	if err != nil {
		return nil, err
	}
	run := Run{FlowRun: flowRun, Deployment: deployment, Suffix: "00000000"}
	job, err := template.Render(run, Documents{})
	if err != nil {
		return nil, err
	}
	if err := job.Check(); err != nil {
		var fault *Fault
		if !errors.As(err, &fault) || fault.Path == "" {
			return nil, fmt.Errorf("a check without a path: %w", err)
		}
	}
	if _, err := template.Explain(run, Documents{}); err != nil {
		return nil, err
	}
	if _, err := template.Lint(run, Documents{}); err != nil {
		return nil, err
	}
	return job.Manifest(Identity{Name: "n", Annotations: map[string]string{"a": "b"}}), nil
}

var (
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

// FuzzNames: names are DNS labels, or nothing is left of them.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"", "My Flow", "größe/测试", "a--b", "&amp;&#x41;", strings.Repeat("-a", 99), "1,000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if name := slugName(text); name != "" && !dnsLabel.MatchString(name) {
			t.Errorf("%q becomes the name %q", text, name)
		}
		for _, as := range []Version{V3, V2} {
			if value := versions[as].slugLabelValue(text); !labelValue.MatchString(value) && value != text {
				t.Errorf("%q becomes the label value %q", text, value)
			}
		}
	})
}

// FuzzCommand: splitting ends for any command line.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{"prefect flow-run execute", `a "b c" 'd'`, `\`, `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitCommand(line)
		if err != nil {
			return
		}
		for _, word := range words {
			if _, ok := word.(string); !ok {
				t.Errorf("%v is no word", word)
			}
		}
	})
}

// hostile is a pool whose template takes text as the argument of its container.
func hostile(text any, defaults map[string]any) []byte {
	properties := map[string]any{}
	for name, value := range defaults {
		properties[name] = map[string]any{"default": value}
	}
	body, err := json.Marshal(map[string]any{"name": "p", "id": "x", "base_job_template": map[string]any{
		"variables": map[string]any{"properties": properties},
		"job_configuration": map[string]any{"job_manifest": map[string]any{
			"apiVersion": "batch/v1", "kind": "Job", "spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"restartPolicy": "Never", "completions": 1, "parallelism": 1,
				"containers": []any{map[string]any{"name": "prefect-job", "image": "i", "workingDir": text}},
			}}},
		}},
	}})
	if err != nil {
		panic(err)
	}
	return body
}

// TestHostileTemplates: four times the input costs about four times the bytes, and
// what would explode is refused.
func TestHostileTemplates(t *testing.T) {
	distinct := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "{{ v%d }}", i)
		}
		return b.String()
	}
	nested := func(n int) any {
		var v any = "x"
		for range min(n/1000, 400) {
			v = []any{v}
		}
		return v
	}
	for name, grow := range map[string]func(n int) any{
		"braces":       func(n int) any { return strings.Repeat("{{", n) },
		"open":         func(n int) any { return strings.Repeat("{{ a", n) },
		"placeholders": func(n int) any { return distinct(n) },
		"one":          func(n int) any { return strings.Repeat("{{ a }}", n) },
		"long":         func(n int) any { return strings.Repeat("x", 10*n) },
		"deep":         nested,
		"wide": func(n int) any {
			wide := map[string]any{}
			for i := range n {
				wide[fmt.Sprint("k", i)] = i
			}
			return wide
		},
	} {
		t.Run(name, func(t *testing.T) {
			small, _ := cost(hostile(grow(5000), map[string]any{"a": "value"}))
			large, _ := cost(hostile(grow(20000), map[string]any{"a": "value"}))
			if large > 8*small+(8<<20) {
				t.Errorf("four times the input allocates %d times the bytes (%d, %d)", large/small, small, large)
			}
		})
	}
	big := strings.Repeat("x", 1<<20)
	for name, pool := range map[string][]byte{
		"text":   hostile(strings.Repeat("{{ a }}-", 1000), map[string]any{"a": big}),
		"shared": hostile(repeat("{{ a }}", 1000), map[string]any{"a": big}),
	} {
		allocated, err := cost(pool)
		var fault *Fault
		if !errors.As(err, &fault) || !strings.Contains(fault.Message, "3 MiB") {
			t.Errorf("%s: %v", name, err)
		}
		if allocated > 64<<20 {
			t.Errorf("%s: %d MiB were allocated to refuse it", name, allocated>>20)
		}
	}
}

// cost renders a work pool's Job, and counts the bytes that it allocates.
func cost(pool []byte) (allocated uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = renderOnce(pool, nil, []byte(`{"id":"r","name":"n"}`), V3)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

func repeat(v any, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// TestSharedTemplate: goroutines share one parsed template.
func TestSharedTemplate(t *testing.T) {
	seeds(t, 200, func(pool, deployment, run []byte, v2 bool) {
		as := V3
		if v2 {
			as = V2
		}
		template, err := Parse(pool, Options{As: as, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "w"})
		if err != nil {
			return
		}
		want, wantErr := template.Render(Run{FlowRun: run, Deployment: deployment}, Documents{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				got, err := template.Render(Run{FlowRun: run, Deployment: deployment}, Documents{})
				if fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Errorf("%v, want %v", err, wantErr)
				}
				if err == nil && !bytes.Equal(got.Manifest(Identity{}), want.Manifest(Identity{})) {
					t.Error("two goroutines render two Jobs")
				}
			})
		}
		all.Wait()
	})
}

// BenchmarkRender renders the worker's default template for one run.
func BenchmarkRender(b *testing.B) {
	bases, err := parse(corpusFile(b, "documents.json"))
	if err != nil {
		b.Fatal(err)
	}
	all := bases.(*object)
	pool := deepCopy(all.vals["work_pool:3.8.8"]).(*object)
	pool.set("base_job_template", all.vals["template:class-3.8.8"])
	template, err := Parse(marshal(pool), Options{As: V3, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "w"})
	if err != nil {
		b.Fatal(err)
	}
	run := Run{FlowRun: marshal(all.vals["flow_run:3.8.8"]), Deployment: marshal(all.vals["deployment:3.8.8"]), Flow: marshal(all.vals["flow:3.8.8"])}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := template.Render(run, Documents{}); err != nil {
			b.Fatal(err)
		}
	}
}
