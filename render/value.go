package render

import (
	"math/big"
	"strconv"
	"strings"
)

// A JSON value is nil, bool, string, number, []any or *object. Values are never
// changed once they are shared: what differs is copied.

// number is a JSON number in the spelling that Python gives it as text, which
// matters wherever a number ends up inside a string: 1.0 stays 1.0, 1e21 is
// 1e+21.
type number string

// isFloat follows Python's json: a fraction or an exponent makes a float.
func (n number) isFloat() bool { return strings.ContainsAny(string(n), ".eEni") }

// object is a mapping that keeps the order of its keys, as Python's does: the
// order of env and the text of a mapping depend on it.
type object struct {
	keys []string
	vals map[string]any
}

func newObject() *object { return &object{vals: map[string]any{}} }

func (o *object) get(key string) (any, bool) {
	if o == nil {
		return nil, false
	}
	v, ok := o.vals[key]
	return v, ok
}

// set replaces in place or appends.
func (o *object) set(key string, value any) {
	if _, ok := o.vals[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.vals[key] = value
}

func (o *object) remove(key string) {
	if _, ok := o.vals[key]; !ok {
		return
	}
	delete(o.vals, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
			return
		}
	}
}

func (o *object) len() int {
	if o == nil {
		return 0
	}
	return len(o.keys)
}

// clone copies one level.
func (o *object) clone() *object {
	c := newObject()
	if o != nil {
		for _, k := range o.keys {
			c.set(k, o.vals[k])
		}
	}
	return c
}

// update is Python's dict.update: other wins, places are kept.
func (o *object) update(other *object) {
	if other == nil {
		return
	}
	for _, k := range other.keys {
		o.set(k, other.vals[k])
	}
}

// typeName is Python's name of a value's type, which users meet in messages.
func typeName(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case number:
		if v.isFloat() {
			return "a float"
		}
		return "an integer"
	case string:
		return "a string"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// equal is Python's ==: 1, 1.0 and true are equal, the order of keys is not
// looked at.
func equal(a, b any) bool {
	if x, ok := numeric(a); ok {
		y, ok := numeric(b)
		return ok && x.Cmp(y) == 0
	}
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := b.(string)
		return ok && x == y
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
		return true
	case *object:
		y, ok := b.(*object)
		if !ok || x.len() != y.len() {
			return false
		}
		for _, k := range x.keys {
			other, ok := y.get(k)
			if !ok || !equal(x.vals[k], other) {
				return false
			}
		}
		return true
	}
	return false
}

// maxExponent keeps a hostile literal such as 1e999999999 from being written
// out in full.
const maxExponent = 400

func numeric(v any) (*big.Rat, bool) {
	switch n := v.(type) {
	case bool:
		if n {
			return big.NewRat(1, 1), true
		}
		return new(big.Rat), true
	case number:
		if _, exponent, ok := strings.Cut(string(n), "e"); ok {
			if e, err := strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
				return nil, false
			}
		}
		return new(big.Rat).SetString(string(n))
	}
	return nil, false
}

// truthy is Python's bool().
func truthy(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case number:
		r, ok := numeric(x)
		return !ok || r.Sign() != 0
	case []any:
		return len(x) > 0
	case *object:
		return x.len() > 0
	}
	return true
}
