package render

// Version names the worker to imitate.
type Version string

const (
	V3 Version = "3"    // prefect-kubernetes 0.8.0 with Prefect 3.8.8
	V2 Version = "2.20" // prefect-kubernetes 0.4.6 with Prefect 2.20.25
)

// rules are all differences between the workers, so that no stage asks for the
// version itself.
type rules struct {
	// Variables.
	nullDefaults   bool // a default of null counts as a value: a template made by 3.x then renders image: null
	mergeEnv       bool // the pool's env default is merged into a mapping at job_configuration.env; else it replaces it
	dottedKeys     bool // job variables such as "env.A" reach into mappings (since 3.6.5)
	inlineBlocks   bool // a block placeholder may stand inside a longer text (since 3.7.0)
	exactValuePath bool // only value, value. and value[ name the block's value; else whatever begins with value
	infraOverrides bool // a server sends a deployment's job variables under their former name

	// Configuration.
	laxStrings  bool // pydantic 1: numbers and booleans pass for strings
	annotations bool // the field exists (since 0.7.6)

	// Preparation.
	listEnv        bool // env may be a list of Kubernetes variables (since 0.5.9)
	keepListEnv    bool // entries of the manifest's own env yield to ours (since 0.6.6); else they are appended
	attribution    bool // PREFECT__WORKER_NAME and its like (since 3.6.17)
	poolLabels     bool // work pool and worker (since 3.2.13)
	appLabels      bool // app.kubernetes.io/* (since 0.7.6)
	isoformat      bool // deployment-updated as Python's isoformat; else with Z
	lowerLabels    bool // label values in lower case (until 0.6.4)
	ctxInName      bool // ctx.flow and ctx.flow_run in the job's name (since 3.6.16)
	sigterm        bool // eviction handling (since 0.5.9)
	nullTemplates  bool // a generateName of null counts as none (since 3.8.8)
	podMetadata    bool // labels and annotations go to the pod too (since 0.6.0)
	needDeployment bool // a run without a deployment is asked for at /deployments/None, and crashes
	settings       settingsTable
	secretsV3      bool // all of the integration's settings for Secrets
}

var versions = map[Version]rules{
	V3: {
		mergeEnv: true, dottedKeys: true, inlineBlocks: true, exactValuePath: true,
		annotations: true,
		listEnv:     true, keepListEnv: true, attribution: true, poolLabels: true, appLabels: true, isoformat: true,
		ctxInName: true, nullTemplates: true, sigterm: true, podMetadata: true, settings: settings3, secretsV3: true,
	},
	V2: {
		nullDefaults: true, infraOverrides: true, laxStrings: true, lowerLabels: true, needDeployment: true, settings: settings2,
	},
}
