package kubetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// ExpireLists makes the continue tokens given so far expire, as a real server's do
// after some minutes: the next page is answered 410.
func (s *Server) ExpireLists() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listings++
}

// list answers with the objects that both selectors match, by namespace and name.
// It knows limit and continue. Unlike a real server's, its pages are not of one
// moment.
func (s *Server) list(_ http.ResponseWriter, r *http.Request) (int, Doc) {
	resource := cmp.Or(r.PathValue("resource"), "jobs")
	matches, err := selector(resource, r.URL.Query().Get("labelSelector"), r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return 400, status(400, "BadRequest", err.Error(), nil)
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit")) // 0: all
	from, valid := s.begin(r.URL.Query().Get("continue"))
	if !valid {
		return 410, status(410, "Expired", "The provided continue parameter is too old to display a consistent list result.", nil)
	}
	prefix := resource + "/"
	if namespace := r.PathValue("namespace"); namespace != "" {
		prefix += namespace + "/"
	}
	items, metadata := []Doc{}, Doc{"resourceVersion": "1"}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if object := s.objects[key]; key > from && strings.HasPrefix(key, prefix) && matches(object) {
			if limit > 0 && len(items) == limit {
				metadata["continue"] = fmt.Sprintf("%d:%s", s.listings, from)
				break
			}
			items, from = append(items, object), key
		}
	}
	kind := map[string]string{"jobs": "JobList", "pods": "PodList", "events": "EventList", "secrets": "SecretList"}[resource]
	version := map[string]string{"jobs": "batch/v1"}[resource]
	return 200, Doc{"kind": kind, "apiVersion": cmp.Or(version, "v1"), "metadata": metadata, "items": items}
}

// begin returns the key after which a page begins. It is not valid if the token has
// expired.
func (s *Server) begin(token string) (from string, valid bool) {
	if token == "" {
		return "", true
	}
	listing, from, _ := strings.Cut(token, ":")
	return from, listing == strconv.Itoa(s.listings)
}

// selectableFields are some of those that a real server knows (Kubernetes 1.36).
// status.successful is the field status.succeeded of a Job.
var selectableFields = map[string][]string{
	"jobs":    {"metadata.name", "metadata.namespace", "status.successful"},
	"pods":    {"metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"},
	"events":  {"metadata.name", "metadata.namespace", "involvedObject.kind", "involvedObject.name", "involvedObject.uid", "reason", "type"},
	"secrets": {"metadata.name", "metadata.namespace", "type"},
}

func selector(resource, labelSelector, fieldSelector string) (func(Doc) bool, error) {
	byLabel, err := labels.Parse(labelSelector)
	if err != nil {
		return nil, err
	}
	byField, err := fields.ParseSelector(fieldSelector)
	if err != nil {
		return nil, err
	}
	for _, requirement := range byField.Requirements() {
		if !slices.Contains(selectableFields[resource], requirement.Field) {
			return nil, fmt.Errorf("field label not supported: %s", requirement.Field)
		}
	}
	return func(object Doc) bool {
		set, values := labels.Set{}, fields.Set{}
		for key, value := range dig(object, "metadata", "labels") {
			set[key] = fmt.Sprint(value)
		}
		for _, field := range selectableFields[resource] {
			values[field] = valueOf(object, field)
		}
		return byLabel.Matches(set) && byField.Matches(values)
	}, nil
}

func valueOf(object Doc, field string) string {
	if field == "status.successful" {
		return number(dig(object, "status")["succeeded"])
	}
	keys := strings.Split(field, ".")
	value, there := dig(object, keys[:len(keys)-1]...)[keys[len(keys)-1]]
	if !there {
		return ""
	}
	return fmt.Sprint(value)
}

// number is 0 for a missing one, as in Go's structs.
func number(v any) string {
	if v == nil {
		return "0"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
