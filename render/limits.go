package render

import (
	"fmt"
	"strings"
)

// Bounds on what a hostile template can cost. The API server takes no request
// body of more than 3 MiB, so nothing that could be submitted is lost.
const (
	maxText       = 8 << 20 // bytes of one text, after filling
	maxManifest   = 8 << 20 // bytes of a manifest
	maxReferences = 1000    // distinct blocks, or variables, of one Job
	inTurn        = 1000    // distinct placeholders of one text that are replaced one after the other
)

// tooLarge is thrown where a text grows past its bound, and caught by bounded.
type tooLarge struct{ what string }

// bounded turns the end of a rendering that grew too large into its error.
func bounded(err *error) {
	switch r := recover().(type) {
	case nil:
	case tooLarge:
		*err = &Fault{At: "template", Kind: "MemoryError", Path: "job_configuration",
			Message: fmt.Sprintf("%s: the Kubernetes API server takes no Job of more than 3 MiB", r.what)}
	default:
		panic(r)
	}
}

// substitute is strings.ReplaceAll with a bound.
func substitute(text, old, value string) string {
	if len(value) > len(old) && len(text)+strings.Count(text, old)*(len(value)-len(old)) > maxText {
		panic(tooLarge{fmt.Sprintf("a text with %s grows past %d MiB when it is filled", clip(old), maxText>>20)})
	}
	return strings.ReplaceAll(text, old, value)
}

func clip(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// replacement is one placeholder's text and what it becomes.
type replacement struct{ text, value string }

// replaceAll puts values in the place of placeholders. The worker does so one
// after the other, so that a value which spells a later placeholder is filled
// too; past any sane number of placeholders they are replaced in one go, which
// keeps the time linear.
func replaceAll(text string, all []replacement) string {
	if len(all) <= inTurn {
		for _, r := range all {
			text = substitute(text, r.text, r.value)
		}
		return text
	}
	values := make(map[string]string, len(all))
	for _, r := range all {
		values[r.text] = r.value
	}
	var b strings.Builder
	end := 0
	for _, at := range placeholderPattern.FindAllStringIndex(text, -1) {
		b.WriteString(text[end:at[0]])
		end = at[1]
		if value, ok := values[text[at[0]:end]]; ok {
			b.WriteString(value)
		} else {
			b.WriteString(text[at[0]:end])
		}
		if b.Len() > maxText {
			panic(tooLarge{fmt.Sprintf("a text of %d placeholders grows past %d MiB when it is filled", len(all), maxText>>20)})
		}
	}
	return b.String() + text[end:]
}

// checkSize bounds a manifest, whose parts may be the same value many times over.
func checkSize(value any) {
	left := maxManifest
	spend(value, &left)
}

func spend(value any, left *int) {
	switch v := value.(type) {
	case string:
		*left -= len(v) + 2
	case []any:
		for _, item := range v {
			spend(item, left)
		}
	case *object:
		for _, k := range v.keys {
			*left -= len(k) + 3
			spend(v.vals[k], left)
		}
	default:
		*left -= 4
	}
	if *left < 0 {
		panic(tooLarge{fmt.Sprintf("the Job grows past %d MiB", maxManifest>>20)})
	}
}
