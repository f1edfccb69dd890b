package main

import (
	"log/slog"
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
func wire(cfg Config, log *slog.Logger) (*dispatch.Dispatcher, error) {
	server, err := prefectClient(cfg)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	restConfig, err := kube.LoadConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	cluster, err := kube.New(restConfig, kube.Options{QPS: cfg.KubeQPS, Burst: cfg.KubeBurst, UserAgent: "slipway/" + buildVersion()})
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return dispatch.New(dispatch.Options{
		Prefect:            server,
		Kube:               cluster,
		Log:                log,
		WorkerName:         cfg.WorkerName,
		Heartbeat:          cfg.Heartbeat,
		Concurrency:        cfg.Concurrency,
		Deadline:           cfg.Deadline,
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
		Secrets:            secrets(cfg),
	}), nil
}

func prefectClient(cfg Config) (*prefect.Client, error) {
	authorities := cfg.SSLCertFile
	if authorities == "" {
		authorities = os.Getenv("SSL_CERT_FILE")
	}
	client, err := prefect.NewHTTPClient(
		prefect.TLSOptions{InsecureSkipVerify: cfg.TLSSkipVerify, CAFile: authorities},
		time.Duration(cfg.RequestTimeout*float64(time.Second)),
		cfg.Concurrency+2,
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

// secrets are the values that no message may hold.
func secrets(cfg Config) []string {
	all := []string{string(cfg.APIKey), string(cfg.APIAuthString)}
	for _, value := range cfg.CustomHeaders {
		all = append(all, value)
	}
	for _, token := range cfg.AuthTokens {
		all = append(all, string(token))
	}
	return all
}
