package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// LoadConfig finds the API server as kubectl and the Python worker do: the
// files of kubeconfig (the value of KUBECONFIG, a list separated as PATH is)
// when it is not empty; else the service account of the pod; else
// ~/.kube/config. The error says what was tried.
func LoadConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return fromFiles(filepath.SplitList(kubeconfig))
	}
	cfg, err := rest.InClusterConfig()
	if err == nil {
		return cfg, nil
	}
	if !errors.Is(err, rest.ErrNotInCluster) {
		return nil, fmt.Errorf("the pod's service account cannot be used: %w", err)
	}
	if _, err := os.Stat(clientcmd.RecommendedHomeFile); err != nil {
		return nil, fmt.Errorf("no Kubernetes API server is configured: KUBECONFIG is not set, this is no pod with a service account, and there is no %s", clientcmd.RecommendedHomeFile)
	}
	return fromFiles([]string{clientcmd.RecommendedHomeFile})
}

func fromFiles(paths []string) (*rest.Config, error) {
	exists := func(path string) bool { _, err := os.Stat(path); return !errors.Is(err, os.ErrNotExist) }
	if !slices.ContainsFunc(paths, exists) {
		return nil, fmt.Errorf("KUBECONFIG %v cannot be used: there is no such file", paths)
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: paths}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG %v cannot be used: %w", paths, err)
	}
	return cfg, nil
}
