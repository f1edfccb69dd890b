package claim

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Labels and annotations by which a Job shows whose it is.
const (
	LabelFlowRun        = "prefect.io/flow-run-id"    // on every Job of a flow run, whoever made it
	LabelWorkersPool    = "prefect.io/work-pool-id"   // UUID; on Jobs of Prefect 3's workers and of Slipway
	LabelPool           = "slipway/work-pool-id"      // UUID of the work pool; on every Job of Slipway
	AnnotationID        = "slipway/transition-id"     // of the claim
	AnnotationCluster   = "slipway/cluster"           // the cluster that the claim is of
	LabelWorker         = "prefect.io/worker-name"    // who made the Job
	LabelWorkerPoolName = "prefect.io/work-pool-name" // on Jobs of Prefect 3's workers
)

// Kubernetes copies a Job's name into a label of its pods, whose values end at
// 63 characters.
const (
	maxJobName = 63
	nameHash   = 10 // characters of 5 bits
)

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// JobName is the one name that a claim's Job can have: what the template asks
// for as generateName, and a hash of the claim. A repeat, by whomever, meets
// the first one's Job instead of making a second.
func JobName(generateName, transitionID string) string {
	return generateName[:min(len(generateName), maxJobName-nameHash)] + hashOf(transitionID)
}

func hashOf(transitionID string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(transitionID)))
	return nameEncoding.EncodeToString(sum[:])[:nameHash]
}

// Suffix ends the names of Secrets made for one Job: 8 hex digits. It follows
// from the claim, so that a repeat writes the same Secrets.
func Suffix(transitionID string) string {
	sum := sha256.Sum256([]byte("suffix " + strings.ToLower(transitionID)))
	return hex.EncodeToString(sum[:4])
}

// Place is where a Job is. The zero Place is nowhere.
type Place struct{ Namespace, Name string }

func (p Place) String() string { return p.Namespace + "/" + p.Name }

// Known tells whether a place is one.
func (p Place) Known() bool { return p.Namespace != "" && p.Name != "" }

// IsOf tells whether a Job of that name is a claim's: its name ends with the
// claim's hash.
func (p Place) IsOf(transitionID string) bool {
	return transitionID != "" && strings.HasSuffix(p.Name, hashOf(transitionID))
}

// PID spells a place as an infrastructure_pid of Prefect 3: namespace:name.
func (p Place) PID() string { return p.Namespace + ":" + p.Name }

// PID2 spells it as Prefect 2 does: cluster:namespace:name.
func (p Place) PID2(cluster string) string { return cluster + ":" + p.PID() }

// ParsePID reads an infrastructure_pid in either spelling; the zero Place if it
// names no Job.
func ParsePID(pid string) Place {
	parts := strings.Split(pid, ":")
	switch len(parts) {
	case 2:
		return place(parts[0], parts[1])
	case 3:
		return place(parts[1], parts[2])
	}
	return Place{}
}

// The names that Kubernetes allows (RFC 1123 label and subdomain).
var (
	namespaceShape = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	jobShape       = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$`)
)

// place is that of names that Kubernetes allows; the zero Place for others.
func place(namespace, name string) Place {
	if !namespaceShape.MatchString(namespace) || !jobShape.MatchString(name) {
		return Place{}
	}
	return Place{namespace, name}
}

// messagePrefix begins the message of a claim's state.
const messagePrefix = "Slipway submits Job "

// Message is the message of the claim's state. It names the place of the claim's
// Job, so that whoever repairs the claim later finds that place even when the
// deployment meanwhile names another.
func Message(p Place) string { return fmt.Sprintf("%s%s.", messagePrefix, p) }

// PlaceOf reads the place back from the message of a claim's state; the zero
// Place if it names none of that claim's.
func PlaceOf(message, transitionID string) Place {
	text, ok := strings.CutPrefix(message, messagePrefix)
	if !ok {
		return Place{}
	}
	namespace, name, _ := strings.Cut(strings.TrimSuffix(text, "."), "/")
	if p := place(namespace, name); p.IsOf(transitionID) {
		return p
	}
	return Place{}
}
