package dispatch

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A claim's transition id proves itself: it is a UUIDv8 (RFC 9562) whose first
// 60 free bits are random and whose last 62 are a tag over the cluster, the
// flow run and those bits. So it is known from the id alone that a claim is
// Slipway's and of which cluster, and no two dispatchers share one.
const claimDomain = "slipway claim v1"

// NewClaimID makes the transition id of one claim on a flow run.
func NewClaimID(cluster, flowRunID string) (string, error) {
	var id uuid.UUID
	if _, err := rand.Read(id[:8]); err != nil {
		return "", fmt.Errorf("draw a claim id: %w", err)
	}
	id[6] = id[6]&0x0f | 0x80 // version 8
	seal(&id, cluster, flowRunID)
	return id.String(), nil
}

// IsClaim reports whether a transition id was made by Slipway for this flow run
// in this cluster.
func IsClaim(cluster, flowRunID, transitionID string) bool {
	given, err := uuid.Parse(transitionID)
	if err != nil || given.Version() != 8 {
		return false
	}
	want := given
	seal(&want, cluster, flowRunID)
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// seal writes the tag of id's first half into its second.
func seal(id *uuid.UUID, cluster, flowRunID string) {
	h := sha256.New()
	for _, part := range []string{claimDomain, cluster, strings.ToLower(flowRunID)} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(id[:8])
	tag := binary.BigEndian.Uint64(h.Sum(nil))
	const variant = uint64(0b10) << 62
	binary.BigEndian.PutUint64(id[8:], tag>>2|variant)
}

// Kubernetes copies a Job's name into a label of its pods, whose values end at
// 63 characters.
const (
	maxJobName = 63
	nameHash   = 10 // characters of 5 bits
)

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// jobName is the one name that a claim's Job can have: what the template asks
// for as generateName, and a hash of the claim. A repeat, by whomever, meets
// the first one's Job instead of making a second.
func jobName(generateName, transitionID string) string {
	sum := sha256.Sum256([]byte(transitionID))
	hash := nameEncoding.EncodeToString(sum[:])[:nameHash]
	return generateName[:min(len(generateName), maxJobName-nameHash)] + hash
}

// Annotations by which a Job shows whose it is.
const (
	annotationTransition = "slipway/transition-id"
	annotationCluster    = "slipway/cluster"
)

// claim is the right to make the Job of one flow run.
type claim struct {
	id  string    // transition id
	due time.Time // the scheduled time that the poll showed
	at  time.Time // just before the proposal was sent
}

// age counts by the clock that runs faster: the monotonic one stands still
// while a machine sleeps, the wall clock can be set back.
func (c claim) age(now time.Time) time.Duration {
	return max(now.Sub(c.at), now.Round(0).Sub(c.at.Round(0)))
}
