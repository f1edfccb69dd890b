package kube

import (
	"regexp"
	"slices"
	"strings"
)

// SameCause reports whether two diagnosis texts are about one cause. Texts may differ
// in what is random or changes by itself:
//   - the names of pods that the Job controller tries to create, and of sandboxes;
//   - the order of the scheduler's reasons;
//   - whether the kubelet pulls an image or waits to pull it again.
//
// Texts that differ in anything else, such as a digit, are about two causes.
func SameCause(a, b string) bool { return a == b || canonical(a) == canonical(b) }

// randomNames matches `pods "etl-x7kqz"` of the Job controller and `sandbox
// "0a1b..."` of the container runtime: each attempt has a new name.
var randomNames = regexp.MustCompile(`\b(pods|sandbox) "[^"]*"`)

// pullStates matches the two forms that the kubelet uses alternately for one image
// that cannot be pulled: while it pulls, and while it waits to pull again.
var pullStates = regexp.MustCompile(`\b(ImagePullBackOff: Back-off pulling image "[^"]*": )?ErrImagePull: `)

// schedulerReasons is followed by the scheduler's reasons, as in "0/3 nodes are
// available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s)."
const schedulerReasons = " nodes are available: "

// canonical returns the same text for all texts of one cause.
func canonical(text string) string {
	text = randomNames.ReplaceAllString(text, `$1 ""`)
	text = pullStates.ReplaceAllString(text, "ErrImagePull: ")
	sentences := strings.Split(text, ". ")
	for i, sentence := range sentences {
		head, reasons, found := strings.Cut(sentence, schedulerReasons)
		if !found {
			continue
		}
		sorted := strings.Split(strings.TrimSuffix(reasons, "."), ", ")
		slices.Sort(sorted)
		sentences[i] = head + schedulerReasons + strings.Join(sorted, ", ")
	}
	return strings.Join(sentences, ". ")
}
