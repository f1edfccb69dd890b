package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Documents is the content of the Prefect server that references point to. A nil
// entry is a document that is known not to exist.
type Documents struct {
	BlocksByName map[string]json.RawMessage // "<type-slug>/<document-name>" -> block document
	BlocksByID   map[string]json.RawMessage // id -> block document
	Variables    map[string]json.RawMessage // name -> value (JSON)
}

// Missing lists references that Documents does not hold yet.
type Missing struct {
	BlocksByName []string // "<type-slug>/<document-name>"
	BlocksByID   []string
	Variables    []string
}

func (m *Missing) Error() string {
	return fmt.Sprintf("not fetched yet: blocks %v %v, variables %v", m.BlocksByName, m.BlocksByID, m.Variables)
}

func (m *Missing) any() bool {
	return len(m.BlocksByName)+len(m.BlocksByID)+len(m.Variables) > 0
}

func note(list *[]string, name string) {
	if len(*list) >= maxReferences {
		panic(tooLarge{fmt.Sprintf("the Job refers to more than %d blocks or variables", maxReferences)})
	}
	if !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

// references resolves what a filled configuration refers to: blocks over the
// whole of it, then variables. So a variable named inside a block is resolved,
// and a block named inside a variable is not.
type references struct {
	rules   rules
	docs    Documents
	missing Missing
	absent  []string // what the user should know
}

func (r *references) resolve(config any) (any, error) {
	config, err := r.walk(config, nil, r.blockObject, r.blockText)
	if err != nil {
		return nil, err
	}
	// With blocks missing this pass still finds most variables, so that the
	// caller fetches them in one go.
	config, err = r.walk(config, nil, nil, r.variableText)
	if err != nil {
		return nil, err
	}
	if r.missing.any() {
		return nil, &r.missing
	}
	return config, nil
}

type path []string

func (p path) String() string { return "job_configuration/" + strings.Join(p, "/") }

// walk rebuilds a value. An object or text for which a function answers true is
// replaced by what it returns, which is not looked at again.
func (r *references) walk(value any, at path, onObject func(*object, path) (any, bool, error), onText func(string, path) (any, error)) (any, error) {
	switch v := value.(type) {
	case string:
		return onText(v, at)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			var err error
			if list[i], err = r.walk(item, append(at, fmt.Sprint(i)), onObject, onText); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *object:
		if onObject != nil {
			if replaced, done, err := onObject(v, at); done || err != nil {
				return replaced, err
			}
		}
		o := newObject()
		for _, k := range v.keys {
			item, err := r.walk(v.vals[k], append(at, k), onObject, onText)
			if err != nil {
				return nil, err
			}
			o.set(k, item)
		}
		return o, nil
	default:
		return value, nil
	}
}

// blockObject resolves {"$ref": {"block_document_id": ...}}.
func (r *references) blockObject(o *object, at path) (any, bool, error) {
	ref, there := o.get("$ref")
	if !there {
		return nil, false, nil
	}
	target, ok := ref.(*object)
	if !ok {
		return nil, false, &Fault{At: "blocks", Kind: "AttributeError", Path: at.String() + "/$ref",
			Message: fmt.Sprintf("$ref must be an object with block_document_id, not %s", typeName(ref))}
	}
	id, _ := target.get("block_document_id")
	if !truthy(id) {
		return nil, false, nil
	}
	name, ok := id.(string)
	if !ok {
		return nil, false, &Fault{At: "blocks", Kind: "ValueError", Path: at.String() + "/$ref/block_document_id",
			Message: fmt.Sprintf("block_document_id must be a string, not %s", typeName(id))}
	}
	document, known := r.docs.BlocksByID[name]
	if !known {
		note(&r.missing.BlocksByID, name)
		return nil, true, nil
	}
	data, err := blockData(document, at, "the block document "+name)
	return data, true, err
}

// blockData is the data of a block document; a nil one does not exist.
func blockData(document json.RawMessage, at path, what string) (any, error) {
	if document == nil {
		return nil, &Fault{At: "blocks", Kind: "ObjectNotFound", Path: at.String(),
			Message: what + " does not exist: create it or correct the reference in the work pool, the deployment or the flow run"}
	}
	whole, err := parse(document)
	if err != nil {
		return nil, &Fault{At: "blocks", Kind: "ValueError", Path: at.String(), Message: what + " cannot be read: " + err.Error()}
	}
	o, _ := whole.(*object)
	data, _ := o.get("data")
	return data, nil
}

func (r *references) blockText(text string, at path) (any, error) {
	found := placeholders(text)
	if !hasKind(found, block) {
		return text, nil
	}
	if len(found) == 1 && found[0].text == text {
		return r.blockValue(found[0], at)
	}
	if !r.rules.inlineBlocks {
		return nil, &Fault{At: "blocks", Kind: "ValueError", Path: at.String(),
			Message: fmt.Sprintf("%q: Prefect 2 allows one block placeholder in a text and nothing around it", text)}
	}
	var replacements []replacement
	for _, p := range found {
		if p.kind != block {
			continue
		}
		value, err := r.blockValue(p, at)
		if err != nil {
			return nil, err
		}
		switch value.(type) {
		case []any, *object:
			return nil, &Fault{At: "blocks", Kind: "ValueError", Path: at.String(),
				Message: fmt.Sprintf("%s is %s, which cannot stand inside a text: name one of its values", p.text, typeName(value))}
		}
		replacements = append(replacements, replacement{p.text, str(value)})
	}
	return replaceAll(text, replacements), nil
}

// blockValue resolves prefect.blocks.<type-slug>.<document-name>[.<path>].
func (r *references) blockValue(p placeholder, at path) (any, error) {
	parts := strings.SplitN(strings.ReplaceAll(p.name, blockPrefix, ""), ".", 3)
	if len(parts) < 2 {
		return nil, &Fault{At: "blocks", Kind: "ValueError", Path: at.String(),
			Message: fmt.Sprintf("%s: a block placeholder is {{ prefect.blocks.<type-slug>.<document-name> }}", p.text)}
	}
	name := parts[0] + "/" + parts[1]
	document, known := r.docs.BlocksByName[name]
	if !known {
		note(&r.missing.BlocksByName, name)
		return nil, nil
	}
	value, err := blockData(document, at, fmt.Sprintf("the block %q of type %q", parts[1], parts[0]))
	if err != nil {
		return nil, err
	}
	rest := parts[2:]
	if data, ok := value.(*object); ok && data.len() == 1 {
		if inner, ok := data.get("value"); ok && !r.namesValue(rest) {
			value = inner
		}
	}
	if len(rest) == 0 {
		return value, nil
	}
	value, ok := lookup(value, rest[0])
	if !ok {
		return nil, &Fault{At: "blocks", Kind: "ValueError", Path: at.String(),
			Message: fmt.Sprintf("%s: the block %q of type %q has nothing at %q", p.text, parts[1], parts[0], rest[0])}
	}
	return value, nil
}

func (r *references) namesValue(rest []string) bool {
	if len(rest) == 0 {
		return false
	}
	if !r.rules.exactValuePath {
		return strings.HasPrefix(rest[0], "value")
	}
	return rest[0] == "value" || strings.HasPrefix(rest[0], "value.") || strings.HasPrefix(rest[0], "value[")
}

func (r *references) variableText(text string, at path) (any, error) {
	found := placeholders(text)
	if !hasKind(found, variable) {
		return text, nil
	}
	whole := len(found) == 1 && found[0].text == text
	var replacements []replacement
	for _, p := range found {
		if p.kind != variable {
			continue
		}
		value, err := r.variableValue(p, at)
		if err != nil {
			return nil, err
		}
		if whole {
			return value, nil
		}
		replacements = append(replacements, replacement{p.text, str(value)})
	}
	return replaceAll(text, replacements), nil
}

// variableValue is "" for a variable that does not exist.
func (r *references) variableValue(p placeholder, at path) (any, error) {
	name := strings.ReplaceAll(p.name, variablePrefix, "")
	raw, known := r.docs.Variables[name]
	if !known {
		note(&r.missing.Variables, name)
		return "", nil
	}
	if raw == nil {
		warning := fmt.Sprintf("%s: the Prefect variable %q does not exist, and nothing stands in its place, as with the worker; create it with `prefect variable set %s VALUE`", at, name, name)
		if !slices.Contains(r.absent, warning) {
			r.absent = append(r.absent, warning)
		}
		return "", nil
	}
	value, err := parse(raw)
	if err != nil {
		return nil, &Fault{At: "variables", Kind: "ValueError", Path: at.String(), Message: fmt.Sprintf("the variable %q cannot be read: %v", name, err)}
	}
	return value, nil
}

func hasKind(found []placeholder, k kind) bool {
	return slices.ContainsFunc(found, func(p placeholder) bool { return p.kind == k })
}
