package main

import (
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"slipway/dispatch"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// wire makes the dispatcher of a configuration: the one place where concrete
// types meet. It sends nothing.
func (p *process) wire(cfg Config, log *slog.Logger) (*dispatch.Dispatcher, error) {
	server, err := prefectClient(cfg)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	cluster, err := p.kubeClient(cfg.Kubeconfig, kube.Options{QPS: cfg.KubeQPS, Burst: cfg.KubeBurst})
	if err != nil {
		return nil, err
	}
	return dispatch.New(dispatch.Options{
		Prefect:            server,
		Kube:               cluster,
		Log:                log,
		Redactor:           p.redactor,
		WorkerName:         cfg.WorkerName,
		Heartbeat:          cfg.Heartbeat,
		Concurrency:        cfg.Concurrency,
		Deadline:           cfg.Deadline,
		PassTime:           cfg.PassTime,
		Cluster:            cfg.Cluster,
		OrphanGrace:        cfg.OrphanGrace,
		ForeignOrphanGrace: cfg.ForeignOrphanGrace,
		SettleGrace:        cfg.SettleGrace,
		Namespaces:         cfg.Namespaces,
		Adopt:              cfg.Adopt,
		StartLimits:        cfg.StartLimits,
		PodEvents:          cfg.PodEvents,
		CrashLogs:          cfg.CrashLogs,
		CrashLogLines:      cfg.CrashLogLines,
		RenderAs:           render.Version(cfg.RenderAs),
		Namespace:          cfg.Namespace,
		Environ:            environ(),
	}), nil
}

// kubeClient makes the client of the cluster that kubeconfig names. What it
// authenticates with is hidden from then on.
func (p *process) kubeClient(kubeconfig string, o kube.Options) (*kube.Client, error) {
	config, err := kube.LoadConfig(kubeconfig)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	p.redactor.Keep(config.BearerToken, config.Password, string(config.KeyData))
	o.UserAgent = "slipway/" + buildVersion()
	client, err := kube.New(config, o)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return client, nil
}

// maxPoolsAtOnce is how many work pools a pass serves side by side at most, for the
// number of connections.
const maxPoolsAtOnce = 4

// connections is how many requests to Prefect may be under way at once: those of
// the flow runs that are processed, and of a heartbeat and the reads beside them.
func (c Config) connections() int {
	pools := max(1, min(len(c.WorkPools), maxPoolsAtOnce))
	return c.Concurrency*pools + 2
}

func prefectClient(cfg Config) (*prefect.Client, error) {
	authorities := cfg.SSLCertFile
	if authorities == "" {
		authorities = os.Getenv("SSL_CERT_FILE")
	}
	client, err := prefect.NewHTTPClient(
		prefect.TLSOptions{InsecureSkipVerify: cfg.TLSSkipVerify, CAFile: authorities},
		time.Duration(cfg.RequestTimeout*float64(time.Second)),
		cfg.connections(),
	)
	if err != nil {
		return nil, err
	}
	return prefect.New(prefect.Options{
		URL:        cfg.APIURL,
		APIKey:     string(cfg.APIKey),
		AuthString: string(cfg.APIAuthString),
		Headers:    cfg.CustomHeaders,
		WorkerName: cfg.WorkerName,
		CSRF:       cfg.CSRFSupportEnabled,
		HTTP:       client,
		MaxRetries: cfg.MaxRetries,
	})
}

// environ is the process's environment, which templates and the settings handed
// on to flow runs are read from.
func environ() map[string]string {
	all := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}

// secrets are the values of the settings that nothing shown may hold. A server
// may also quote a part alone: a password without its user, a token without its
// scheme.
func secrets(cfg Config) []string {
	all := append([]string{string(cfg.APIKey)}, authSecrets(string(cfg.APIAuthString))...)
	for _, value := range cfg.CustomHeaders {
		all = append(all, value)
		if scheme, token, ok := strings.Cut(value, " "); ok && (strings.EqualFold(scheme, "bearer") || strings.EqualFold(scheme, "basic")) {
			all = append(all, token)
		}
	}
	for _, token := range cfg.AuthTokens {
		all = append(all, string(token))
	}
	if address, err := url.Parse(cfg.APIURL); err == nil {
		if password, ok := address.User.Password(); ok {
			all = append(all, password)
		}
	}
	return all
}

// authSecrets are those in user:password.
func authSecrets(authString string) []string {
	_, password, _ := strings.Cut(authString, ":")
	return []string{authString, password}
}
