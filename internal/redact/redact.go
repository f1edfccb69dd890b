// Package redact hides secret values in whatever is shown: log lines, reports,
// errors, documents. It looks for values, not for field names: servers quote what
// they refuse, and a quoted value has lost its name.
package redact

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Mask stands in place of each secret.
const Mask = "********"

const (
	// minAnywhere is the length in bytes from which a secret is hidden wherever it
	// occurs. A shorter one is hidden only where it stands alone: a secret "1"
	// would otherwise make every message unreadable.
	minAnywhere = 4
	// minLine is the length in bytes from which a line of a multi-line secret is a
	// secret of its own. A line of a PEM file has 64 bytes.
	minLine = 16
	// maxLearned bounds the bytes of all spellings of learned secrets.
	maxLearned = 8 << 20
	// maxSpelled is the length in bytes up to which a secret is looked for in other
	// spellings than its own. No Job is larger.
	maxSpelled = 1 << 20
)

// Redactor knows the secrets of a process. It is safe for concurrent use. All
// methods work on a nil Redactor, which hides nothing.
type Redactor struct {
	mu         sync.RWMutex
	spellings  spellings
	kept       map[string]bool          // configured secrets, never forgotten
	learned    map[string]*list.Element // by value; its element in order
	order      *list.List               // of entry, the oldest first
	size       int                      // bytes of all spellings in order
	maxLearned int
}

// entry is one learned secret.
type entry struct {
	value     string
	spellings []spelling
	size      int
}

// New makes a Redactor that hides the configured secrets. Empty ones are ignored,
// and so are those of nothing but white space or asterisks.
func New(secrets ...string) *Redactor {
	r := &Redactor{
		spellings: newSpellings(), kept: map[string]bool{}, learned: map[string]*list.Element{}, order: list.New(), maxLearned: maxLearned,
	}
	r.Keep(secrets...)
	return r
}

// Keep adds configured secrets. Unlike learned ones they are never forgotten.
func (r *Redactor) Keep(secrets ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, secret := range secrets {
		if isSecret(secret) && !r.kept[secret] {
			r.kept[secret] = true
			r.spellings.add(spell(secret))
		}
	}
}

// Learn adds secrets that were read from a server. Their memory is bounded: beyond
// 8 MiB of them, counted in all their spellings, the oldest are forgotten. A value
// that is learned again counts as new.
func (r *Redactor) Learn(values ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, value := range values {
		if e := r.learned[value]; e != nil {
			r.order.MoveToBack(e)
			continue
		}
		if !isSecret(value) || r.kept[value] {
			continue
		}
		value = strings.Clone(value) // must not keep a whole document in memory
		e := entry{value: value, spellings: spell(value)}
		for _, s := range e.spellings {
			e.size += len(s.text)
		}
		r.spellings.add(e.spellings)
		r.learned[value] = r.order.PushBack(e)
		r.size += e.size
	}
	for r.size > r.maxLearned && r.order.Len() > 1 {
		oldest := r.order.Remove(r.order.Front()).(entry)
		r.spellings.remove(oldest.spellings)
		delete(r.learned, oldest.value)
		r.size -= oldest.size
	}
}

// isSecret leaves out what would hide every line, and the mask itself, which a
// server sends in place of a secret that it keeps back.
func isSecret(value string) bool {
	return strings.TrimSpace(value) != "" && strings.Trim(value, "*") != ""
}

// Text puts Mask in place of each secret. A secret is found in all its spellings:
// as it is, escaped as in JSON, Go or Python, escaped as in an URL, in base64, and
// line by line. Where secrets overlap they are hidden together.
func (r *Redactor) Text(s string) string {
	if r == nil || s == "" {
		return s
	}
	r.mu.RLock()
	found := r.spellings.find(s)
	r.mu.RUnlock()
	if len(found) == 0 {
		return s
	}
	var b strings.Builder
	shown := 0
	for _, one := range found {
		b.WriteString(s[shown:one.from])
		b.WriteString(Mask)
		shown = one.to
	}
	b.WriteString(s[shown:])
	return b.String()
}

// Texts is Text for each member of a list. The list itself is not changed.
func (r *Redactor) Texts(texts []string) []string {
	redacted := slices.Clone(texts)
	for i := range redacted {
		redacted[i] = r.Text(redacted[i])
	}
	return redacted
}

// Error hides secrets in an error's text; nil for nil. The error itself stays
// within reach of errors.Is and errors.As: show the text of the outer one.
func (r *Redactor) Error(err error) error {
	if r == nil || err == nil {
		return err
	}
	return &redactedError{r, err}
}

type redactedError struct {
	redactor *Redactor
	err      error
}

func (e *redactedError) Error() string { return e.redactor.Text(e.err.Error()) }
func (e *redactedError) Unwrap() error { return e.err }

// isWhole reports whether a text is a secret, or one of its spellings, from end to
// end.
func (r *Redactor) isWhole(text string) bool {
	if r == nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.spellings.has(text)
}

// interval is the part [from, to) of a text.
type interval struct{ from, to int }

// spellings is an index of spellings by their first bytes, so that the time to
// search a text depends little on how many there are.
type spellings struct {
	uses     map[spelling]int // by how many secrets each is used
	anywhere map[[minAnywhere]byte][]string
	alone    map[byte][]string
}

func newSpellings() spellings {
	return spellings{uses: map[spelling]int{}, anywhere: map[[minAnywhere]byte][]string{}, alone: map[byte][]string{}}
}

func (x *spellings) add(list []spelling) {
	for _, s := range list {
		if x.uses[s]++; x.uses[s] > 1 {
			continue
		}
		if s.alone {
			x.alone[s.text[0]] = append(x.alone[s.text[0]], s.text)
		} else {
			key := [minAnywhere]byte([]byte(s.text[:minAnywhere]))
			x.anywhere[key] = append(x.anywhere[key], s.text)
		}
	}
}

func (x *spellings) remove(list []spelling) {
	for _, s := range list {
		if x.uses[s]--; x.uses[s] > 0 {
			continue
		}
		delete(x.uses, s)
		if s.alone {
			removeFrom(x.alone, s.text[0], s.text)
		} else {
			removeFrom(x.anywhere, [minAnywhere]byte([]byte(s.text[:minAnywhere])), s.text)
		}
	}
}

func removeFrom[K comparable](index map[K][]string, key K, text string) {
	rest := slices.DeleteFunc(index[key], func(t string) bool { return t == text })
	if index[key] = rest; len(rest) == 0 {
		delete(index, key)
	}
}

func (x *spellings) has(text string) bool {
	return x.uses[spelling{text, false}] > 0 || x.uses[spelling{text, true}] > 0
}

// find lists the parts of a text that are secret, in order. Overlapping ones are
// merged.
func (x *spellings) find(text string) []interval {
	var found []interval
	for from := range len(text) {
		length := x.longest(text, from)
		if length == 0 {
			continue
		}
		to := from + length
		if last := len(found) - 1; last >= 0 && from < found[last].to {
			found[last].to = max(found[last].to, to)
		} else {
			found = append(found, interval{from, to})
		}
	}
	return found
}

// longest is the length in bytes of the longest secret that begins at an offset.
func (x *spellings) longest(text string, from int) int {
	longest := 0
	if rest := text[from:]; len(x.anywhere) > 0 && len(rest) >= minAnywhere {
		for _, s := range x.anywhere[[minAnywhere]byte([]byte(rest[:minAnywhere]))] {
			if len(s) > longest && strings.HasPrefix(rest, s) {
				longest = len(s)
			}
		}
	}
	if len(x.alone) == 0 {
		return longest
	}
	for _, s := range x.alone[text[from]] {
		if len(s) > longest && strings.HasPrefix(text[from:], s) && standsAlone(text, from, from+len(s)) {
			longest = len(s)
		}
	}
	return longest
}

// standsAlone reports whether no letter or digit is on either side of text[from:to].
// The n of an escaped line end is none.
func standsAlone(text string, from, to int) bool {
	before, width := utf8.DecodeLastRuneInString(text[:from])
	if strings.ContainsRune("abfnrtv", before) && strings.HasSuffix(text[:from-width], `\`) {
		before = '\\'
	}
	after, _ := utf8.DecodeRuneInString(text[to:])
	return !isWord(before) && !isWord(after)
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
