package dispatch_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// hidden are values of a block, and what of each must not be seen.
var hidden = map[string]struct {
	value any
	part  string
}{
	"a word":        {"open-sesame", "sesame"},
	"with quotes":   {`s3"sa\me's`, "me's?"},
	"two bytes":     {"q7", "q7"},
	"a number":      {90210, "90210"},
	"several lines": {"-----BEGIN KEY-----\nsesameAAAAAAAAAAAA\n", "sesameAAAAAAAAAAAA"},
}

// doors is a world with a run whose image is a block's secret, and all that left it.
type doors struct {
	*world
	id, deployment string
	part           *regexp.Regexp
	text           string // the image, as an API server quotes it
	out            strings.Builder
}

func newDoors(t *testing.T, value any, part string) *doors {
	w := newWorld(t)
	w.prefect.AddBlock("secret", "token", doc{"value": value})
	d := &doors{world: w, part: regexp.MustCompile(`(^|[^A-Za-z0-9])` + part + `([^A-Za-z0-9]|$)`), text: fmt.Sprintf("%q", fmt.Sprintf("i:%v", value))}
	d.deployment = w.prefect.AddDeployment(pool, "etl", "hides", doc{"job_variables": doc{"image": "i:{{ prefect.blocks.secret.token }}"}})
	d.id = w.prefect.AddRun(d.deployment, time.Now().Add(-time.Second), nil)
	return d
}

// show keeps what a caller gets.
func (d *doors) show(values ...any) {
	for _, value := range values {
		if err, is := value.(error); is {
			value = err.Error()
		}
		encoder := json.NewEncoder(&d.out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(value); err != nil {
			d.t.Error(err)
		}
	}
}

// check looks for the secret in all that left, and for the mask, without which nothing
// would have been hidden.
func (d *doors) check() {
	d.t.Helper()
	d.out.WriteString(d.log.String())
	for _, r := range d.prefect.Requests() {
		d.out.Write(append(r.Body, '\n'))
	}
	masked := false
	for line := range strings.Lines(d.out.String()) {
		if d.part.MatchString(line) {
			d.t.Errorf("it is seen in: %s", line)
		}
		masked = masked || strings.Contains(line, "********")
	}
	if !masked {
		d.t.Errorf("nothing was hidden, so that nothing is tested:\n%s", d.out.String())
	}
}

// refuse answers creations of Jobs with a refusal that quotes the image.
func (d *doors) refuse() {
	d.refusePosts(422, "Invalid", "spec.template.spec.containers[0].image: Invalid value: "+d.text)
}

// TestSecretsOfBlocks: what a block hides leaves by no door, whatever its value, and
// whichever server quotes it.
func TestSecretsOfBlocks(t *testing.T) {
	for door, open := range map[string]func(d *doors){
		"a refused Job": func(d *doors) {
			d.refuse()
			r, err := d.tryPass(t.Context())
			d.show(r, err, d.state(d.id).State.Message)
		},
		"a warning": func(d *doors) {
			d.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
				rw.Header().Add("Warning", fmt.Sprintf("299 - %q", "the image "+d.text+" has no digest"))
				return false
			})
			d.show(d.pass())
		},
		"no answer": func(d *doors) {
			d.change = func(o *dispatch.Options) { o.Sleep = d.waiting }
			d.refusePosts(500, "InternalError", "failed calling webhook: image "+d.text)
			r, err := d.tryPass(t.Context())
			d.show(r, err)
		},
		"a sweep's Job": func(d *doors) {
			d.die()
			d.refuse()
			d.show(d.sweep(), d.state(d.id).State.Message)
		},
		"a doctor": func(d *doors) {
			d.refuse()
			d.show(d.dispatcher().Doctor(t.Context(), []string{pool}))
		},
		"a Job shown": func(d *doors) {
			shown, err := d.dispatcher().JobOf(t.Context(), d.id)
			if err != nil || !json.Valid(shown) {
				t.Errorf("%s: %v", shown, err)
			}
			d.show(string(shown))
		},
		"a difference": func(d *doors) { d.show(d.differences()) },
		"a fault": func(d *doors) {
			d.quoteCommand()
			_, err := d.dispatcher().JobOf(t.Context(), d.id)
			_, inspected := d.dispatcher().Inspect(t.Context(), dispatch.Subject{FlowRun: d.id})
			d.show(err, fmt.Sprint(inspected), d.dispatcher().Doctor(t.Context(), []string{pool}), d.pass(), d.state(d.id).State.Message)
		},
	} {
		for name, c := range hidden {
			t.Run(door+", "+name, func(t *testing.T) {
				d := newDoors(t, c.value, c.part)
				open(d)
				d.check()
			})
		}
	}
}

// differences compares a worker's Job, whose image is not the secret, with Slipway's.
func (d *doors) differences() []dispatch.ShadowReport {
	d.pass()
	for name := range d.kube.Jobs() {
		d.kube.Change("jobs/"+name, func(job doc) {
			delete(job["metadata"].(doc)["labels"].(doc), "slipway/work-pool-id")
			delete(job["metadata"].(doc), "annotations")
			job["spec"].(doc)["template"].(doc)["spec"].(doc)["containers"].([]any)[0].(doc)["image"] = "another:1"
		})
	}
	reports, err := d.dispatcher().Shadow(d.t.Context(), dispatch.Request{WorkPools: []string{pool}})
	if err != nil || len(reports) != 1 || reports[0].Different != 1 {
		d.t.Errorf("%+v: %v", reports, err)
	}
	return reports
}

// quoteCommand gives the run a command that cannot be split: the fault quotes it.
func (d *doors) quoteCommand() {
	base := template()
	pod := base["job_configuration"].(doc)["job_manifest"].(doc)["spec"].(doc)["template"].(doc)["spec"].(doc)
	pod["containers"].([]any)[0].(doc)["args"] = "{{ command }}"
	base["variables"].(doc)["properties"].(doc)["command"] = doc{"type": "string"}
	d.call(http.MethodPatch, "/work_pools/"+pool, doc{"base_job_template": base})
	d.redeploy(d.deployment, doc{"command": `{{ prefect.blocks.secret.token }} \`})
}

// TestSecretsInPods: a pod's status, its events and its log quote what a block hides.
// The sweep and explain may be the first of their process to meet it.
func TestSecretsInPods(t *testing.T) {
	for name, c := range hidden {
		t.Run(name, func(t *testing.T) {
			d := newDoors(t, c.value, c.part)
			line := only(d.pass(), t)
			pod := d.recordedPod("image-pull", line.Job)
			waiting := pod["status"].(doc)["containerStatuses"].([]any)[0].(doc)["state"].(doc)["waiting"].(doc)
			waiting["message"] = "failed to pull image " + d.text
			d.answerLists([]any{pod}, nil)
			r := d.sweep()
			if row(r, d.id).Action != dispatch.Tell {
				t.Errorf("%+v", r)
			}
			x, err := d.dispatcher().Explain(t.Context(), d.id)
			d.show(r, x, err == nil)
			d.change = limits("ImagePullError", time.Minute)
			d.show(d.sweep(), d.state(d.id).State.Message)
			d.check()
		})
	}
}

// TestConfiguredSecrets: those of the process, and in errors of every kind.
func TestConfiguredSecrets(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.kube.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
		kubetest.Refuse(rw, 401, "Unauthorized", "invalid bearer token open-sesame", nil)
		return true
	})
	w.change = hides("open-sesame")
	r, err := w.tryPass(t.Context())
	checks := w.dispatcher().Doctor(t.Context(), []string{pool})
	ready := w.dispatcher().Ready(t.Context())
	if err == nil || ready == nil {
		t.Fatal(err, ready)
	}
	for _, text := range []string{fmt.Sprintf("%+v", r), err.Error(), fmt.Sprint(checks), ready.Error(), w.log.String()} {
		if strings.Contains(text, "sesame") {
			t.Error(text)
		}
	}
}
