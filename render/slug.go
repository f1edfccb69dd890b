package render

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"html"
	"io"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// slug is how python-slugify (legacy algorithm, with text-unidecode 1.3) is
// called by the worker.
type slug struct {
	other *regexp.Regexp // what becomes a dash
	most  int
	lower bool
}

var (
	nameChars   = regexp.MustCompile(`[^a-zA-Z0-9-]+`)
	labelChars  = regexp.MustCompile(`[^a-zA-Z0-9\-_.]+`)
	prefixChars = regexp.MustCompile(`[^a-zA-Z0-9\-.]+`)

	quotes   = regexp.MustCompile(`'+`)
	dashes   = regexp.MustCompile(`-{2,}`)
	entity   = regexp.MustCompile(`&([a-zA-Z0-9]+);`)
	decimalR = regexp.MustCompile(`&#(\d+);`)
	hexR     = regexp.MustCompile(`&#x([\da-fA-F]+);`)
)

func (s slug) of(text string) string {
	text = quotes.ReplaceAllString(text, "-")
	text = transliterate(norm.NFKD.String(text))
	text = decodeEntities(text)
	text = norm.NFKD.String(text)
	if s.lower {
		text = strings.ToLower(text)
	}
	text = strings.ReplaceAll(text, "'", "")
	text = dropThousands(text)
	text = s.other.ReplaceAllString(text, "-")
	text = strings.Trim(dashes.ReplaceAllString(text, "-"), "-")
	if len(text) >= s.most {
		text = strings.Trim(text[:s.most], "-") // ASCII by now
	}
	return text
}

// dropThousands removes commas between digits.
func dropThousands(text string) string {
	if !strings.Contains(text, ",") {
		return text
	}
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	var b strings.Builder
	for i := range len(text) {
		if text[i] != ',' || !digit(i-1) || !digit(i+1) {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// slugName is the name of a Job or Secret without what Kubernetes appends; "" if
// nothing of it is left.
func slugName(text string) string { return slug{nameChars, 45, true}.of(text) }

// slugLabelValue falls back to the text itself, so that the API server names
// what is wrong.
func (r rules) slugLabelValue(text string) string {
	return orText(strings.Trim(slug{labelChars, 63, r.lowerLabels}.of(text), "_-."), text)
}

// slugLabelKey slugs the name and the prefix before the first slash apart.
func (r rules) slugLabelKey(key string) string {
	prefix, name, hasPrefix := strings.Cut(key, "/")
	if !hasPrefix {
		prefix, name = "", key
	}
	name = orText(strings.Trim(slug{labelChars, 63, r.lowerLabels}.of(name), "_-."), name)
	if prefix == "" {
		return name
	}
	return orText(strings.Trim(slug{prefixChars, 253, r.lowerLabels}.of(prefix), "_-."), prefix) + "/" + name
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// translitData is the table of the Python package text-unidecode 1.3, after
// Sean M. Burke's Text::Unidecode (Artistic License): what U+0001 to U+FFFF
// become, separated by NUL.
//
//go:embed translit.gz
var translitData []byte

var translitTable = sync.OnceValue(func() []string {
	unzip, err := gzip.NewReader(bytes.NewReader(translitData))
	if err != nil {
		panic(err) // the data is part of the binary
	}
	table, err := io.ReadAll(unzip)
	if err != nil {
		panic(err)
	}
	return strings.Split(string(table), "\x00")
})

// transliterate spells a text in ASCII. What lies beyond the table vanishes.
func transliterate(text string) string {
	if isASCII(text) {
		return text
	}
	table := translitTable()
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case int(r) <= len(table):
			b.WriteString(table[r-1])
		}
	}
	return b.String()
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decodeEntities decodes the character references of HTML 4. A number that is no
// character leaves all references of its kind as they are.
func decodeEntities(text string) string {
	if !strings.Contains(text, "&") {
		return text
	}
	text = entity.ReplaceAllStringFunc(text, func(reference string) string {
		if strings.Contains(html4, " "+reference[1:len(reference)-1]+" ") {
			return html.UnescapeString(reference)
		}
		return reference
	})
	text = decodeNumbers(text, decimalR, 10)
	return decodeNumbers(text, hexR, 16)
}

func decodeNumbers(text string, pattern *regexp.Regexp, base int) string {
	valid := true
	decoded := pattern.ReplaceAllStringFunc(text, func(reference string) string {
		digits := pattern.FindStringSubmatch(reference)[1]
		n, ok := new(big.Int).SetString(digits, base)
		if !ok || len(digits) > 4300 || !n.IsInt64() || n.Int64() > utf8.MaxRune {
			valid = false
			return reference
		}
		return string(rune(n.Int64()))
	})
	if !valid {
		return text
	}
	return decoded
}
