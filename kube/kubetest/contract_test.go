package kubetest_test

import (
	"testing"

	"slipway/kube"
	"slipway/kube/kubetest"
	"slipway/kube/kubetest/contract"
)

func TestContract(t *testing.T) {
	client, err := kube.New(kubetest.New(t, "dev").Config(), kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	contract.Run(t, client, "dev")
}
