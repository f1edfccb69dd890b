package world

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
)

// PodLogs are the logs of the pods that a selector finds in a namespace, or in all (""), by pod.
func (w *World) PodLogs(ctx context.Context, namespace, selector string) (map[string]string, error) {
	core := w.Cluster.Client.CoreV1()
	found, err := core.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	logs := map[string]string{}
	for _, pod := range found.Items {
		log, err := core.Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return nil, err
		}
		logs[pod.Name] = string(log)
	}
	return logs, nil
}

// Story is what the servers say of a flow run: for the message of a test that
// waited for it in vain.
func (w *World) Story(ctx context.Context, run string) string { return w.StoryOf(ctx, w.Prefect, run) }

// StoryOf is the Story of a flow run of a server.
func (w *World) StoryOf(ctx context.Context, server *prefectserver.Server, run string) string {
	var story strings.Builder
	states, err := server.States(ctx, run)
	if err != nil {
		return err.Error()
	}
	for _, s := range states {
		story.WriteString("state " + s.Name + " at " + s.Timestamp.Format("15:04:05.000") + " " + s.Message + "\n")
	}
	logs, err := w.PodLogs(ctx, "", "prefect.io/flow-run-id="+run)
	if err != nil {
		story.WriteString(err.Error())
	}
	for pod, log := range logs {
		story.WriteString("pod " + pod + ":\n" + log)
	}
	return story.String() + "Prefect's log ends with:\n" + server.Tail(30)
}
