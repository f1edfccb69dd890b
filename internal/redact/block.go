package redact

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// LearnBlock learns the secrets of a block document as the Prefect server sends it
// with include_secrets=true (GET /block_documents/{id}, Prefect 2.20 and 3):
// block_type.slug, block_schema.fields.secret_fields, data.
//
// Of a block of type secret each string and number is one, however short. Of a block
// whose schema names secret fields each string and number at those paths is one,
// however short, and besides each string of at least 4 bytes anywhere in its data:
// a connection string repeats its password. A document that cannot be read teaches
// nothing.
func (r *Redactor) LearnBlock(doc json.RawMessage) {
	if r == nil {
		return
	}
	var block struct {
		Type struct {
			Slug string `json:"slug"`
		} `json:"block_type"`
		Schema struct {
			Fields struct {
				SecretFields []string `json:"secret_fields"`
			} `json:"fields"`
		} `json:"block_schema"`
		Data any `json:"data"`
	}
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber()
	if decoder.Decode(&block) != nil {
		return
	}
	if block.Type.Slug == "secret" {
		r.Learn(scalars(block.Data, nil)...)
		return
	}
	if len(block.Schema.Fields.SecretFields) == 0 {
		return
	}
	r.Learn(longStrings(block.Data, nil)...)
	for _, path := range block.Schema.Fields.SecretFields {
		r.Learn(scalarsAt(block.Data, path, nil)...)
	}
}

// scalars lists the strings and numbers of a JSON value.
func scalars(value any, list []string) []string {
	eachLeaf(value, func(leaf any) {
		switch v := leaf.(type) {
		case string:
			list = append(list, v)
		case json.Number:
			list = append(list, numberSpellings(v)...)
		}
	})
	return list
}

// longStrings lists the strings of a JSON value that are hidden wherever they occur.
func longStrings(value any, list []string) []string {
	eachLeaf(value, func(leaf any) {
		if text, ok := leaf.(string); ok && len(text) >= minAnywhere {
			list = append(list, text)
		}
	})
	return list
}

// eachLeaf visits what is neither a list nor a mapping.
func eachLeaf(value any, visit func(any)) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			eachLeaf(item, visit)
		}
	case map[string]any:
		for _, item := range v {
			eachLeaf(item, visit)
		}
	default:
		visit(v)
	}
}

// scalarsAt lists the strings and numbers below a path of secret_fields, such as
// "headers.*". A member * matches all keys and items; keys may hold dots; a list is
// passed through without a member of its own.
func scalarsAt(value any, path string, list []string) []string {
	if path == "" {
		return scalars(value, list)
	}
	first, rest, _ := strings.Cut(path, ".")
	switch v := value.(type) {
	case []any:
		if first != "*" {
			rest = path
		}
		for _, item := range v {
			list = scalarsAt(item, rest, list)
		}
	case map[string]any:
		for key, item := range v {
			switch {
			case first == "*":
				list = scalarsAt(item, rest, list)
			case key == path:
				list = scalars(item, list)
			case strings.HasPrefix(path, key+"."):
				list = scalarsAt(item, path[len(key)+1:], list)
			}
		}
	}
	return list
}

// numberSpellings is a number as the document has it, and as Python and Go print
// it.
func numberSpellings(n json.Number) []string {
	spellings := []string{n.String()}
	f, err := n.Float64()
	if err != nil || !strings.ContainsAny(n.String(), ".eE") {
		return spellings
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if f == math.Trunc(f) {
		spellings = append(spellings, plain+".0")
	}
	return append(spellings, plain, strconv.FormatFloat(f, 'g', -1, 64))
}
