package prefecttest_test

import (
	"testing"

	"slipway/prefect/prefecttest"
	"slipway/prefect/prefecttest/contract"
)

func TestContract(t *testing.T) { contract.Run(t, prefecttest.New(t).URL) }

func TestContractCatchesEachMissingRule(t *testing.T) {
	for _, rule := range prefecttest.Rules() {
		t.Run(rule, func(t *testing.T) {
			server := prefecttest.New(t, prefecttest.Without(rule))
			for _, row := range contract.Table {
				if contract.Check(row, server.URL) != "" {
					return
				}
			}
			t.Errorf("no row fails without the rule %q", rule)
		})
	}
}
