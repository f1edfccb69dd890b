package render

import (
	"math/big"
	"regexp"
	"strings"
	"unicode"
)

// The kinds of a placeholder, told by the beginning of its name.
type kind int

const (
	standard kind = iota
	environment
	block
	variable
)

const (
	blockPrefix    = "prefect.blocks."
	variablePrefix = "prefect.variables."
)

type placeholder struct {
	text string // with the braces
	name string
	kind kind
}

// Python's \w is letters, digits of any script and the underscore; its \s has a
// few separators that Go's lacks.
var placeholderPattern = regexp.MustCompile(`\{\{[\s\v\x1c-\x1f\x85\p{Z}]*([\p{L}\p{N}_.\-\[\]$]+)[\s\v\x1c-\x1f\x85\p{Z}]*\}\}`)

// placeholders lists the distinct placeholders of a text, in order of appearance.
func placeholders(text string) []placeholder {
	if !strings.Contains(text, "{{") {
		return nil
	}
	var found []placeholder
	seen := map[string]bool{}
	for _, m := range placeholderPattern.FindAllStringSubmatch(text, -1) {
		if seen[m[0]] {
			continue
		}
		seen[m[0]] = true
		found = append(found, placeholder{text: m[0], name: m[1], kind: kindOf(m[1])})
	}
	return found
}

func kindOf(name string) kind {
	switch {
	case strings.HasPrefix(name, blockPrefix):
		return block
	case strings.HasPrefix(name, variablePrefix):
		return variable
	case strings.HasPrefix(name, "$"):
		return environment
	default:
		return standard
	}
}

// notSet marks a value to be removed from its parent.
type notSet struct{}

// apply fills the standard and environment placeholders of a template. Values
// that are put in are not looked at again. Block and variable placeholders are
// left for the passes after this one.
func apply(template any, values *object, environ map[string]string) any {
	switch t := template.(type) {
	case string:
		return applyText(t, values, environ)
	case []any:
		list := make([]any, 0, len(t))
		for _, item := range t {
			if v := apply(item, values, environ); v != (notSet{}) {
				list = append(list, v)
			}
		}
		return list
	case *object:
		o := newObject()
		for _, k := range t.keys {
			if v := apply(t.vals[k], values, environ); v != (notSet{}) {
				o.set(k, v)
			}
		}
		return o
	default:
		return template
	}
}

func applyText(text string, values *object, environ map[string]string) any {
	found := placeholders(text)
	if len(found) == 1 && found[0].text == text && found[0].kind == standard {
		if v, ok := lookup(values, found[0].name); ok {
			return v
		}
		return notSet{}
	}
	replacements := make([]replacement, 0, len(found))
	for _, p := range found {
		switch p.kind {
		case standard:
			v, ok := lookup(values, p.name)
			if !ok {
				v = ""
			}
			replacements = append(replacements, replacement{p.text, str(v)})
		case environment:
			replacements = append(replacements, replacement{p.text, environ[strings.TrimLeft(p.name, "$")]})
		}
	}
	return replaceAll(text, replacements)
}

// lookup follows a path such as a.b[0].c. Each part is tried as an index first,
// so that a key spelled like an integer is out of reach.
func lookup(values any, path string) (any, bool) {
	path = strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", "")
	for part := range strings.SplitSeq(path, ".") {
		var ok bool
		if values, ok = step(values, part); !ok {
			return nil, false
		}
	}
	return values, true
}

func step(value any, part string) (any, bool) {
	index, isIndex := pythonInt(part)
	switch v := value.(type) {
	case *object:
		if isIndex {
			return nil, false
		}
		return v.get(part)
	case []any:
		if i, ok := within(index, len(v)); isIndex && ok {
			return v[i], true
		}
	case string:
		runes := []rune(v)
		if i, ok := within(index, len(runes)); isIndex && ok {
			return string(runes[i]), true
		}
	}
	return nil, false
}

// within turns a Python index, which may count from the end, into Go's.
func within(index *big.Int, length int) (int, bool) {
	if index == nil || !index.IsInt64() {
		return 0, false
	}
	i := index.Int64()
	if i < 0 {
		i += int64(length)
	}
	return int(i), i >= 0 && i < int64(length)
}

// pythonInt is int(text): spaces around, a sign, single underscores between
// digits, and decimal digits of any script. Python refuses more than 4300 digits.
func pythonInt(text string) (*big.Int, bool) {
	text = strings.TrimFunc(text, isPythonSpace)
	digits := strings.TrimLeft(text, "+-")
	if digits == "" || len(text)-len(digits) > 1 || len(digits) > 4300 ||
		strings.HasPrefix(digits, "_") || strings.HasSuffix(digits, "_") || strings.Contains(digits, "__") {
		return nil, false
	}
	ascii := make([]byte, 0, len(digits)+1)
	if text[0] == '-' {
		ascii = append(ascii, '-')
	}
	for _, r := range digits {
		if r == '_' {
			continue
		}
		d, ok := decimal(r)
		if !ok {
			return nil, false
		}
		ascii = append(ascii, '0'+byte(d))
	}
	return new(big.Int).SetString(string(ascii), 10)
}

// decimal is the value of a decimal digit. Unicode keeps those of a script in
// runs of ten that begin with its zero.
func decimal(r rune) (int, bool) {
	if r < 0x80 {
		return int(r - '0'), r >= '0' && r <= '9'
	}
	if !unicode.Is(unicode.Nd, r) {
		return 0, false
	}
	for _, run := range unicode.Nd.R16 {
		if r >= rune(run.Lo) && r <= rune(run.Hi) {
			return int(r-rune(run.Lo)) % 10, true
		}
	}
	for _, run := range unicode.Nd.R32 {
		if r >= rune(run.Lo) && r <= rune(run.Hi) {
			return int(r-rune(run.Lo)) % 10, true
		}
	}
	return 0, false
}

func isPythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
