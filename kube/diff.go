package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one field whose values differ between two Jobs. A missing value
// is "".
type Difference struct {
	Path string // JSON pointer
	Want string // JSON
	Have string // JSON
}

// ignoredPaths are the JSON pointers of the fields that are not compared: most are
// written by the cluster. A trailing * stands for all keys with that prefix.
var ignoredPaths = []string{
	"/status",
	"/metadata/uid", "/metadata/resourceVersion", "/metadata/creationTimestamp", "/metadata/generation", "/metadata/managedFields",
	"/metadata/finalizers", "/metadata/deletionTimestamp", "/metadata/deletionGracePeriodSeconds",
	"/spec/selector",
	"/spec/template/metadata/creationTimestamp",
	"/metadata/labels/controller-uid", "/metadata/labels/job-name", "/metadata/labels/batch.kubernetes.io*",
	"/spec/template/metadata/labels/controller-uid", "/spec/template/metadata/labels/job-name", "/spec/template/metadata/labels/batch.kubernetes.io*",
	"/metadata/annotations/batch.kubernetes.io*",
	// What Slipway adds and the Python worker does not.
	"/metadata/name", "/metadata/annotations/slipway*", "/metadata/labels/slipway*",
}

// Differences compares a Job as the API server would store it (see TryJob) with a
// stored one. It leaves out the fields that the cluster writes itself, and those
// that only Slipway sets.
func Differences(want, have []byte) ([]Difference, error) {
	var a, b any
	if err := json.Unmarshal(want, &a); err != nil {
		return nil, fmt.Errorf("read the rendered Job: %w", err)
	}
	if err := json.Unmarshal(have, &b); err != nil {
		return nil, fmt.Errorf("read the Job in the cluster: %w", err)
	}
	d := &differences{}
	d.values("", a, b)
	return d.found, nil
}

type differences struct{ found []Difference }

func isIgnored(path string) bool {
	return slices.ContainsFunc(ignoredPaths, func(ignored string) bool {
		prefix, isPrefix := strings.CutSuffix(ignored, "*")
		return path == ignored || isPrefix && strings.HasPrefix(path, prefix)
	})
}

func (d *differences) values(path string, want, have any) {
	if isIgnored(path) || empty(want) && empty(have) {
		return
	}
	a, ok1 := want.(map[string]any)
	b, ok2 := have.(map[string]any)
	if (ok1 || want == nil) && (ok2 || have == nil) && (ok1 || ok2) {
		keys := map[string]bool{}
		for key := range a {
			keys[key] = true
		}
		for key := range b {
			keys[key] = true
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			d.values(path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key), a[key], b[key])
		}
		return
	}
	x, ok1 := want.([]any)
	y, ok2 := have.([]any)
	if named, have := byName(x), byName(y); named != nil && have != nil {
		d.values(path, named, have)
		return
	}
	if ok1 && ok2 {
		for i := range max(len(x), len(y)) {
			d.values(fmt.Sprintf("%s/%d", path, i), at(x, i), at(y, i))
		}
		return
	}
	if w, h := text(want), text(have); w != h {
		d.found = append(d.found, Difference{Path: path, Want: w, Have: h})
	}
}

// byName makes a mapping of a list whose members all have different names, such as
// an environment: their order means nothing. It returns nil for any other list.
func byName(list []any) any {
	members := map[string]any{}
	for _, one := range list {
		member, _ := one.(map[string]any)
		name, _ := member["name"].(string)
		if name == "" || members[name] != nil {
			return nil
		}
		members[name] = member
	}
	if len(members) == 0 {
		return nil
	}
	return members
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// empty reports whether v is absent or an empty mapping or list, which are the same
// to the API server.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

func text(v any) string {
	if v == nil {
		return ""
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return string(data)
}
