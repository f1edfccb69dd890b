package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

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
