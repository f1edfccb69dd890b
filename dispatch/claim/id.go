// Package claim holds what follows from a claim alone: its transition id, the
// name of its Job, and the labels by which that Job is recognised. It is pure.
package claim

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// A claim's transition id proves itself: it is a UUIDv8 (RFC 9562) whose first
// 60 free bits are random and whose last 62 are a tag over the cluster, the
// flow run and those bits. So it is known from the id alone that a claim is
// Slipway's and of which cluster, and no two dispatchers share one.
const domain = "slipway claim v1"

// NewID makes the transition id of one claim on a flow run.
func NewID(cluster, flowRunID string) (string, error) {
	var id uuid.UUID
	if _, err := rand.Read(id[:8]); err != nil {
		return "", fmt.Errorf("draw a claim id: %w", err)
	}
	id[6] = id[6]&0x0f | 0x80 // version 8
	seal(&id, cluster, flowRunID)
	return id.String(), nil
}

// Verify reports whether a transition id was made by Slipway for this flow run
// in this cluster.
func Verify(cluster, flowRunID, transitionID string) bool {
	given, err := uuid.Parse(transitionID)
	if err != nil || given.Version() != 8 {
		return false
	}
	want := given
	seal(&want, cluster, flowRunID)
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// IsSlipways tells claims of Slipway, of whatever cluster, from those of a Python
// worker, which are UUIDs of version 4, or none.
func IsSlipways(transitionID string) bool {
	id, err := uuid.Parse(transitionID)
	return err == nil && id.Version() == 8
}

// seal writes the tag of id's first half into its second.
func seal(id *uuid.UUID, cluster, flowRunID string) {
	h := sha256.New()
	for _, part := range []string{domain, cluster, strings.ToLower(flowRunID)} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(id[:8])
	tag := binary.BigEndian.Uint64(h.Sum(nil))
	const variant = uint64(0b10) << 62
	binary.BigEndian.PutUint64(id[8:], tag>>2|variant)
}
