package world

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
)

// beside are Prefect servers beside the world's own, by the names of their lock files.
type beside struct {
	mu      sync.Mutex
	servers map[string]*prefectserver.Server
}

// wide is a service account with rights in all namespaces, once it is asked for.
type wide struct {
	once       sync.Once
	kubeconfig string
	err        error
}

// Beside is a Prefect server of a version beside the world's own, with a database of
// its own: other work pools and flow runs for the same cluster. It is started when it
// is first asked for, and runs until Stop. lock names the version's lock file.
func (w *World) Beside(ctx context.Context, lock string) (*prefectserver.Server, error) {
	w.beside.mu.Lock()
	defer w.beside.mu.Unlock()
	if server := w.beside.servers[lock]; server != nil {
		return server, nil
	}
	server, err := w.startBeside(context.WithoutCancel(ctx), lock)
	if err != nil {
		return nil, fmt.Errorf("start Prefect %s beside the world's own: %w", lock, err)
	}
	if w.beside.servers == nil {
		w.beside.servers = map[string]*prefectserver.Server{}
	}
	w.beside.servers[lock] = server
	return server, nil
}

func (w *World) startBeside(ctx context.Context, lock string) (*prefectserver.Server, error) {
	venv, err := prefectserver.Install(ctx, w.log, lock)
	if err != nil {
		return nil, err
	}
	dir, err := w.sub("beside-" + lock)
	if err != nil {
		return nil, err
	}
	options := prefectserver.Options{Dir: dir}
	if w.postgres != nil {
		if options.Database, err = w.postgres.CreateDatabase(ctx, "beside-"+lock); err != nil {
			return nil, err
		}
	}
	return prefectserver.Start(ctx, venv, options)
}

// ClusterWide is a kubeconfig of a service account with the rights of
// deploy/overlays/cluster-wide. Kubeconfig has those of deploy/namespace.
func (w *World) ClusterWide(ctx context.Context) (string, error) {
	w.wide.once.Do(func() { w.wide.kubeconfig, w.wide.err = w.allowClusterWide(context.WithoutCancel(ctx)) })
	return w.wide.kubeconfig, w.wide.err
}

func (w *World) allowClusterWide(ctx context.Context) (string, error) {
	data, err := os.ReadFile(filepath.Join(Root(), "deploy", "overlays", "cluster-wide", "clusterrole.yaml"))
	if err != nil {
		return "", err
	}
	// Without its binding, which is for the account that has less here.
	role, _, _ := bytes.Cut(data, []byte("\n---\n"))
	if err := w.Cluster.Apply(ctx, "", bytes.NewReader(role)); err != nil {
		return "", err
	}
	const account = "slipway-wide"
	kubeconfig, err := w.Account(ctx, account)
	if err != nil {
		return "", err
	}
	for _, role := range []string{"slipway", "slipway-cluster-id"} {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account + "-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   subject(account),
		}
		if _, err := w.Cluster.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return "", err
		}
	}
	return kubeconfig, nil
}

// Account makes a service account without any rights in Slipway's namespace, and
// returns its kubeconfig.
func (w *World) Account(ctx context.Context, name string) (kubeconfig string, err error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := w.Cluster.Client.CoreV1().ServiceAccounts("slipway").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	kubeconfig = filepath.Join(w.Dir, name+".kubeconfig")
	return kubeconfig, w.Cluster.ServiceAccountKubeconfig(ctx, "slipway", name, kubeconfig)
}

// Allow gives an account of Slipway's namespace the Role of deploy/namespace in a
// namespace, which is made where it does not exist, with the account of its pods.
func (w *World) Allow(ctx context.Context, account, namespace string) error {
	if err := w.Cluster.CreateNamespace(ctx, namespace); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(Root(), "deploy", "namespace", "role.yaml"))
	if err != nil {
		return err
	}
	role, _, _ := bytes.Cut(data, []byte("\n---\n"))
	if err := w.Cluster.Apply(ctx, namespace, bytes.NewReader(role)); err != nil {
		return err
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "slipway"},
		Subjects:   subject(account),
	}
	if _, err := w.Cluster.Client.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return err
	}
	pods := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	_, err = w.Cluster.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, pods, metav1.CreateOptions{})
	return err
}

func subject(account string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "slipway", Name: account}}
}
