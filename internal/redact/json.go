package redact

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// JSON hides secrets in a JSON document member by member, so that it stays valid
// whatever the secrets are. Each string, keys included, goes through Text; a number
// whose spelling is a secret becomes the string Mask. All else is kept byte for
// byte. What is no JSON becomes a JSON string of its Text.
func (r *Redactor) JSON(doc []byte) []byte {
	if !json.Valid(doc) {
		return quote(r.Text(string(doc)))
	}
	if r == nil {
		return bytes.Clone(doc)
	}
	out := make([]byte, 0, len(doc))
	for i := 0; i < len(doc); {
		length := 1
		switch c := doc[i]; {
		case c == '"':
			length = stringLength(doc[i:])
			out = append(out, r.jsonString(doc[i:i+length])...)
		case c == '-' || '0' <= c && c <= '9':
			length = numberLength(doc[i:])
			out = append(out, r.jsonNumber(doc[i:i+length])...)
		default:
			out = append(out, c)
		}
		i += length
	}
	return out
}

// stringLength is that of the JSON string with which a valid document begins.
func stringLength(doc []byte) int {
	for i := 1; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(doc)
}

// numberLength is that of the JSON number with which a valid document begins.
func numberLength(doc []byte) int {
	length := len(doc) - len(bytes.TrimLeft(doc, "+-.0123456789eE"))
	return max(length, 1)
}

func (r *Redactor) jsonString(raw []byte) []byte {
	var text string
	if json.Unmarshal(raw, &text) != nil { // the document was valid
		return quote(Mask)
	}
	if redacted := r.Text(text); redacted != text {
		return quote(redacted)
	}
	return raw
}

func (r *Redactor) jsonNumber(raw []byte) []byte {
	if r.isWhole(string(raw)) {
		return []byte(strconv.Quote(Mask))
	}
	return raw
}

func quote(text string) []byte { return []byte(`"` + inJSON(text, false) + `"`) }
