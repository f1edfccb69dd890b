package render

import (
	"maps"
	"slices"
)

// Fault is a user's error: the template or the variables make no Job.
type Fault struct {
	At      string // stage: settings, worker, merge, template, blocks, variables, validate, prepare, submit
	Kind    string // the exception of the Python worker
	Path    string // of the field
	Message string // what is wrong there, and what is expected
}

func (f *Fault) Error() string { return f.Path + ": " + f.Message }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
