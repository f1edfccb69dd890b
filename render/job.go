package render

// Job is a rendered Job, not yet named.
type Job struct {
	Namespace string   // of the request: that of the configuration
	NameBase  string   // metadata.generateName
	Secrets   []Secret // to be created before it

	manifest *object
	config   *config
	warnings []string
}

func (j *job) done() *Job {
	return &Job{
		Namespace: j.config.namespace,
		NameBase:  j.generated(),
		Secrets:   j.secrets,
		manifest:  j.config.manifest,
		config:    j.config,
		warnings:  j.warnings,
	}
}

// Warnings tells what the user should know though the Job is rendered.
func (j *Job) Warnings() []string { return j.warnings }

// ClusterConfig is the kubeconfig (JSON) and the context of the block
// kubernetes-cluster-config that the run names; nil: the dispatcher's own cluster.
func (j *Job) ClusterConfig() (kubeconfig []byte, context string) {
	if j.config.cluster == nil {
		return nil, ""
	}
	return marshal(j.config.cluster.vals["config"]), textOf(j.config.cluster, "context_name")
}

// In returns the Job as it is in another namespace: Namespace, the manifest's
// metadata.namespace and the Secrets are of that namespace. A claim names the
// namespace of its Job, and today's rendering may name another one. The Job
// itself is not changed; "" keeps its namespace.
func (j *Job) In(namespace string) *Job {
	if namespace == "" || namespace == j.Namespace {
		return j
	}
	moved := *j
	moved.Namespace = namespace
	moved.manifest = j.manifest.clone()
	metadata := j.metadata().clone()
	metadata.set("namespace", namespace)
	moved.manifest.set("metadata", metadata)
	moved.Secrets = make([]Secret, len(j.Secrets))
	for i, secret := range j.Secrets {
		moved.Secrets[i] = secret.in(namespace)
	}
	return &moved
}

// metadata was seen by checkManifest.
func (j *Job) metadata() *object { return j.manifest.vals["metadata"].(*object) }

// Identity is what Slipway adds to the manifest so that a Job can be recognised.
// Labels and annotations are those of the Job alone, not of its pod, and replace
// what the template says under the same key.
type Identity struct {
	Name        string // metadata.name; generateName is kept; "" adds none
	Labels      map[string]string
	Annotations map[string]string
}

// Manifest is the body of the Job's POST. Nulls stay, as the worker sends them.
func (j *Job) Manifest(id Identity) []byte {
	manifest := j.manifest.clone()
	metadata := j.metadata().clone()
	manifest.set("metadata", metadata)
	if id.Name != "" {
		metadata.set("name", id.Name)
	}
	addTexts(metadata, "labels", id.Labels)
	addTexts(metadata, "annotations", id.Annotations)
	return marshal(manifest)
}

// addTexts adds to a mapping of the metadata, of which the pod template may share
// the values: so it is copied first.
func addTexts(metadata *object, field string, texts map[string]string) {
	if len(texts) == 0 {
		return
	}
	given, _ := metadata.vals[field].(*object)
	all := given.clone()
	for _, key := range sortedKeys(texts) {
		all.set(key, texts[key])
	}
	metadata.set(field, all)
}
