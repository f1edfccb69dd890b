package main

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

// serviceVariable matches what Kubernetes puts into each container for a Service
// named slipway, or slipway-x, of its namespace (docker link variables):
// SLIPWAY_SERVICE_HOST, SLIPWAY_SERVICE_PORT, SLIPWAY_SERVICE_PORT_HTTP,
// SLIPWAY_PORT, SLIPWAY_PORT_8080_TCP, SLIPWAY_PORT_8080_TCP_ADDR.
var serviceVariable = regexp.MustCompile(`^SLIPWAY_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// warnOfUnknownSettings names each variable SLIPWAY_... of an environment that no
// setting has the name of: a misspelt one would have no effect, and nobody would
// know. Values are not shown.
func warnOfUnknownSettings(log *slog.Logger, environment []string) {
	for _, name := range unknownSettings(environment) {
		message := name + " is no setting of Slipway and has no effect"
		if near := nearestSetting(name); near != "" {
			message += "; is " + near + " meant?"
		}
		log.Warn(message)
	}
}

func unknownSettings(environment []string) []string {
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.name] = true
	}
	var unknown []string
	for _, pair := range environment {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "SLIPWAY_") && !known[name] && !serviceVariable.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// maxEdits is how many letters a misspelt name may be away from a setting's.
const maxEdits = 3

// nearestSetting is the setting whose name is the fewest edits away; "" if none is
// near.
func nearestSetting(name string) string {
	nearest, least := "", maxEdits+1
	for _, s := range settings() {
		if edits := editDistance(name, s.name); edits < least {
			nearest, least = s.name, edits
		}
	}
	return nearest
}

// editDistance counts the letters to insert, delete or replace between two names
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
