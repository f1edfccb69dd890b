//go:build kube

// Command kube is a real Kubernetes control plane in one multi-call binary: it
// is linked from the official modules and behaves as the component whose name
// it is started under (etcd, kube-apiserver, kube-controller-manager).
//
// It has a build tag of its own so that ./... leaves it out: else a plain go test,
// go build or go vet in this module would compile all of Kubernetes for its own
// settings, which takes minutes. Package cluster builds it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	var command *cobra.Command
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	default:
		fmt.Fprintf(os.Stderr, "kube: no component is called %q\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}
