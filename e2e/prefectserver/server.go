package prefectserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"slipway/e2e/process"
)

// Options of a Server.
type Options struct {
	Dir      string   // for its files and log
	Database string   // connection URL; "" means SQLite in Dir
	Env      []string // more settings
}

// Server is a running Prefect server. Stop it.
type Server struct {
	Venv *Venv
	URL  string // of the UI
	API  string // PREFECT_API_URL

	spec    process.Spec
	process *process.Process
}

// Start starts a server on a free port of the loopback interface and waits until
// it answers.
func Start(ctx context.Context, v *Venv, o Options) (*Server, error) {
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	url := "http://127.0.0.1:" + strconv.Itoa(port)
	if o.Database == "" {
		o.Database = "sqlite+aiosqlite:///" + filepath.Join(o.Dir, "prefect.db")
	}
	env := append(v.Environ(o.Dir),
		"PREFECT_API_DATABASE_CONNECTION_URL="+o.Database,
		"PREFECT_UI_API_URL=/api", // as deploy/overlays/demo has it
		"PREFECT_SERVER_ANALYTICS_ENABLED=false",
		// Passes come once a minute: queues and deployments stay READY between.
		"PREFECT_SERVER_SERVICES_FOREMAN_DEPLOYMENT_LAST_POLLED_TIMEOUT_SECONDS=180",
		"PREFECT_SERVER_SERVICES_FOREMAN_WORK_QUEUE_LAST_POLLED_TIMEOUT_SECONDS=180",
	)
	s := &Server{Venv: v, URL: url, API: url + "/api", spec: process.Spec{
		Name: "prefect-server", Dir: o.Dir, Env: append(env, o.Env...),
		Args: []string{v.Bin("prefect"), "server", "start", "--host", "127.0.0.1", "--port", strconv.Itoa(port)},
	}}
	return s, s.start(ctx)
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.process, err = process.Start(s.spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := s.process.WaitFor(ctx, "health", func(ctx context.Context) error { return s.Call(ctx, "GET", "/health", nil, nil) }); err != nil {
		s.Stop()
		return err
	}
	return nil
}

// Restart kills the server and starts it again at the same address.
func (s *Server) Restart(ctx context.Context) error {
	s.process.Stop(0)
	return s.start(ctx)
}

// Stop ends the server.
func (s *Server) Stop() { s.process.Stop(5 * time.Second) }

// Tail is the end of the server's log.
func (s *Server) Tail(lines int) string { return s.process.Tail(lines) }

// Environ is what Prefect's programs need of an environment, and nothing of the
// user's own Prefect.
func (v *Venv) Environ(home string) []string {
	return []string{
		"PATH=" + filepath.Dir(v.Bin("x")) + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + home,
		"PREFECT_HOME=" + filepath.Join(home, ".prefect"),
		"DO_NOT_TRACK=1",
		"LANG=C.UTF-8",
		"TMPDIR=" + home,
	}
}

// ClientEnv is the environment of a program that talks to this server.
func (s *Server) ClientEnv(home string) []string {
	return append(s.Venv.Environ(home), "PREFECT_API_URL="+s.API)
}

// String names the server for messages.
func (s *Server) String() string { return fmt.Sprintf("Prefect %s at %s", s.Venv.Version, s.URL) }
