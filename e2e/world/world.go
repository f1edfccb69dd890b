// Package world is the whole system on one machine: a real control plane with a
// process node, a real Prefect server, and Slipway with the rights of its own
// service account.
package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/cluster"
	"slipway/e2e/node"
	"slipway/e2e/prefectserver"
)

// Names of the example in examples/etl.
const (
	Pool      = "worker-pool"
	Namespace = "dev"
	Image     = "etl:1.0"
	Probe     = "probe:1" // a flow run in little, for storms
)

// Options of a World.
type Options struct {
	Postgres bool // for Prefect; SQLite falls to a few claims a second under storms
	NoNode   bool // pods stay Pending: for tests that look at Jobs alone
	Log      io.Writer
}

// World is running; Stop it.
type World struct {
	Dir     string
	Cluster *cluster.Cluster
	Prefect *prefectserver.Server
	Binary  string // slipway

	Kubeconfig string // of Slipway's service account

	node     *node.Node
	postgres *prefectserver.Postgres
	log      io.Writer

	beside beside
	wide   wide
}

// Start builds, installs and starts everything.
func Start(ctx context.Context, o Options) (*World, error) {
	dir, err := os.MkdirTemp("", "slipway-world-")
	if err != nil {
		return nil, err
	}
	// PostgreSQL runs as another user where this one is root.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	w := &World{Dir: dir, log: o.Log}
	if err := w.start(ctx, o); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

func (w *World) start(ctx context.Context, o Options) error {
	if err := preflight(ctx, o); err != nil {
		return err
	}
	var kube string
	var venv *prefectserver.Venv
	if err := parallel(
		func() (err error) { kube, err = cluster.Build(ctx, w.log); return err },
		func() (err error) { venv, err = prefectserver.Install(ctx, w.log, prefectserver.Prefect3); return err },
	); err != nil {
		return err
	}
	w.say("building slipway")
	if err := w.build(ctx); err != nil {
		return err
	}
	w.say("starting the control plane and the Prefect server")
	if err := parallel(
		func() error { return w.startCluster(ctx, kube, venv, o) },
		func() error { return w.startPrefect(ctx, venv, o) },
	); err != nil {
		return err
	}
	return w.seed(ctx)
}

// parallel runs functions at the same time and joins their errors.
func parallel(functions ...func() error) error {
	errs := make([]error, len(functions))
	var all sync.WaitGroup
	for i, f := range functions {
		all.Go(func() { errs[i] = f() })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (w *World) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.log, format+"\n", args...)
}

// Root is the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

func (w *World) build(ctx context.Context) error {
	w.Binary = filepath.Join(w.Dir, "slipway")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "nethttpomithttp2", "-o", w.Binary, "./cmd/slipway") // as the image has it
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build slipway: %w\n%s", err, out)
	}
	return nil
}

// sub makes a folder of the world's own.
func (w *World) sub(name string) (string, error) {
	dir := filepath.Join(w.Dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

func (w *World) startCluster(ctx context.Context, binary string, venv *prefectserver.Venv, o Options) error {
	dir, err := w.sub("cluster")
	if err != nil {
		return err
	}
	if w.Cluster, err = cluster.Start(ctx, binary, dir); err != nil || o.NoNode {
		return err
	}
	home, err := w.sub("pods")
	if err != nil {
		return err
	}
	w.node, err = node.Start(ctx, w.Cluster.AdminConfig(), node.Options{
		Dir:    home,
		Log:    w.log,
		Images: w.images(home, venv),
	})
	return err
}

func (w *World) images(home string, venv *prefectserver.Venv) map[string]node.Image {
	return map[string]node.Image{
		Image: {
			Dir: filepath.Join(Root(), "examples", "etl"),
			Env: map[string]string{
				"PATH":           filepath.Dir(venv.Bin("python")) + ":" + os.Getenv("PATH"),
				"HOME":           home,
				"PREFECT_HOME":   filepath.Join(home, ".prefect"),
				"FLOW_DIRECTORY": filepath.Join(Root(), "examples", "etl"), // as its Dockerfile
				"DO_NOT_TRACK":   "1",
				"LANG":           "C.UTF-8",
				"TMPDIR":         home,
			},
		},
		Probe: {
			Entrypoint: []string{venv.Bin("python"), "-S", "-E", filepath.Join(Root(), "e2e", "world", "probe.py")},
			Dir:        home,
			Env:        map[string]string{"EXECUTIONS": w.executions()},
		},
	}
}

// Use puts a Prefect server of another version, on SQLite, in the place of the
// world's, and its Python into the example's image, until restore is called. env holds
// more settings of the server.
func (w *World) Use(ctx context.Context, venv *prefectserver.Venv, env ...string) (restore func(), err error) {
	dir, err := w.sub("prefect-" + venv.Version)
	if err != nil {
		return nil, err
	}
	other, err := prefectserver.Start(ctx, venv, prefectserver.Options{Dir: dir, Env: env})
	if err != nil {
		return nil, err
	}
	home := filepath.Join(w.Dir, "pods")
	before := w.Prefect
	w.Prefect = other
	w.node.SetImages(w.images(home, venv))
	return func() {
		w.Prefect = before
		w.node.SetImages(w.images(home, before.Venv))
		other.Stop()
	}, nil
}

// SlipwayImage lets pods run Slipway under an image's name, with the token of its
// service account: the process node mounts none.
func (w *World) SlipwayImage(name string) {
	images := w.images(filepath.Join(w.Dir, "pods"), w.Prefect.Venv)
	images[name] = node.Image{Entrypoint: []string{w.Binary}, Dir: w.Dir, Env: map[string]string{"KUBECONFIG": w.Kubeconfig, "HOME": w.Dir}}
	w.node.SetImages(images)
}

func (w *World) executions() string { return filepath.Join(w.Dir, "executions") }

// Executions counts how often the probe image ran, by flow run.
func (w *World) Executions() (map[string]int, error) {
	data, err := os.ReadFile(w.executions())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	counts := map[string]int{}
	for id := range strings.FieldsSeq(string(data)) {
		counts[id]++
	}
	return counts, nil
}

func (w *World) startPrefect(ctx context.Context, venv *prefectserver.Venv, o Options) error {
	dir, err := w.sub("prefect")
	if err != nil {
		return err
	}
	database := ""
	if o.Postgres {
		data, err := w.sub("postgres")
		if err != nil {
			return err
		}
		if w.postgres, err = prefectserver.StartPostgres(ctx, data); err != nil {
			return err
		}
		database = w.postgres.URL
	}
	w.Prefect, err = prefectserver.Start(ctx, venv, prefectserver.Options{Dir: dir, Database: database})
	return err
}

// seed creates what an administrator would: the namespace with its service
// account, Slipway's own account and rights from deploy/, and the work pool.
func (w *World) seed(ctx context.Context) error {
	for _, name := range []string{Namespace, "slipway"} {
		if err := w.Cluster.CreateNamespace(ctx, name); err != nil {
			return err
		}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	if _, err := w.Cluster.Client.CoreV1().ServiceAccounts(Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, file := range []string{"base/serviceaccount.yaml", "base/cluster-id.yaml", "namespace/role.yaml"} {
		data, err := os.ReadFile(filepath.Join(Root(), "deploy", file))
		if err != nil {
			return err
		}
		if err := w.Cluster.Apply(ctx, Namespace, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	w.Kubeconfig = filepath.Join(w.Dir, "slipway.kubeconfig")
	if err := w.Cluster.ServiceAccountKubeconfig(ctx, "slipway", "slipway", w.Kubeconfig); err != nil {
		return err
	}
	return w.CreatePool(ctx, Pool)
}

// CreatePool makes a work pool with the example's base job template.
func (w *World) CreatePool(ctx context.Context, name string) error {
	template, err := Template()
	if err != nil {
		return err
	}
	return w.Prefect.CreatePool(ctx, name, template)
}

// Template is the example's base job template.
func Template() (json.RawMessage, error) {
	return os.ReadFile(filepath.Join(Root(), "examples", "etl", "base-job-template.json"))
}

// Stop ends everything and removes its files.
func (w *World) Stop() {
	if w.node != nil {
		w.node.Stop()
	}
	if w.Prefect != nil {
		w.Prefect.Stop()
	}
	for _, server := range w.beside.servers {
		server.Stop()
	}
	if w.postgres != nil {
		w.postgres.Stop()
	}
	if w.Cluster != nil {
		w.Cluster.Stop()
	}
	_ = os.RemoveAll(w.Dir)
}
