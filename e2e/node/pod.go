package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
)

// pod is a pod that runs, or has run, here.
type pod struct {
	node *Node
	spec *corev1.Pod

	killed   chan struct{} // closed when the pod is to end
	killOnce sync.Once
	grace    time.Duration

	mu     sync.Mutex
	status corev1.PodStatus
}

func newPod(n *Node, spec *corev1.Pod) *pod {
	p := &pod{node: n, spec: spec.DeepCopy(), killed: make(chan struct{})}
	p.status = initialStatus(p.spec)
	return p
}

// kill ends the pod's processes: SIGTERM, and SIGKILL after the grace.
func (p *pod) kill(grace time.Duration) {
	p.killOnce.Do(func() {
		p.grace = grace
		close(p.killed)
	})
}

// run is the pod's life.
func (p *pod) run(ctx context.Context) {
	p.report(ctx)
	if limit := p.spec.Spec.ActiveDeadlineSeconds; limit != nil {
		timer := time.AfterFunc(time.Duration(*limit)*time.Second, func() { p.kill(0) })
		defer timer.Stop()
	}
	ok := true
	for i := range p.spec.Spec.InitContainers {
		if ok = p.container(ctx, &p.spec.Spec.InitContainers[i], &p.status.InitContainerStatuses[i]); !ok {
			break
		}
	}
	if ok {
		p.initialized()
		var all sync.WaitGroup
		for i := range p.spec.Spec.Containers {
			all.Go(func() { p.container(ctx, &p.spec.Spec.Containers[i], &p.status.ContainerStatuses[i]) })
		}
		all.Wait()
	}
	if ctx.Err() != nil {
		return
	}
	p.finished()
	p.report(ctx)
	if current, err := p.node.client.CoreV1().Pods(p.spec.Namespace).Get(ctx, p.spec.Name, metav1.GetOptions{}); err == nil && current.DeletionTimestamp != nil && current.UID == p.spec.UID {
		p.node.remove(ctx, current)
	}
}

// container runs one container to its end, and again as the restart policy has it.
func (p *pod) container(ctx context.Context, c *corev1.Container, status *corev1.ContainerStatus) bool {
	for {
		code, started := p.once(ctx, c, status)
		if code == 0 && started {
			return true
		}
		if p.spec.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || p.over(ctx) {
			return false
		}
		p.set(func() { status.RestartCount++ })
		select {
		case <-time.After(time.Second):
		case <-p.killed:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (p *pod) over(ctx context.Context) bool {
	select {
	case <-p.killed:
		return true
	default:
		return ctx.Err() != nil
	}
}

// once runs a container once, and returns its exit code and whether it ran.
func (p *pod) once(ctx context.Context, c *corev1.Container, status *corev1.ContainerStatus) (int32, bool) {
	cmd, err := p.command(ctx, c)
	if err != nil {
		// Like a kubelet: the container waits, with the reason, until the pod goes.
		var cannot *cannotStart
		reason := "CreateContainerConfigError"
		if errors.As(err, &cannot) {
			reason = cannot.reason
		}
		p.set(func() {
			status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}}
		})
		p.report(ctx)
		select {
		case <-p.killed:
		case <-ctx.Done():
		}
		p.terminated(status, 137, 9, time.Now(), "ContainerStatusUnknown")
		return 137, false
	}
	log, err := os.OpenFile(p.logPath(c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.node.say("log of %s/%s: %v", p.spec.Name, c.Name, err)
		return 128, false
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	started := time.Now()
	if err := cmd.Start(); err != nil {
		p.terminated(status, 128, 0, started, "StartError")
		p.set(func() { status.State.Terminated.Message = err.Error() })
		p.report(ctx)
		return 128, true
	}
	p.running(status, started)
	p.report(ctx)
	code, signal := p.await(ctx, cmd)
	p.terminated(status, code, signal, started, "")
	p.report(ctx)
	return code, true
}

// await waits for a process group, ending it when the pod is to end.
func (p *pod) await(ctx context.Context, cmd *exec.Cmd) (code, signal int32) {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	group := -cmd.Process.Pid
	select {
	case <-done:
	case <-ctx.Done():
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-done
	case <-p.killed:
		_ = syscall.Kill(group, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(p.grace):
			_ = syscall.Kill(group, syscall.SIGKILL)
			<-done
		}
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // what the container left running
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int32(status.Signal()), int32(status.Signal())
	}
	return int32(status.ExitStatus()), 0
}

func (p *pod) logPath(container string) string {
	return filepath.Join(p.node.Dir, string(p.spec.UID)+"_"+container+".log")
}

// patient outlasts a restart of the API server, as a kubelet would.
var patient = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 1.3, Jitter: 0.1, Steps: 25, Cap: 5 * time.Second}

// report writes the status, unless the API has it already.
func (p *pod) report(ctx context.Context) {
	again := func(err error) bool { return ctx.Err() == nil && !apierrors.IsNotFound(err) }
	err := retry.OnError(patient, again, func() error {
		pods := p.node.client.CoreV1().Pods(p.spec.Namespace)
		current, err := pods.Get(ctx, p.spec.Name, metav1.GetOptions{})
		if err != nil || current.UID != p.spec.UID {
			return err
		}
		p.mu.Lock()
		status := *p.status.DeepCopy()
		p.mu.Unlock()
		// The Job controller's conditions on the pod are not ours to drop.
		status.Conditions = append(status.Conditions, foreignConditions(current)...)
		if equality.Semantic.DeepEqual(current.Status, status) {
			return nil
		}
		current.Status = status
		_, err = pods.UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return err
	})
	if err != nil && ctx.Err() == nil {
		p.node.say("status of pod %s/%s: %v", p.spec.Namespace, p.spec.Name, err)
	}
}
