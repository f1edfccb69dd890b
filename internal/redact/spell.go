package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// spelling is one way in which a secret is written.
type spelling struct {
	text  string
	alone bool // counts only where no letter or digit is on either side
}

// spell lists the ways in which a secret is written, each once.
func spell(secret string) []spelling {
	seen := map[spelling]bool{}
	var all []spelling
	add := func(text string, alone bool) {
		s := spelling{text, alone || len(text) < minAnywhere}
		if text != "" && !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	for _, part := range partsOf(secret) {
		alone := len(part) < minAnywhere
		add(part, alone)
		if len(part) > maxSpelled {
			continue
		}
		for _, text := range spellingsOf(part) {
			add(text, alone)
		}
	}
	return all
}

// partsOf is a secret itself, what is left of it without the white space around
// it (messages show it so), and its long lines.
func partsOf(secret string) []string {
	parts := []string{secret}
	if trimmed := strings.TrimSpace(secret); trimmed != secret {
		parts = append(parts, trimmed)
	}
	if !strings.ContainsAny(secret, "\r\n") {
		return parts
	}
	for _, line := range strings.FieldsFunc(secret, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); len(line) >= minLine {
			parts = append(parts, line)
		}
	}
	return parts
}

// spellingsOf lists all spellings but the text itself. Some are escaped twice: a
// server's message quotes the JSON that it was sent.
func spellingsOf(text string) []string {
	escaped := escapes(text)
	all := append([]string(nil), escaped...)
	for _, one := range escaped {
		if one != text {
			all = append(all, inJSON(one, false), inner(strconv.Quote(one)))
		}
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(text))
	query := url.QueryEscape(text)
	return append(all,
		query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(text), (&url.URL{Path: text}).EscapedPath(),
		encoded, strings.TrimRight(encoded, "="),
	)
}

// escapes lists a text as it stands between the quotes of JSON, Go and Python.
func escapes(text string) []string {
	return []string{
		inJSON(text, true), inJSON(text, false), inASCIIJSON(text),
		inner(strconv.Quote(text)), inner(strconv.QuoteToASCII(text)),
		inPython(text, true), inPython(text, false),
	}
}

// inner takes the quotes off.
func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

// inJSON is a text between the quotes of JSON as Go writes it.
func inJSON(text string, escapeHTML bool) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	if encoder.Encode(text) != nil { // a string always encodes
		return text
	}
	return inner(strings.TrimSuffix(b.String(), "\n"))
}

// inASCIIJSON is a text between the quotes of JSON as Python's json.dumps writes
// it: what is not ASCII is escaped.
func inASCIIJSON(text string) string {
	var b strings.Builder
	for _, r := range inJSON(text, false) {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// inPython is a text between the quotes of Python's repr, which escapes a single
// quote only where the whole has double quotes too.
func inPython(text string, escapeQuote bool) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\' || r == '\'' && escapeQuote:
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}
