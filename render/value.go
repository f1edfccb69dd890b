package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
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

// maxDepth bounds the nesting of documents; Python's own parser gives up near
// 1000, the Kubernetes API server earlier.
const maxDepth = 500

var errTooDeep = fmt.Errorf("the document is nested deeper than %d levels", maxDepth)

// parse decodes a document, keeping the order of keys and the spelling of
// numbers.
func parse(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the document")
	}
	return v, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Number:
		return pythonNumber(string(t)), nil
	case json.Delim:
		if t == '[' {
			return parseList(dec, depth)
		}
		return parseObject(dec, depth)
	default:
		return t, nil
	}
}

func parseList(dec *json.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, err
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	o := newObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o.set(key.(string), v) // the decoder lets only strings be keys
	}
	_, err := dec.Token()
	return o, err
}

// pythonNumber spells a literal as Python's repr would after parsing it.
func pythonNumber(literal string) number {
	if !strings.ContainsAny(literal, ".eE") {
		if literal == "-0" {
			return "0"
		}
		return number(literal)
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil && f == 0 {
		return number(literal)
	}
	return pythonFloat(f)
}

// pythonFloat is repr(float): the shortest digits that read back, an exponent
// below 1e-4 and from 1e16 on, and always a mark of being a float.
func pythonFloat(f float64) number {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, ok := strings.Cut(s, "e")
	if !ok {
		return number(strings.ToLower(strings.TrimPrefix(s, "+"))) // inf, nan
	}
	e, _ := strconv.Atoi(exponent)
	if e < -4 || e >= 16 {
		return number(fmt.Sprintf("%se%+03d", mantissa, e))
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return number(s)
}

// encode writes a value as JSON.
func encode(b *bytes.Buffer, value any) {
	switch v := value.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case number:
		b.WriteString(string(v))
	case string:
		encodeString(b, v)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			encode(b, item)
		}
		b.WriteByte(']')
	case *object:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeString(b, k)
			b.WriteByte(':')
			encode(b, v.vals[k])
		}
		b.WriteByte('}')
	}
}

func encodeString(b *bytes.Buffer, s string) {
	const hex = "0123456789abcdef"
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // each invalid byte becomes U+FFFD
	}
	b.WriteByte('"')
	plain := 0 // up to here all is written
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b.WriteString(s[plain:i])
		plain = i + 1
		if c < 0x20 {
			b.WriteString(`\u00`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte('\\')
		b.WriteByte(c)
	}
	b.WriteString(s[plain:])
	b.WriteByte('"')
}

func marshal(value any) []byte {
	var b bytes.Buffer
	encode(&b, value)
	return b.Bytes()
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
