package sweep

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// events are those of pods, and what else is written by several looks at once.
type events struct {
	mu  sync.Mutex
	all []prefect.Event
}

// markEnding notes that the pods of a cancelled run are ending.
func (s *sweep) markEnding() {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.report.Ending = true
}

// noteEvents keeps the events of pods for the end of the sweep, as the observer of
// prefect-kubernetes 0.8.0 emits them and under the same ids, so that both may run
// side by side. An event that is there already would run automations again.
func (s *sweep) noteEvents(ctx context.Context, pods []kube.PodStatus) {
	if !s.session.Options.PodEvents || s.session.As != render.V3 {
		return
	}
	for _, pod := range pods {
		event := PodEvent(pod, s.session.Server)
		if event.Occurred.IsZero() {
			event.Occurred = s.session.ServerNow()
		}
		there, err := s.session.Prefect.HasEvent(ctx, event.ID, event.Resource["prefect.resource.id"], pod.Created)
		if err != nil {
			s.miss(err, "the event of pod "+pod.Name+" is not emitted")
			return
		}
		if !there {
			s.events.mu.Lock()
			s.events.all = append(s.events.all, event)
			s.events.mu.Unlock()
		}
	}
}

func (s *sweep) sendEvents(ctx context.Context) {
	if len(s.events.all) == 0 {
		return
	}
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := s.session.Prefect.CreateEvents(ctx, s.events.all); err != nil {
		s.miss(err, "the events of pods are lost")
	}
}

// PodEvent is a pod's event, by its phase (observer.py, _replicate_pod_event). Its
// time is zero if nothing in the pod tells it.
func PodEvent(pod kube.PodStatus, prefectVersion string) prefect.Event {
	e := prefect.Event{
		ID:       podEventID(pod),
		Occurred: pod.Since,
		Resource: map[string]string{
			"prefect.resource.id":   "prefect.kubernetes.pod." + pod.UID,
			"prefect.resource.name": pod.Name,
			"kubernetes.namespace":  pod.Namespace,
		},
		Related: related(pod.Labels, prefectVersion),
	}
	phase := strings.ToLower(pod.Phase)
	if pod.Phase == "Failed" && pod.EndReason != "" {
		phase, e.Resource["kubernetes.reason"] = "evicted", pod.EndReason
	}
	e.Event = "prefect.kubernetes.pod." + phase
	if pod.Diagnosis.KnownToPrefect() {
		e.Resource["kubernetes.diagnosis"] = string(pod.Diagnosis.Category)
	}
	return e
}

// podEventID is a UUIDv5 of what tells a pod's states apart, as Python's json
// writes it.
func podEventID(pod kube.PodStatus) string {
	var diagnosis any
	if pod.Diagnosis.KnownToPrefect() {
		diagnosis = pod.Diagnosis.Category
	}
	var b strings.Builder
	for i, pair := range []struct {
		key   string
		value any
	}{{"diagnosis", diagnosis}, {"phase", pod.Phase}, {"restart_count", pod.Restarts}, {"uid", pod.UID}} {
		value, err := json.Marshal(pair.value)
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		b.WriteString([]string{`{"`, `, "`}[min(i, 1)] + pair.key + `": ` + string(value))
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(b.String()+"}")).String()
}

// related are the resources that a pod's labels name.
func related(labels map[string]string, prefectVersion string) []prefect.RelatedResource {
	related := []prefect.RelatedResource{}
	for _, kind := range []string{"flow-run", "deployment", "flow", "work-pool"} {
		if id := labels["prefect.io/"+kind+"-id"]; id != "" {
			related = append(related, prefect.RelatedResource{
				"prefect.resource.id": "prefect." + kind + "." + id, "prefect.resource.role": kind,
				"prefect.resource.name": labels["prefect.io/"+kind+"-name"],
			})
		}
	}
	if worker := labels["prefect.io/worker-name"]; worker != "" {
		related = append(related, prefect.RelatedResource{
			"prefect.resource.id": "prefect.worker.kubernetes." + slug(worker), "prefect.resource.role": "worker",
			"prefect.resource.name": worker, "prefect.worker-type": "kubernetes", "prefect.version": prefectVersion,
		})
	}
	return related
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug is python-slugify's of a label's value, which is ASCII.
func slug(text string) string {
	return strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
}
