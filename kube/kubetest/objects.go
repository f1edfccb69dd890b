package kubetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

func (s *Server) create(w http.ResponseWriter, r *http.Request) (int, Doc) {
	namespace, resource := r.PathValue("namespace"), r.PathValue("resource")
	var object Doc
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		return 400, status(400, "BadRequest", err.Error(), nil)
	}
	metadata, _ := object["metadata"].(Doc)
	name, _ := metadata["name"].(string)
	if given, _ := metadata["namespace"].(string); given != "" && given != namespace {
		return 400, status(400, "BadRequest", fmt.Sprintf("the namespace of the provided object does not match the namespace sent on the request (%s)", given), nil)
	}
	if !s.namespaces[namespace] {
		return noNamespace(namespace)
	}
	if resource == "jobs" {
		if code, refusal := validate(w, name, object); refusal != nil {
			return code, refusal
		}
	}
	key := resource + "/" + namespace + "/" + name
	if _, there := s.objects[key]; there {
		return 409, status(409, "AlreadyExists", fmt.Sprintf("%s %q already exists", resource, name), Doc{"name": name, "kind": resource})
	}
	if r.URL.Query().Get("dryRun") == "All" {
		return 201, object
	}
	s.created++
	metadata["namespace"] = namespace
	metadata["uid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", s.created)
	metadata["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	s.objects[key] = object
	return 201, object
}

// validate refuses an empty image, and prunes some unknown fields from a pod's spec,
// with a warning.
func validate(w http.ResponseWriter, name string, job Doc) (int, Doc) {
	pod := dig(job, "spec", "template", "spec")
	for _, field := range []string{"completions", "parallelism"} {
		if _, there := pod[field]; there {
			w.Header().Add("Warning", fmt.Sprintf(`299 - "unknown field \"spec.template.spec.%s\""`, field))
			delete(pod, field)
		}
	}
	containers, _ := pod["containers"].([]any)
	if len(containers) > 0 {
		container, _ := containers[0].(Doc)
		if image, _ := container["image"].(string); image == "" {
			return 422, status(422, "Invalid", fmt.Sprintf(`Job.batch %q is invalid: spec.template.spec.containers[0].image: Required value`, name), Doc{"name": name, "group": "batch", "kind": "Job"})
		}
	}
	return 0, nil
}

func (s *Server) get(_ http.ResponseWriter, r *http.Request) (int, Doc) {
	resource, name := r.PathValue("resource"), r.PathValue("name")
	object, there := s.objects[resource+"/"+r.PathValue("namespace")+"/"+name]
	if !there {
		return 404, status(404, "NotFound", fmt.Sprintf("%s %q not found", resource, name), Doc{"name": name, "kind": resource})
	}
	return 200, object
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request) (int, Doc) {
	code, object := s.get(w, r)
	var options struct {
		Preconditions struct {
			UID string `json:"uid"`
		} `json:"preconditions"`
	}
	_ = json.NewDecoder(r.Body).Decode(&options) // a body is optional
	if uid := options.Preconditions.UID; code == 200 && uid != "" && uid != dig(object, "metadata")["uid"] {
		return 409, status(409, "Conflict", "the UID in the precondition does not match the UID in record", Doc{"name": r.PathValue("name"), "kind": r.PathValue("resource")})
	}
	if code == 200 {
		delete(s.objects, r.PathValue("resource")+"/"+r.PathValue("namespace")+"/"+r.PathValue("name"))
		return 200, Doc{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	}
	return code, object
}
