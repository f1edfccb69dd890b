package parity

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
	"slipway/render"
)

// inputs are those for each version; PARITY_INPUTS wants more.
var inputs = 400

// TestParity draws new inputs each time; PARITY_SEED repeats a run.
func TestParity(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PARITY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := strconv.Atoi(os.Getenv("PARITY_INPUTS")); err == nil {
		inputs = n
	}
	t.Logf("PARITY_SEED=%d", seed)
	for lock, as := range map[string]render.Version{prefectserver.Worker3: render.V3, prefectserver.Worker2: render.V2} {
		t.Run(lock, func(t *testing.T) { compare(t, seed, lock, as) })
	}
}

func compare(t *testing.T, seed uint64, lock string, as render.Version) {
	venv, err := prefectserver.Install(t.Context(), os.Stderr, lock)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGenerator(seed, venv.Version)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	for range inputs {
		if err := json.NewEncoder(&lines).Encode(g.input()); err != nil {
			t.Fatal(err)
		}
	}
	all := bytes.Split(bytes.TrimSpace(lines.Bytes()), []byte("\n"))
	// What Prefect's settings read of the environment is handed on to the Job.
	settings := map[string]string{"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_HOME": t.TempDir()}
	theirs := worker(t, venv, settings, lines.Bytes(), 1)
	unstable := 0
	// The worker fills the placeholders of a text in the order of a Python set,
	// which depends on the hash seed: what differs by it has no one rendering.
	for seed := 2; seed <= 4; seed++ {
		for i, answer := range worker(t, venv, settings, lines.Bytes(), seed) {
			if theirs[i] != nil && differ("", theirs[i]["manifest"], answer["manifest"]) != "" {
				theirs[i] = nil
				unstable++
			}
		}
	}
	options := render.Options{As: as, PrefectVersion: venv.Version, PythonVersion: "3.11", WorkerName: "parity", Environ: settings}
	equal, jobs := 0, 0
	refusals := map[string]int{}
	for i, line := range all {
		if theirs[i] == nil {
			continue
		}
		if _, ok := theirs[i]["manifest"]; ok {
			jobs++
		} else {
			refusals[theirs[i]["error"].(string)]++
		}
		if different := difference(t, line, theirs[i], options); different != "" {
			t.Errorf("input %d of seed %d: %s\n%s", i, seed, different, line)
			continue
		}
		equal++
	}
	t.Logf("%s: %d of %d equal, %d of them Jobs, %d kinds of refusal; %d more depend on Python's hash seed", lock, equal, len(all)-unstable, jobs, len(refusals), unstable)
	if jobs < inputs/4 || unstable > inputs/20 {
		t.Errorf("%d inputs make Jobs and %d are unstable: the generator draws too wildly", jobs, unstable)
	}
}

// worker renders by the Python worker.
func worker(t *testing.T, venv *prefectserver.Venv, settings map[string]string, lines []byte, hashSeed int) []doc {
	cmd := exec.CommandContext(t.Context(), venv.Bin("python"), filepath.Join(world.Root(), "e2e", "parity", "worker.py"))
	cmd.Env = append(venv.Environ(t.TempDir()), "PYTHONHASHSEED="+strconv.Itoa(hashSeed))
	for name, value := range settings {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdin = bytes.NewReader(lines)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("worker.py: %v\n%s", err, stderr.Bytes())
	}
	var answers []doc
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		answers = append(answers, decode(t, scanner.Bytes()))
	}
	if len(answers) != inputs {
		t.Fatalf("worker.py answered %d of %d lines\n%s", len(answers), inputs, stderr.Bytes())
	}
	return answers
}

func decode(t *testing.T, data []byte) doc {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var d doc
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return d
}

// difference renders a line by Slipway and holds it to the worker's answer.
func difference(t *testing.T, line []byte, theirs doc, options render.Options) string {
	job, err := ours(t, line, options)
	fault, failed := theirs["error"]
	switch {
	case failed && err == nil:
		return "the worker refuses it and Slipway does not: " + fault.(string) + "\n" + string(job.Manifest(render.Identity{}))
	case failed:
		return ""
	case err != nil:
		return "Slipway refuses what the worker renders: " + err.Error()
	case job.Namespace != theirs["namespace"]:
		return "the namespace is " + job.Namespace
	}
	return differ("", decode(t, job.Manifest(render.Identity{})), theirs["manifest"])
}

func ours(t *testing.T, line []byte, options render.Options) (*render.Job, error) {
	var in struct {
		WorkPool   json.RawMessage            `json:"work_pool"`
		Deployment json.RawMessage            `json:"deployment"`
		FlowRun    json.RawMessage            `json:"flow_run"`
		Flow       json.RawMessage            `json:"flow"`
		Blocks     map[string]json.RawMessage `json:"blocks"`
		Variables  map[string]json.RawMessage `json:"variables"`
		Environ    map[string]string          `json:"environ"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		t.Fatal(err)
	}
	documents := render.Documents{BlocksByName: map[string]json.RawMessage{}, BlocksByID: map[string]json.RawMessage{}, Variables: in.Variables}
	for name, data := range in.Blocks {
		documents.BlocksByName[name] = json.RawMessage(`{"data":` + string(data) + `}`)
	}
	options.Environ = maps.Clone(options.Environ)
	maps.Copy(options.Environ, in.Environ)
	template, err := render.Parse(in.WorkPool, options)
	if err != nil {
		return nil, err
	}
	run := render.Run{FlowRun: in.FlowRun, Deployment: in.Deployment, Flow: in.Flow, Suffix: "00000000"}
	for range 3 {
		job, err := template.Render(run, documents)
		missing, ok := err.(*render.Missing) //nolint:errorlint // Render returns it bare
		if !ok {
			return job, err
		}
		for _, name := range missing.BlocksByName {
			documents.BlocksByName[name] = nil
		}
		for _, id := range missing.BlocksByID {
			documents.BlocksByID[id] = nil
		}
		for _, name := range missing.Variables {
			documents.Variables[name] = nil
		}
	}
	t.Fatal("references without end")
	return nil, nil
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return "(nothing)"
}

// differ names the first place where two JSON values are not equal; numbers are
// equal by value.
func differ(path string, got, want any) string {
	switch w := want.(type) {
	case doc:
		g, ok := got.(doc)
		if !ok || len(g) != len(w) {
			break
		}
		for key, value := range w {
			if _, there := g[key]; !there {
				return path + "/" + key + " is missing"
			}
			if text := differ(path+"/"+key, g[key], value); text != "" {
				return text
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		for i := range max(len(g), len(w)) {
			if text := differ(path+"/"+strconv.Itoa(i), at(g, i), at(w, i)); text != "" {
				return text
			}
		}
		return ""
	case json.Number:
		g, ok := got.(json.Number)
		x, ok1 := new(big.Rat).SetString(string(g))
		y, ok2 := new(big.Rat).SetString(string(w))
		if ok && ok1 && ok2 && x.Cmp(y) == 0 {
			return ""
		}
	default:
		if got == want {
			return ""
		}
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	return path + ": Slipway has " + string(a) + ", the worker " + string(b)
}
