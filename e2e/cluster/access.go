package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig writes a client's configuration as a kubeconfig.
func WriteKubeconfig(path string, cfg *rest.Config, namespace string) error {
	file := clientcmdapi.NewConfig()
	file.Clusters["world"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthority: cfg.CAFile}
	file.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: cfg.BearerToken}
	file.Contexts["world"] = &clientcmdapi.Context{Cluster: "world", AuthInfo: "user", Namespace: namespace}
	file.CurrentContext = "world"
	return clientcmd.WriteToFile(*file, path)
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a service account.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name, path string) error {
	day := int64(24 * 3600)
	token, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &day}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("get a token of service account %s/%s: %w", namespace, name, err)
	}
	cfg := c.AdminConfig()
	cfg.BearerToken = token.Status.Token
	return WriteKubeconfig(path, cfg, namespace)
}

// Apply creates or changes the objects of a YAML stream by server-side apply, in
// namespace where they are namespaced and name none.
func (c *Cluster) Apply(ctx context.Context, namespace string, manifests io.Reader) error {
	return c.apply(ctx, namespace, manifests, nil)
}

// TryApply is Apply by server-side dry run.
func (c *Cluster) TryApply(ctx context.Context, namespace string, manifests io.Reader) error {
	return c.apply(ctx, namespace, manifests, []string{metav1.DryRunAll})
}

func (c *Cluster) apply(ctx context.Context, namespace string, manifests io.Reader, dryRun []string) error {
	disco, err := discovery.NewDiscoveryClientForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(disco)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	decoder := yaml.NewYAMLOrJSONDecoder(manifests, 4096)
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(object.Object) == 0 {
			continue
		}
		if err := apply(ctx, client, mapper, namespace, &object, dryRun); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}

func apply(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, namespace string, object *unstructured.Unstructured, dryRun []string) error {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var target dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
		target = client.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	_, err = target.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "slipway-e2e", Force: true, DryRun: dryRun})
	return err
}

// CreateNamespace makes a namespace, if it is not there.
func (c *Cluster) CreateNamespace(ctx context.Context, name string) error {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	client, err := dynamic.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	namespaces := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if _, err := namespaces.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// AuditEvent is a request about Jobs, from the API server's audit log.
type AuditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Received time.Time `json:"requestReceivedTimestamp"`
}

// JobCreations are the requests by which Jobs were made or should have been.
func (c *Cluster) JobCreations() ([]AuditEvent, error) {
	return c.audited(func(e AuditEvent) bool {
		return e.Verb == "create" && e.ObjectRef.Resource == "jobs" && e.ObjectRef.Subresource == ""
	})
}

// JobDeletions are the requests of accounts of Slipway's namespace that deleted Jobs.
func (c *Cluster) JobDeletions() ([]AuditEvent, error) {
	return c.audited(func(e AuditEvent) bool {
		return e.Verb == "delete" && e.ObjectRef.Resource == "jobs" && e.ResponseStatus.Code == http.StatusOK && strings.HasPrefix(e.User.Username, slipwayAccounts)
	})
}

// SlipwayRequests are those that Slipway's service account made of objects in
// namespaces, and that its Role allowed.
func (c *Cluster) SlipwayRequests() ([]AuditEvent, error) {
	return c.audited(func(e AuditEvent) bool {
		return e.User.Username == slipwayUser && e.ObjectRef.Namespace != "" && e.ObjectRef.Resource != "namespaces" && e.ResponseStatus.Code != http.StatusForbidden
	})
}

func (c *Cluster) audited(keep func(AuditEvent) bool) ([]AuditEvent, error) {
	f, err := os.Open(c.path("audit.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var events []AuditEvent
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e AuditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		if keep(e) {
			events = append(events, e)
		}
	}
	return events, lines.Err()
}
