package kube

// NotSucceeded is a field selector that leaves out Jobs of which a pod has
// succeeded: nearly all finished ones (Kubernetes 1.36, registry/batch/job/strategy.go).
const NotSucceeded = "status.successful=0"
