// Command slipway launches due flow runs of Prefect on Kubernetes, a pass at a
// time.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
