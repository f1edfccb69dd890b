package main

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/kelseyhightower/envconfig"
)

// Config is every setting, read once from the environment. The tags are all that
// is said about a setting: `slipway help settings` and docs/settings.md are made
// from them.
type Config struct {
	APIURL             string  `envconfig:"PREFECT_API_URL" validate:"required,http_url" desc:"Address of the Prefect API, such as http://prefect-server:4200/api."`
	APIKey             Secret  `envconfig:"PREFECT_API_KEY" desc:"API key (bearer)."`
	APIAuthString      Secret  `envconfig:"PREFECT_API_AUTH_STRING" desc:"user:password of a server with basic authentication; wins over the key."`
	CustomHeaders      Headers `envconfig:"PREFECT_CLIENT_CUSTOM_HEADERS" desc:"JSON object of headers sent with every request to Prefect."`
	TLSSkipVerify      bool    `envconfig:"PREFECT_API_TLS_INSECURE_SKIP_VERIFY" default:"false" desc:"Do not verify the Prefect server's certificate."`
	SSLCertFile        string  `envconfig:"PREFECT_API_SSL_CERT_FILE" desc:"PEM file of certificate authorities, in place of the system's; else SSL_CERT_FILE."`
	RequestTimeout     float64 `envconfig:"PREFECT_API_REQUEST_TIMEOUT" default:"60" validate:"gt=0" desc:"Seconds for one request to Prefect."`
	MaxRetries         int     `envconfig:"PREFECT_CLIENT_MAX_RETRIES" default:"5" validate:"gte=0" desc:"How often a request to Prefect is repeated after 408, 429, 502, 503 or a broken connection."`
	CSRFSupportEnabled bool    `envconfig:"PREFECT_CLIENT_CSRF_SUPPORT_ENABLED" default:"true" desc:"Fetch a CSRF token where the server wants one; false saves a request."`

	Kubeconfig string  `envconfig:"KUBECONFIG" desc:"Kubeconfig file or files; without it the pod's service account, then ~/.kube/config."`
	KubeQPS    float32 `envconfig:"SLIPWAY_KUBE_QPS" default:"50" validate:"gt=0" desc:"Requests a second to the Kubernetes API server, on average."`
	KubeBurst  int     `envconfig:"SLIPWAY_KUBE_BURST" default:"100" validate:"gte=1" desc:"Requests at once to the Kubernetes API server after a pause."`

	WorkPools          List          `envconfig:"SLIPWAY_WORK_POOLS" desc:"Work pools to serve, separated by commas."`
	WorkQueues         List          `envconfig:"SLIPWAY_WORK_QUEUES" desc:"Work queues to serve, separated by commas; without it all of each pool."`
	WorkerName         string        `envconfig:"SLIPWAY_WORKER_NAME" default:"slipway" validate:"required,excludesall=/%" desc:"Name shown in the UI and in the Jobs. Keep it stable: each name leaves a row."`
	LookAhead          time.Duration `envconfig:"SLIPWAY_LOOK_AHEAD" default:"60s" validate:"gte=0,lte=240s" desc:"Claim runs due within this time; their pods wait for the moment. At least the trigger's period starts runs on time. At most 240s: a deployment's concurrency lease ends 300s after the claim."`
	Heartbeat          time.Duration `envconfig:"SLIPWAY_HEARTBEAT_INTERVAL" default:"60s" validate:"gte=1s" desc:"At least the trigger's period: keeps the work pool READY for three times as long."`
	Cluster            string        `envconfig:"SLIPWAY_CLUSTER" desc:"Name of the cluster in claims; without it the UID of the namespace kube-system. The same in every trigger."`
	Namespace          string        `envconfig:"SLIPWAY_NAMESPACE" default:"default" desc:"Namespace of Jobs where neither template nor job variables name one."`
	Limit              int           `envconfig:"SLIPWAY_LIMIT" default:"0" validate:"gte=0" desc:"The most runs that a pass submits per work pool; 0 for no limit."`
	Concurrency        int           `envconfig:"SLIPWAY_CONCURRENCY" default:"8" validate:"gte=1,lte=64" desc:"Flow runs of one work pool processed at once."`
	Deadline           time.Duration `envconfig:"SLIPWAY_DEADLINE" default:"45s" validate:"gt=0,lte=240s" desc:"From the claim of a run to the last attempt to create its Job."`
	PassTime           time.Duration `envconfig:"SLIPWAY_PASS_TIME" default:"240s" validate:"gte=30s,lte=15m" desc:"Time budget of a pass: claiming stops after about two thirds of it, so that repair gets its share; less than the CronJob's activeDeadlineSeconds."`
	OrphanGrace        time.Duration `envconfig:"SLIPWAY_ORPHAN_GRACE" default:"50s" validate:"gte=0" desc:"How old a claim without a Job must be before a sweep creates the Job. The same in every trigger, and at least 5s more than SLIPWAY_DEADLINE: from then on a claim is not given back. With the default a claim whose dispatcher died is repaired by the next pass of a CronJob that runs every minute."`
	ForeignOrphanGrace time.Duration `envconfig:"SLIPWAY_FOREIGN_ORPHAN_GRACE" default:"0s" validate:"gte=0" desc:"How old a claim without a Job that is not Slipway's must be before a sweep gives the run back; 0s for never."`
	SettleGrace        time.Duration `envconfig:"SLIPWAY_SETTLE_GRACE" default:"30s" validate:"gte=0" desc:"How long a sweep lets a flow run report after its Job ended, and a Job end after its flow run did."`
	Namespaces         List          `envconfig:"SLIPWAY_NAMESPACES" desc:"Namespaces that a sweep lists Jobs in, separated by commas; without it all, or where that is forbidden those that the work pool and its deployments name."`
	Adopt              bool          `envconfig:"SLIPWAY_ADOPT_JOBS" default:"false" desc:"Let the sweep manage the runs and Jobs of Python workers too: crashes, cancellations, leftovers. For when they are gone, and no other cluster serves the work pool."`
	StartLimits        Limits        `envconfig:"SLIPWAY_START_LIMITS" validate:"dive,keys,oneof=ImagePullError CrashLoopBackOff OOMKilled Evicted Unschedulable Unschedulable.InsufficientResources Unschedulable.NodeAffinity Unschedulable.Taint ConfigError QuotaExceeded PodsNotCreated VolumeNotReady SandboxNotCreated NotStarting JobNotCreated Exited,endkeys,gt=0" desc:"How long a pod may be kept from starting, by diagnosis, until its flow run becomes CRASHED and its Job is deleted, such as ImagePullError:10m,Unschedulable:1h. A diagnosis that is not named has no limit, as with the Python worker of Prefect 3, but JobNotCreated (the API server answers each creation of the Job with an error): 15m unless it is named."`
	PodEvents          bool          `envconfig:"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_REPLICATE_POD_EVENTS" default:"true" desc:"Emit the Prefect events of pods that do not start or that crash."`
	CrashLogs          bool          `envconfig:"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_FORWARD_CRASHED_RUN_LOGS" default:"true" desc:"Copy the end of a crashed pod's log into its flow run's."`
	CrashLogLines      int           `envconfig:"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_FORWARD_CRASHED_RUN_LOGS_TAIL_LINES" default:"500" validate:"gte=1" desc:"How many lines of it."`
	RenderAs           string        `envconfig:"SLIPWAY_RENDER_AS" validate:"omitempty,oneof=3 2.20" desc:"Imitate the worker of Prefect 3 or 2.20; without it that of the server's version."`

	Listen               string        `envconfig:"SLIPWAY_LISTEN" default:"127.0.0.1:8080" validate:"listen_address" desc:"Address that serve listens on."`
	AuthTokens           SecretList    `envconfig:"SLIPWAY_AUTH_TOKENS" desc:"Bearer tokens that serve takes, separated by commas; several for rotation."`
	AuthTokensFile       string        `envconfig:"SLIPWAY_AUTH_TOKENS_FILE" desc:"File of bearer tokens, one a line; read again when it changes."`
	AllowUnauthenticated bool          `envconfig:"SLIPWAY_ALLOW_UNAUTHENTICATED" default:"false" desc:"Let serve listen on other than loopback without any token."`
	ShutdownDelay        time.Duration `envconfig:"SLIPWAY_SHUTDOWN_DELAY" default:"0s" validate:"gte=0" desc:"How long serve answers not ready before it stops listening."`
	DrainTimeout         time.Duration `envconfig:"SLIPWAY_DRAIN_TIMEOUT" default:"60s" validate:"gt=0" desc:"How long serve lets passes finish on shutdown; more than SLIPWAY_DEADLINE."`
	LogLevel             string        `envconfig:"SLIPWAY_LOG_LEVEL" default:"info" validate:"oneof=debug info warn error" desc:"debug, info, warn or error."`
}

// loadConfig reads the environment. Its error lists all faults, each with its
// setting's name, and shows no value.
func loadConfig() (Config, error) {
	var cfg Config
	faults := cfg.readEach()
	checks := validator.New(validator.WithRequiredStructEnabled())
	checks.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("envconfig") })
	if err := checks.RegisterValidation("listen_address", isListenAddress); err != nil {
		return cfg, err
	}
	var invalid validator.ValidationErrors
	if err := checks.Struct(cfg); errors.As(err, &invalid) {
		for _, fault := range invalid {
			// A member of a mapping is named NAME[member].
			name, member, _ := strings.Cut(fault.Field(), "[")
			if _, known := faults[name]; !known {
				faults[name] = strings.TrimSpace(strings.TrimSuffix(member, "]") + " " + expected(fault))
			}
		}
	} else if err != nil {
		return cfg, err
	}
	if len(faults) == 0 {
		return cfg, nil
	}
	var text []string
	for _, s := range settings() {
		if fault, ok := faults[s.name]; ok {
			text = append(text, s.name+" "+fault)
		}
	}
	return cfg, &usageError{"settings are wrong:\n  " + strings.Join(text, "\n  ")}
}

// isListenAddress takes what the validator's hostname_port does, and port 0, which
// lets the system choose.
func isListenAddress(field validator.FieldLevel) bool {
	_, port, err := net.SplitHostPort(field.Field().String())
	_, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil
}

// readEach reads setting by setting: envconfig stops at the first fault, and a
// user wants to know them all.
func (c *Config) readEach() map[string]string {
	faults := map[string]string{}
	whole := reflect.ValueOf(c).Elem()
	for i := range whole.NumField() {
		field := whole.Type().Field(i)
		one := reflect.New(reflect.StructOf([]reflect.StructField{field}))
		if err := envconfig.Process("", one.Interface()); err != nil {
			faults[field.Tag.Get("envconfig")] = "must be " + kindOf(field.Type)
			continue
		}
		whole.Field(i).Set(one.Elem().Field(0))
	}
	return faults
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 60s"
	case reflect.TypeFor[Headers]():
		return "a JSON object of strings"
	case reflect.TypeFor[Limits]():
		return "a list such as ImagePullError:10m,Unschedulable:1h"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "an integer"
	default:
		return "a number"
	}
}

// expected says what a check asks for.
func expected(fault validator.FieldError) string {
	switch fault.Tag() {
	case "required":
		return "must be set"
	case "http_url":
		return "must be an http or https address such as http://host:4200/api"
	case "listen_address":
		return "must be an address to listen on, such as :8080"
	case "oneof":
		return "must be one of " + fault.Param()
	case "excludesall":
		return "may hold none of " + fault.Param()
	case "gt":
		return "must be more than " + fault.Param()
	case "gte":
		return "must be at least " + fault.Param()
	case "lte":
		return "must be at most " + fault.Param()
	default:
		return "fails the check " + fault.Tag()
	}
}

// setting is what the help and the documentation tell of one.
type setting struct{ name, value, meaning string }

func settings() []setting {
	var all []setting
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		all = append(all, setting{tag.Get("envconfig"), tag.Get("default"), tag.Get("desc")})
	}
	return all
}

// settingsHelp is the list of all settings.
func settingsHelp() string {
	var b strings.Builder
	b.WriteString("Settings (environment; flags override them):\n")
	for _, s := range settings() {
		value := ""
		if s.value != "" {
			value = " (default " + s.value + ")"
		}
		fmt.Fprintf(&b, "  %s%s\n      %s\n", s.name, value, s.meaning)
	}
	b.WriteString("All other PREFECT_* settings and those of prefect-kubernetes (PREFECT_INTEGRATIONS_KUBERNETES_WORKER_*)\nare handed on to the flow runs, or obeyed, as the Python worker does.\n")
	return b.String()
}
