package prefecttest

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// routes is all that the server answers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, e := range map[string]endpoint{
		"GET /api/health":                                              s.health,
		"GET /api/admin/version":                                       s.version,
		"GET /api/csrf-token":                                          s.csrfToken,
		"POST /api/work_pools/{$}":                                     s.createPool,
		"GET /api/work_pools/{name}":                                   s.readPool,
		"PATCH /api/work_pools/{name}":                                 s.patchPool,
		"POST /api/work_pools/{name}/queues":                           s.createQueue,
		"POST /api/work_pools/{name}/queues/{$}":                       s.createQueue,
		"PATCH /api/work_pools/{name}/queues/{queue}":                  s.patchQueue,
		"POST /api/work_pools/{name}/queues/filter":                    s.filterQueues,
		"POST /api/work_pools/{name}/workers/heartbeat":                s.heartbeat,
		"POST /api/work_pools/{name}/workers/filter":                   s.filterWorkers,
		"POST /api/work_pools/{name}/get_scheduled_flow_runs":          s.poll,
		"POST /api/flows/{$}":                                          s.createFlow,
		"GET /api/flows/{id}":                                          s.readFlow,
		"POST /api/flows/filter":                                       s.filterFlows,
		"POST /api/deployments/{$}":                                    s.createDeployment,
		"GET /api/deployments/name/{flow}/{name}":                      s.readDeploymentByName,
		"GET /api/deployments/{id}":                                    s.readDeployment,
		"DELETE /api/deployments/{id}":                                 s.deleteDeployment,
		"POST /api/deployments/filter":                                 s.filterDeployments,
		"POST /api/deployments/{id}/create_flow_run":                   s.createDeploymentRun,
		"POST /api/flow_runs/{$}":                                      s.createRun,
		"GET /api/flow_runs/{id}":                                      s.readRun,
		"PATCH /api/flow_runs/{id}":                                    s.patchRun,
		"PATCH /api/flow_runs/{id}/labels":                             s.patchLabels,
		"POST /api/events":                                             s.createEvents,
		"DELETE /api/flow_runs/{id}":                                   s.deleteRun,
		"POST /api/flow_runs/filter":                                   s.filterRuns,
		"POST /api/flow_runs/{id}/set_state":                           s.setState,
		"GET /api/flow_run_states/{$}":                                 s.listStates,
		"POST /api/logs/{$}":                                           s.createLogs,
		"POST /api/logs/filter":                                        s.filterLogs,
		"POST /api/events/filter":                                      s.filterEvents,
		"GET /api/variables/name/{name}":                               s.readVariable,
		"GET /api/block_documents/{id}":                                s.readBlock,
		"GET /api/block_types/slug/{slug}/block_documents/name/{name}": s.readBlockByName,
	} {
		mux.HandleFunc(pattern, s.handle(e))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, Doc{"detail": "Not Found"})
	})
	return s.guard(mux)
}

var versionShape = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)$`)

// guard checks what comes before any route: credentials, version, CSRF token.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(s.auth))
		if s.auth != "" && r.URL.Path != "/api/health" && r.Header.Get("Authorization") != want {
			answer(w, http.StatusUnauthorized, Doc{"exception_message": "Unauthorized"})
			return
		}
		if v := r.Header.Get("X-PREFECT-API-VERSION"); v != "" && s.has("API version") {
			if !versionShape.MatchString(v) || strings.HasPrefix(v, "0.") && v < "0.8.0" {
				answer(w, http.StatusBadRequest, Doc{"detail": "The client's API version " + v + " is not supported."})
				return
			}
		}
		if words := s.csrfFault(r); words != "" {
			answer(w, http.StatusForbidden, Doc{"detail": words})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) csrfFault(r *http.Request) string {
	if s.csrf == nil || r.Method == http.MethodGet {
		return ""
	}
	token, client := r.Header.Get("Prefect-Csrf-Token"), r.Header.Get("Prefect-Csrf-Client")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case token == "":
		return "Missing CSRF token."
	case client == "":
		return "Missing client identifier."
	case s.csrf[client] != token:
		return "Invalid CSRF token or client identifier."
	}
	return ""
}

func (s *Server) csrfToken(r *http.Request, _ Doc) (int, any, *fault) {
	if s.csrf == nil {
		return 0, nil, &fault{http.StatusUnprocessableEntity, Doc{"detail": "CSRF protection is disabled."}}
	}
	client := r.URL.Query().Get("client")
	s.csrf[client] = strings.ReplaceAll(uuid.NewString()+uuid.NewString(), "-", "")
	return http.StatusOK, Doc{"token": s.csrf[client], "client": client}, nil
}

func (s *Server) health(*http.Request, Doc) (int, any, *fault) { return http.StatusOK, true, nil }

func (s *Server) version(*http.Request, Doc) (int, any, *fault) { return http.StatusOK, "3.8.8", nil }
