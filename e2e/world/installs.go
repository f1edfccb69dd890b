package world

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
)

// second is a Prefect server beside the world's own, once it is asked for.
type second struct {
	once   sync.Once
	server *prefectserver.Server
	err    error
}

// wide is a service account with rights in all namespaces, once it is asked for.
type wide struct {
	once       sync.Once
	kubeconfig string
	err        error
}

// Second is a second Prefect server of the same version, with a database of its
// own: other work pools and flow runs for the same cluster. It runs until Stop.
func (w *World) Second(ctx context.Context) (*prefectserver.Server, error) {
	w.second.once.Do(func() { w.second.server, w.second.err = w.startSecond(context.WithoutCancel(ctx)) })
	return w.second.server, w.second.err
}

func (w *World) startSecond(ctx context.Context) (*prefectserver.Server, error) {
	dir, err := w.sub("second")
	if err != nil {
		return nil, err
	}
	options := prefectserver.Options{Dir: dir}
	if w.postgres != nil {
		if options.Database, err = w.postgres.CreateDatabase(ctx, "second"); err != nil {
			return nil, err
		}
	}
	return prefectserver.Start(ctx, w.Prefect.Venv, options)
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
