package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"slipway/e2e/world"
)

// built is what `kubectl kustomize` makes of a folder of deploy/: a document for
// each object.
func built(t *testing.T, folder string) [][]byte {
	t.Helper()
	all, err := world.Overlay(folder)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func overlays(t *testing.T) []string {
	t.Helper()
	folders, err := os.ReadDir(filepath.Join(world.Root(), "deploy", "overlays"))
	if err != nil || len(folders) < 7 {
		t.Fatalf("%d overlays, %v", len(folders), err)
	}
	all := []string{"namespace"}
	for _, f := range folders {
		all = append(all, "overlays/"+f.Name())
	}
	return append(all, "doctor")
}

// strictly decodes a document: an unknown or doubled field is an error. Knative's
// own kind holds a pod's spec.
func strictly(t *testing.T, data []byte) runtime.Object {
	t.Helper()
	if bytes.Contains(data, []byte("apiVersion: serving.knative.dev/v1")) {
		return knative(t, data)
	}
	object, _, err := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	return object
}

func knative(t *testing.T, data []byte) runtime.Object {
	t.Helper()
	var service struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Template struct {
				metav1.ObjectMeta `json:"metadata"`
				Spec              struct {
					corev1.PodSpec       `json:",inline"`
					ContainerConcurrency int `json:"containerConcurrency"`
					TimeoutSeconds       int `json:"timeoutSeconds"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(data, &service); err != nil {
		t.Fatal(err)
	}
	if service.Spec.Template.Spec.SecurityContext != nil {
		t.Error("Knative refuses a pod's securityContext unless its feature is switched on")
	}
	return &corev1.PodTemplate{Template: corev1.PodTemplateSpec{Spec: service.Spec.Template.Spec.PodSpec}}
}

// podOf is the pod that an object makes; nil if it makes none.
func podOf(object runtime.Object) *corev1.PodSpec {
	switch o := object.(type) {
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *corev1.PodTemplate:
		return &o.Template.Spec
	}
	return nil
}

// TestOverlays: every manifest is decoded strictly, is taken by the real API
// server, tried first and then for real, and its pods by a namespace that enforces
// the Pod Security Standard "restricted".
func TestOverlays(t *testing.T) {
	enforce(t)
	for _, folder := range overlays(t) {
		t.Run(folder, func(t *testing.T) {
			pods := 0
			for _, data := range built(t, folder) {
				object := strictly(t, data)
				if spec := podOf(object); spec != nil {
					pods++
					admitted(t, spec)
				}
				if bytes.Contains(data, []byte("serving.knative.dev")) {
					continue // no Knative here
				}
				if _, is := object.(*corev1.Namespace); !is {
					if err := w.Cluster.TryApply(t.Context(), "dev", bytes.NewReader(data)); err != nil {
						t.Errorf("dry run: %v", err)
					}
				}
				if err := w.Cluster.Apply(t.Context(), "dev", bytes.NewReader(data)); err != nil {
					t.Errorf("%v in:\n%s", err, data)
				}
				t.Cleanup(func() { idle(t, object) })
			}
			if pods == 0 && folder != "namespace" {
				t.Error("it starts nothing")
			}
		})
	}
}

// enforce makes the namespace in which pods are tried.
func enforce(t *testing.T) {
	t.Helper()
	manifest := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"restricted","labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`
	if err := w.Cluster.Apply(t.Context(), "", strings.NewReader(manifest)); err != nil {
		t.Fatal(err)
	}
	open := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	eventually(t, "the default service account", func() bool {
		_, err := w.Cluster.Client.CoreV1().ServiceAccounts("restricted").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	if _, err := w.Cluster.Client.CoreV1().Pods("restricted").Create(t.Context(), open, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Fatalf("the namespace enforces nothing: %v", err)
	}
}

func admitted(t *testing.T, spec *corev1.PodSpec) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "tried"}, Spec: *spec.DeepCopy()}
	pod.Spec.ServiceAccountName = "" // it is not in that namespace
	for _, claim := range pod.Spec.Containers[0].VolumeMounts {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == claim.Name }) { // a StatefulSet's
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		}
	}
	if _, err := w.Cluster.Client.CoreV1().Pods("restricted").Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Error(err)
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if c.SecurityContext == nil || strings.HasPrefix(c.Image, "slipway:") && (c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem) {
			t.Errorf("container %s may write its root", c.Name)
		}
	}
}

// idle takes away what would start pods for as long as the tests run, and the rights
// that other tests go without.
func idle(t *testing.T, object runtime.Object) {
	background := metav1.DeletePropagationBackground
	o := metav1.DeleteOptions{PropagationPolicy: &background}
	ctx := contextAfter(t)
	var err error
	switch one := object.(type) {
	case *batchv1.CronJob:
		err = w.Cluster.Client.BatchV1().CronJobs(one.Namespace).Delete(ctx, one.Name, o)
	case *batchv1.Job:
		err = w.Cluster.Client.BatchV1().Jobs(one.Namespace).Delete(ctx, one.Name, o)
	case *appsv1.Deployment:
		err = w.Cluster.Client.AppsV1().Deployments(one.Namespace).Delete(ctx, one.Name, o)
	case *appsv1.StatefulSet:
		err = w.Cluster.Client.AppsV1().StatefulSets(one.Namespace).Delete(ctx, one.Name, o)
	case *rbacv1.ClusterRoleBinding:
		if one.Name == "slipway" {
			err = w.Cluster.Client.RbacV1().ClusterRoleBindings().Delete(ctx, one.Name, o)
		}
	case *rbacv1.RoleBinding:
		if one.Namespace == "default" {
			err = w.Cluster.Client.RbacV1().RoleBindings(one.Namespace).Delete(ctx, one.Name, o)
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

// TestCronJob: the real controller fires the CronJob of deploy/, its passes find
// the runs of their minute ahead of time, and all of them end COMPLETED.
func TestCronJob(t *testing.T) {
	t.Parallel() // it mostly waits
	d := pool(t, "cron", nil)
	w.SlipwayImage("slipway:latest")
	minute := time.Now().Truncate(time.Minute)
	var ids []string
	var dues []time.Time
	for offset := 75 * time.Second; offset < 180*time.Second; offset += 15 * time.Second {
		due := minute.Add(offset)
		ids, dues = append(ids, runs(t, d, 1, due)...), append(dues, due)
	}
	for _, data := range built(t, "overlays/cronjob") {
		data = bytes.ReplaceAll(data, []byte("http://prefect-server.prefect.svc:4200/api"), []byte(w.Prefect.API))
		data = bytes.ReplaceAll(data, []byte("SLIPWAY_WORK_POOLS: worker-pool"), []byte("SLIPWAY_WORK_POOLS: cron"))
		if err := w.Cluster.Apply(t.Context(), "", bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { idle(t, strictly(t, data)) })
	}
	var late []time.Duration
	for i, run := range completed(t, ids) {
		late = append(late, run.StartTime.Sub(dues[i]).Round(10*time.Millisecond))
	}
	slices.Sort(late)
	t.Logf("started from when they were due: median %s, all %v", late[len(late)/2], late)
	once(t, "cron-", ids)
	passes, err := w.Cluster.Client.BatchV1().Jobs("slipway").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=slipway"})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := w.Cluster.Client.CoreV1().Pods("slipway").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=slipway"})
	if err != nil || len(pods.Items) == 0 || len(passes.Items) == 0 {
		t.Fatalf("%d passes, %d pods, %v", len(passes.Items), len(pods.Items), err)
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodFailed {
			t.Errorf("the pass of pod %s failed: %+v", pod.Name, pod.Status.ContainerStatuses)
		}
	}
}

// TestDemoDeploysFlows: the Job of the demo makes the pool and deploys the flows,
// and may be applied again.
func TestDemoDeploysFlows(t *testing.T) {
	flows := filepath.Join(world.Root(), "examples", "etl")
	for range 2 {
		for _, data := range built(t, "overlays/demo") {
			job, is := strictly(t, data).(*batchv1.Job)
			if !is {
				continue
			}
			data = bytes.ReplaceAll(data, []byte("http://svc-prefect.dev.svc:4200/api"), []byte(w.Prefect.API))
			data = bytes.ReplaceAll(data, []byte("workingDir: /home"), []byte("workingDir: "+flows))
			data = bytes.ReplaceAll(data, []byte("value: /tmp/prefect"), []byte("value: "+t.TempDir()))
			if err := w.Cluster.Apply(t.Context(), "", bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			jobs := w.Cluster.Client.BatchV1().Jobs(job.Namespace)
			eventually(t, "the end of the Job", func() bool {
				now, err := jobs.Get(t.Context(), job.Name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if now.Status.Failed > 0 {
					logs, err := w.PodLogs(t.Context(), job.Namespace, "job-name="+job.Name)
					t.Fatal(logs, err)
				}
				return now.Status.Succeeded == 1
			})
			idle(t, job)
			eventually(t, "the end of its object", func() bool {
				_, err := jobs.Get(t.Context(), job.Name, metav1.GetOptions{})
				return err != nil
			})
		}
	}
	var found []struct{ Name string }
	filter := map[string]any{"work_pools": map[string]any{"name": map[string]any{"any_": []string{world.Pool}}}}
	if err := w.Prefect.Call(t.Context(), "POST", "/deployments/filter", filter, &found); err != nil || len(found) != 2 {
		t.Errorf("deployments: %v, %v", found, err)
	}
}

// TestUIReachesTheAPI: the UI is told of an API at its own address, whatever that is
// to a browser.
func TestUIReachesTheAPI(t *testing.T) {
	resp, err := http.Get(w.Prefect.URL + "/ui-settings")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var settings struct {
		API string `json:"api_url"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&settings); err != nil || settings.API != "/api" {
		t.Errorf("the UI asks %q, %v", settings.API, err)
	}
}

// roleIsUsed holds the Role of deploy/ to what Slipway was seen to do in all the
// tests of this run: not a verb less, and not one more.
func roleIsUsed() error {
	data, err := os.ReadFile(filepath.Join(world.Root(), "deploy", "namespace", "role.yaml"))
	if err != nil {
		return err
	}
	var role rbacv1.Role
	first, _, _ := bytes.Cut(data, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(first, &role); err != nil {
		return err
	}
	granted, used := map[string]bool{}, map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				granted[strings.Trim(rule.APIGroups[0]+"/"+resource, "/")+" "+verb] = true
			}
		}
	}
	requests, err := w.Cluster.SlipwayRequests()
	if err != nil {
		return err
	}
	for _, r := range requests {
		resource := strings.Trim(r.ObjectRef.APIGroup+"/"+r.ObjectRef.Resource+"/"+r.ObjectRef.Subresource, "/")
		used[resource+" "+r.Verb] = true
	}
	if !maps.Equal(granted, used) {
		return fmt.Errorf("the Role of deploy/namespace grants\n  %v\nand Slipway used\n  %v", slices.Sorted(maps.Keys(granted)), slices.Sorted(maps.Keys(used)))
	}
	return nil
}
