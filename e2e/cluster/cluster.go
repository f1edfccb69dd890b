// Package cluster starts a real Kubernetes control plane on this machine: etcd,
// kube-apiserver and kube-controller-manager, as processes of any user.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"slipway/e2e/process"
)

// Cluster is a running control plane.
type Cluster struct {
	Client kubernetes.Interface // as admin

	dir     string
	binary  string
	url     string
	token   string
	servers map[string]*process.Process
	args    map[string][]string
}

// controllers that Jobs need, and what the tests look at.
const controllers = "job-controller,cronjob-controller,ttl-after-finished-controller,garbage-collector-controller,namespace-controller," +
	"serviceaccount-controller,serviceaccount-token-controller,root-ca-certificate-publisher-controller,resourcequota-controller,pod-garbage-collector-controller"

const (
	slipwayAccounts = "system:serviceaccount:slipway:"
	slipwayUser     = slipwayAccounts + "slipway" // of deploy/base
)

// auditPolicy keeps who did what to Jobs, for tests to count, and all that Slipway
// did, to hold its Role to.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: batch, resources: [jobs]}]
- level: Metadata
  users: ["` + slipwayUser + `"]
- level: None
`

// Start starts a control plane with its state in dir, and waits until it
// answers. Stop it.
func Start(ctx context.Context, binary, dir string) (*Cluster, error) {
	c := &Cluster{dir: dir, binary: binary, servers: map[string]*process.Process{}, args: map[string][]string{}}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	if err := c.files(); err != nil {
		return err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	c.url = fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	if err := c.run("etcd", "--data-dir", c.path("etcd.data"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer); err != nil {
		return err
	}
	if err := c.servers["etcd"].WaitFor(ctx, "listening", dials(ports[0])); err != nil {
		return err
	}
	if err := c.run("kube-apiserver", "--etcd-servers="+etcd, fmt.Sprintf("--secure-port=%d", ports[2]), "--bind-address=127.0.0.1",
		"--cert-dir="+c.path("certs"), "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.path("sa.pub"), "--service-account-signing-key-file="+c.path("sa.key"),
		"--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+c.path("audit.log"), "--audit-log-mode=blocking"); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	if err := WriteKubeconfig(c.path("admin.kubeconfig"), c.AdminConfig(), ""); err != nil {
		return err
	}
	if c.Client, err = kubernetes.NewForConfig(c.AdminConfig()); err != nil {
		return err
	}
	return c.run("kube-controller-manager", "--kubeconfig="+c.path("admin.kubeconfig"), "--service-account-private-key-file="+c.path("sa.key"),
		"--root-ca-file="+c.path("certs/apiserver.crt"), "--leader-elect=false", "--secure-port=0", "--controllers="+controllers,
		"--use-service-account-credentials=false", "--kube-api-qps=200", "--kube-api-burst=400")
}

func dials(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// run starts a component of the multi-call binary under its name.
func (c *Cluster) run(name string, args ...string) error {
	link := c.path(name)
	if err := os.Symlink(c.binary, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	c.args[name] = args
	p, err := process.Start(process.Spec{Name: name, Args: append([]string{link}, args...), Dir: c.dir})
	c.servers[name] = p
	return err
}

// RestartAPIServer kills the API server and starts it again at the same address.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	const name = "kube-apiserver"
	c.servers[name].Stop(0)
	if err := c.run(name, c.args[name]...); err != nil {
		return err
	}
	return c.ready(ctx)
}

func (c *Cluster) ready(ctx context.Context) error {
	server := c.servers["kube-apiserver"]
	return server.WaitFor(ctx, "readiness", func(ctx context.Context) error {
		client, err := rest.HTTPClientFor(c.AdminConfig())
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %s", resp.Status)
		}
		return nil
	})
}

// files writes keys, tokens and the audit policy.
func (c *Cluster) files() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	c.token = hex.EncodeToString(random)
	for name, data := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"sa.pub":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens.csv": []byte(c.token + ",admin,admin,system:masters\n"),
		"audit.yaml": []byte(auditPolicy),
	} {
		if err := os.WriteFile(c.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// AdminConfig is a client's configuration as a member of system:masters.
func (c *Cluster) AdminConfig() *rest.Config {
	return &rest.Config{
		Host:            c.url,
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.path("certs/apiserver.crt")},
		QPS:             200,
		Burst:           400,
	}
}

// AdminKubeconfig is the path of a kubeconfig of system:masters.
func (c *Cluster) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// StopAPIServer ends the API server; StartAPIServer brings it back, with its state.
func (c *Cluster) StopAPIServer() { c.servers["kube-apiserver"].Stop(10 * time.Second) }

// StartAPIServer starts an API server that was stopped.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.run("kube-apiserver", c.args["kube-apiserver"]...); err != nil {
		return err
	}
	return c.ready(ctx)
}

// Stop ends all components. The state stays in dir.
func (c *Cluster) Stop() {
	for _, name := range []string{"kube-controller-manager", "kube-apiserver", "etcd"} {
		c.servers[name].Stop(5 * time.Second)
	}
}

func freePorts(n int) ([]int, error) {
	seen := map[int]bool{}
	var ports []int
	for len(ports) < n {
		port, err := process.FreePort()
		if err != nil {
			return nil, err
		}
		if !seen[port] {
			ports = append(ports, port)
		}
		seen[port] = true
	}
	return ports, nil
}
