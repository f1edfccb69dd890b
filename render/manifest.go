package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// checkManifest holds a Job's manifest to what the worker needs of it. The
// worker compares by a JSON Patch from the manifest to a base: what the patch
// would add is missing, what it would replace is incompatible.
func (t *Template) checkManifest(c *config) error {
	manifest := c.manifest.clone()
	c.manifest = manifest
	if _, ok := manifest.get("metadata"); !ok {
		manifest.set("metadata", newObject())
	}
	metadata, ok := manifest.vals["metadata"].(*object)
	if !ok {
		return manifestFault("metadata", "TypeError", "must be an object, not "+typeName(manifest.vals["metadata"]))
	}
	metadata = metadata.clone()
	manifest.set("metadata", metadata)
	base := newObject()
	if t.rules.annotations {
		orSet(metadata, "annotations", newObject())
		base.set("annotations", newObject())
	}
	orSet(metadata, "labels", newObject())
	base.set("labels", newObject())
	orSet(metadata, "namespace", c.namespace)

	missing, incompatible := compare(manifest, baseManifest(base))
	if len(missing) > 0 {
		return manifestFault("", "ValidationError", "Job is missing required attributes at the following paths: "+strings.Join(missing, ", "))
	}
	if len(incompatible) > 0 {
		return manifestFault("", "ValidationError", "Job has incompatible values for the following attributes: "+strings.Join(incompatible, ", "))
	}
	return nil
}

func manifestFault(at, kind, message string) *Fault {
	return &Fault{At: "validate", Kind: kind, Path: strings.TrimSuffix("job_configuration/job_manifest/"+at, "/"), Message: message}
}

func orSet(o *object, key string, value any) {
	if _, ok := o.get(key); !ok {
		o.set(key, value)
	}
}

// object1 builds an object of pairs.
func object1(pairs ...any) *object {
	o := newObject()
	for i := 0; i < len(pairs); i += 2 {
		o.set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func baseManifest(metadata *object) *object {
	pod := object1(
		"parallelism", number("1"),
		"completions", number("1"),
		"restartPolicy", "Never",
		"containers", []any{object1("name", "prefect-job")},
	)
	return object1(
		"apiVersion", "batch/v1",
		"kind", "Job",
		"metadata", metadata,
		"spec", object1("template", object1("spec", pod)),
	)
}

// compare lists what a JSON Patch from one document to another adds and
// replaces. Like the Python package jsonpatch it turns a removal and an addition
// of the same value into a move, which counts as neither: so completions may
// stand one level too high, for one.
func compare(from, to *object) (added, replaced []string) {
	d := &differ{}
	d.objects("", from, to)
	for i, op := range d.ops {
		switch {
		case op.gone || op.kind == opRemove || op.kind == opMove:
		case op.kind == opReplace || d.followsRemoval(i):
			replaced = append(replaced, fmt.Sprintf("%s must have value %s", op.path, reprOf(op.value)))
		default:
			added = append(added, op.path)
		}
	}
	slices.Sort(added)
	slices.Sort(replaced)
	return added, replaced
}

func reprOf(value any) string {
	var b strings.Builder
	repr(&b, value)
	return b.String()
}

const (
	opAdd = iota
	opRemove
	opReplace
	opMove
)

type patchOp struct {
	kind  int
	path  string
	value any
	gone  bool
}

type differ struct {
	ops   []patchOp
	added []int // places of the additions, which are few
}

// followsRemoval: an addition right after a removal at the same place replaces.
func (d *differ) followsRemoval(i int) bool {
	for j := i - 1; j >= 0; j-- {
		if !d.ops[j].gone {
			return d.ops[j].kind == opRemove && d.ops[j].path == d.ops[i].path
		}
	}
	return false
}

// takeRemoved finds the latest living removal of the same value and type.
func (d *differ) takeRemoved(value any) int {
	want := canonical(value)
	for i, op := range slices.Backward(d.ops) {
		if op.kind == opRemove && !op.gone && canonical(op.value) == want {
			return i
		}
	}
	return -1
}

// takeAdded finds the latest living addition of the same value and type.
func (d *differ) takeAdded(value any) int {
	if len(d.added) == 0 {
		return -1
	}
	want := canonical(value)
	for _, i := range slices.Backward(d.added) {
		if op := d.ops[i]; !op.gone && canonical(op.value) == want {
			return i
		}
	}
	return -1
}

// canonical is the JSON text of a value with the keys of its objects sorted: by
// it 1.0 and true are not 1.
func canonical(value any) string { return string(marshal(sortedCopy(value))) }

func sortedCopy(value any) any {
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = sortedCopy(item)
		}
		return list
	case *object:
		o := newObject()
		for _, k := range slices.Sorted(slices.Values(v.keys)) {
			o.set(k, sortedCopy(v.vals[k]))
		}
		return o
	}
	return value
}

func (d *differ) add(path string, value any) {
	if i := d.takeRemoved(value); i >= 0 {
		d.ops[i].gone = true
		if d.ops[i].path != path {
			d.ops = append(d.ops, patchOp{kind: opMove, path: path})
		}
		return
	}
	d.added = append(d.added, len(d.ops))
	d.ops = append(d.ops, patchOp{kind: opAdd, path: path, value: value})
}

func (d *differ) remove(path string, value any) {
	if i := d.takeAdded(value); i >= 0 {
		d.ops[i].gone = true
		if d.ops[i].path != path {
			d.ops = append(d.ops, patchOp{kind: opMove, path: d.ops[i].path})
		}
		return
	}
	d.ops = append(d.ops, patchOp{kind: opRemove, path: path, value: value})
}

func (d *differ) objects(path string, from, to *object) {
	for _, k := range from.keys {
		if _, both := to.get(k); !both {
			d.remove(join(path, k), from.vals[k])
		}
	}
	for _, k := range to.keys {
		if _, both := from.get(k); !both {
			d.add(join(path, k), to.vals[k])
		}
	}
	for _, k := range from.keys {
		if value, both := to.get(k); both {
			d.values(join(path, k), from.vals[k], value)
		}
	}
}

// lists compares by position, but for an item that is in both: all others are
// then removed. The only list of the base manifest has one item.
func (d *differ) lists(path string, from, to []any) {
	match := -1
	if len(to) == 1 {
		only := canonical(to[0])
		match = slices.IndexFunc(from, func(v any) bool { return canonical(v) == only })
	}
	if match >= 0 {
		for i, item := range from {
			if i != match {
				d.remove(join(path, strconv.Itoa(i)), item)
			}
		}
		return
	}
	for i := range max(len(from), len(to)) {
		at := join(path, strconv.Itoa(i))
		switch {
		case i >= len(from):
			d.add(at, to[i])
		case i >= len(to):
			d.remove(join(path, strconv.Itoa(len(to))), from[i])
		case isObject(from[i]) && isObject(to[i]), isList(from[i]) && isList(to[i]):
			d.values(at, from[i], to[i])
		case canonical(from[i]) != canonical(to[i]):
			d.remove(at, from[i])
			d.add(at, to[i])
		}
	}
}

func (d *differ) values(path string, from, to any) {
	a, ok1 := from.(*object)
	b, ok2 := to.(*object)
	if ok1 && ok2 {
		d.objects(path, a, b)
		return
	}
	x, ok1 := from.([]any)
	y, ok2 := to.([]any)
	if ok1 && ok2 {
		d.lists(path, x, y)
		return
	}
	// Scalars are compared by their JSON text: 1.0 and true are not 1.
	if string(marshal(from)) != string(marshal(to)) {
		d.ops = append(d.ops, patchOp{kind: opReplace, path: path, value: to})
	}
}

func isObject(v any) bool { _, ok := v.(*object); return ok }
func isList(v any) bool   { _, ok := v.([]any); return ok }

func join(path, key string) string {
	return path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
