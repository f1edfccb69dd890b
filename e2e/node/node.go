// Package node is a process node: it stands in for a kubelet where no container
// runtime is to be had. It binds pods to itself and runs their containers'
// commands as local processes. It keeps to what a kubelet may do: it reads pods,
// Secrets and ConfigMaps, writes the status of its Node and of its pods, and never
// looks at a Job. There is no isolation, no image is pulled, and a pod that asks
// for what it cannot do fails with a reason.
package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Image says how containers of an image are run here.
type Image struct {
	Entrypoint []string          // before the container's args, where it has no command
	Env        map[string]string // as an image's ENV
	Dir        string            // as WORKDIR
}

// Options of a Node.
type Options struct {
	Name   string // "" means process-node
	Dir    string // for the containers' logs
	Images map[string]Image
	Log    io.Writer
}

// Node is a running node. Stop it.
type Node struct {
	Options
	client kubernetes.Interface
	logs   net.Listener
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*pod
}

const resync = 3 * time.Second

// Start registers a Node and begins to run pods.
func Start(ctx context.Context, cfg *rest.Config, o Options) (*Node, error) {
	if o.Name == "" {
		o.Name = "process-node"
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = o.Name
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{Options: o, client: client, pods: map[types.UID]*pod{}}
	if err := n.serveLogs(); err != nil {
		return nil, err
	}
	if err := n.register(ctx); err != nil {
		_ = n.logs.Close()
		return nil, fmt.Errorf("register the node: %w", err)
	}
	// The node lives until Stop, whatever becomes of the caller's context.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	// Seen again and again, a pod that could not be bound is bound in the end.
	informer := informers.NewSharedInformerFactory(client, resync).Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { n.saw(run, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { n.saw(run, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) { n.lost(o) },
	}); err != nil {
		return nil, err
	}
	n.work.Go(func() { informer.Run(run.Done()) })
	return n, nil
}

// SetImages changes what later containers run.
func (n *Node) SetImages(images map[string]Image) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Images = images
}

func (n *Node) image(name string) (Image, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	image, ok := n.Images[name]
	return image, ok
}

// Stop ends all containers and the node.
func (n *Node) Stop() {
	n.cancel()
	n.mu.Lock()
	for _, p := range n.pods {
		p.kill(0)
	}
	n.mu.Unlock()
	n.work.Wait()
	_ = n.logs.Close()
}

func (n *Node) register(ctx context.Context) error {
	port := int32(n.logs.Addr().(*net.TCPAddr).Port)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{"kubernetes.io/hostname": n.Name}}}
	created, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("500")}
	created.Status = corev1.NodeStatus{
		Capacity:        capacity,
		Allocatable:     capacity,
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
		NodeInfo:        corev1.NodeSystemInfo{KubeletVersion: "process-node", ContainerRuntimeVersion: "processes://1"},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "ProcessNode",
			Message: "runs processes, not containers", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
	}
	_, err = n.client.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

// saw takes the newest version of a pod.
func (n *Node) saw(ctx context.Context, spec *corev1.Pod) {
	switch {
	case spec.Spec.NodeName == "" && spec.DeletionTimestamp == nil && len(spec.Spec.SchedulingGates) == 0:
		n.bind(ctx, spec)
	case spec.Spec.NodeName == n.Name:
		n.runOrStop(ctx, spec)
	}
}

func (n *Node) bind(ctx context.Context, spec *corev1.Pod) {
	err := n.client.CoreV1().Pods(spec.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: spec.Name, Namespace: spec.Namespace, UID: spec.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: n.Name},
	}, metav1.CreateOptions{})
	// A conflict: seen twice, it is bound already.
	if err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
		n.say("pod %s/%s could not be bound: %v", spec.Namespace, spec.Name, err)
	}
}

func (n *Node) runOrStop(ctx context.Context, spec *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[spec.UID]
	if p == nil && spec.Status.Phase != corev1.PodSucceeded && spec.Status.Phase != corev1.PodFailed {
		p = newPod(n, spec)
		n.pods[spec.UID] = p
		n.work.Go(func() { p.run(ctx) })
	}
	if spec.DeletionTimestamp == nil {
		return
	}
	if p == nil {
		n.work.Go(func() { n.remove(ctx, spec) })
		return
	}
	grace := time.Duration(0)
	if spec.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*spec.DeletionGracePeriodSeconds) * time.Second
	}
	p.kill(grace)
}

// lost: a pod that is gone from the API has its processes ended.
func (n *Node) lost(object any) {
	if tomb, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tomb.Obj
	}
	spec, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pods[spec.UID]; p != nil {
		p.kill(0)
		delete(n.pods, spec.UID)
	}
}

// remove is a kubelet's last word on a pod that is being deleted.
func (n *Node) remove(ctx context.Context, spec *corev1.Pod) {
	now := int64(0)
	uid := spec.UID
	err := n.client.CoreV1().Pods(spec.Namespace).Delete(ctx, spec.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && ctx.Err() == nil {
		n.say("pod %s/%s could not be removed: %v", spec.Namespace, spec.Name, err)
	}
}

func (n *Node) say(format string, args ...any) {
	if n.Log != nil {
		_, _ = fmt.Fprintf(n.Log, "%s: "+format+"\n", append([]any{n.Name}, args...)...)
	}
}
