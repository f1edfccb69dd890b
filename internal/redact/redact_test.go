package redact

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const pem = `-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
Zm9vYmFy
-----END PRIVATE KEY-----
`

func TestText(t *testing.T) {
	const hard = "pa\"ss'\\wörd<\n🔑&"
	for name, c := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"as it is":              {[]string{"hush-hush"}, "token hush-hush, xhush-hushx", "token ********, x********x"},
		"no secret":             {nil, "all of it", "all of it"},
		"empty":                 {[]string{"", "  ", "****", "********"}, "a  b **** c", "a  b **** c"},
		"overlapping":           {[]string{"abcd", "cdef"}, "xabcdefx", "x********x"},
		"overlapping itself":    {[]string{"abab"}, "-ababab-", "-********-"},
		"contained":             {[]string{"abcd", "0abcd0"}, "0abcd0 abcd 0abcd", "******** ******** 0********"},
		"one begins another":    {[]string{"abcd", "abcdefgh"}, "abcdefgh abcdef", "******** ********ef"},
		"side by side":          {[]string{"abcd", "efgh"}, "abcdefgh", "****************"},
		"short":                 {[]string{"pw"}, "pw, pwd, (pw) a-pw 1pw pw", "********, pwd, (********) a-******** 1pw ********"},
		"short after an escape": {[]string{"pw"}, `"a\npw"`, `"a\n********"`},
		"short of unicode":      {[]string{"ä"}, "ä Äpfel bär", "******** Äpfel bär"},
		"number":                {[]string{"1"}, "1 of 11, 1.5", "******** of 11, ********.5"},
		"white space around it": {[]string{" hush-hush\n"}, "token hush-hush.", "token ********."},
		"JSON":                  {[]string{hard}, `{"k":"` + inJSON(hard, false) + `"}`, `{"k":"********"}`},
		"JSON with HTML":        {[]string{hard}, string(must(json.Marshal(hard))), `"********"`},
		"JSON of Python":        {[]string{hard}, `"pa\"ss'\\w\u00f6rd<\n\ud83d\udd11&"`, `"********"`},
		"JSON in JSON":          {[]string{hard}, strconv.Quote(`{"k":"` + inJSON(hard, false) + `"}`), `"{\"k\":\"********\"}"`},
		"Go":                    {[]string{hard}, fmt.Sprintf("%q", hard), `"********"`},
		"Go in ASCII":           {[]string{hard}, fmt.Sprintf("%+q", hard), `"********"`},
		"Python":                {[]string{hard}, `{'k': 'pa"ss\'\\wörd<\n🔑&'}`, `{'k': '********'}`},
		"Python in double":      {[]string{"it's\x00it"}, `["it's\x00it"]`, `["********"]`},
		"URL query":             {[]string{hard}, "https://h/?k=" + url.QueryEscape(hard), "https://h/?k=********"},
		"URL path":              {[]string{"a b/c%"}, "/" + url.PathEscape("a b/c%") + " /a%20b/c%25 ?a+b%2Fc%25 ?a%20b%2Fc%25", "/******** /******** ?******** ?********"},
		"base64":                {[]string{"user:hush"}, "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hush")), "Basic ********"},
		"base64 without end":    {[]string{"user:hush"}, "Basic " + base64.RawStdEncoding.EncodeToString([]byte("user:hush")), "Basic ********"},
		"PEM":                   {[]string{pem}, "key:\n" + pem + "end", "key:\n********end"},
		"PEM escaped":           {[]string{pem}, fmt.Sprintf("key: %q", pem), `key: "********"`},
		"PEM line by line":      {[]string{pem}, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj and Zm9vYmFy", "******** and Zm9vYmFy"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := New(c.secrets...).Text(c.text); got != c.want {
				t.Errorf("configured: %s\nwant %s", got, c.want)
			}
			learned := New()
			learned.Learn(c.secrets...)
			if got := learned.Text(c.text); got != c.want {
				t.Errorf("learned: %s\nwant %s", got, c.want)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTexts(t *testing.T) {
	list := []string{"a", "hush-hush"}
	got := New("hush-hush").Texts(list)
	if !slices.Equal(got, []string{"a", Mask}) || list[1] != "hush-hush" {
		t.Errorf("%q of %q", got, list)
	}
}

func TestJSON(t *testing.T) {
	r := New("1", "true", "12.50", "hush", "pa\"ss", "a\nb\nc")
	for doc, want := range map[string]string{
		`{"a": 1, "b": 11, "c": -1, "d": [1,1.0, 1e3]}`:  `{"a": "********", "b": 11, "c": -1, "d": ["********",1.0, 1e3]}`,
		`{"z": 12.50, "a": 12.5}`:                        `{"z": "********", "a": 12.5}`,
		`{"hush": true, "x": "true", "y": "a 1 b"}`:      `{"********": true, "x": "********", "y": "a ******** b"}`,
		`["pa\"ss", "\u0068ush", "a\nb\nc", "\u003c\/"]`: `["********", "********", "********", "\u003c\/"]`,
		"1":         `"********"`,
		"  null ":   "  null ",
		`"\\"`:      `"\\"`,
		"no JSON 1": `"no JSON ********"`,
		"":          `""`,
		`{"a":`:     `"{\"a\":"`,
		"\xff":      `"\ufffd"`,
	} {
		if got := string(r.JSON([]byte(doc))); got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s\nwant %s", doc, got, want)
		}
	}
}

func TestError(t *testing.T) {
	r := New("hush-hush")
	if r.Error(nil) != nil {
		t.Error("an error of nil")
	}
	cause := &fs.PathError{Op: "open", Path: "/hush-hush", Err: fs.ErrNotExist}
	err := r.Error(fmt.Errorf("read it: %w", cause))
	var path *fs.PathError
	if err.Error() != "read it: open /********: file does not exist" || !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &path) {
		t.Errorf("%v", err)
	}
}

func TestLearnBlock(t *testing.T) {
	for name, c := range map[string]struct{ doc, text, want string }{
		"secret": {
			`{"block_type": {"slug": "secret"}, "data": {"value": {"a": "pw", "n": 17, "l": [1.50, true, null, ""]}}}`,
			"pw 17 1.50 1.5 true null", "******** ******** ******** ******** true null",
		},
		"secret fields": {
			`{"block_type": {"slug": "db"}, "block_schema": {"fields": {"secret_fields": ["password", "nested.pin"]}},
			  "data": {"password": "pw", "nested": {"pin": 42, "port": 5432}, "host": "db.example", "user": "me", "zip": "12345"}}`,
			"pw 42 5432 db.example me 12345", "******** ******** 5432 ******** me ********",
		},
		"all keys and items": {
			`{"block_schema": {"fields": {"secret_fields": ["headers.*", "list.*.pin", "plain.pin"]}},
			  "data": {"headers": {"a": "x", "b": {"c": "y"}}, "list": [{"pin": 1, "no": 4}], "plain": [{"pin": 2}, {"pin": "3"}]}}`,
			"x y 1 2 3 4", "******** ******** ******** ******** ******** 4",
		},
		"a key with dots":   {`{"block_schema": {"fields": {"secret_fields": ["a.b.c"]}}, "data": {"a.b": {"c": "x"}, "a": {"b.c": "y"}}}`, "x y", "******** ********"},
		"a path to a group": {`{"block_schema": {"fields": {"secret_fields": ["a"]}}, "data": {"a": {"b": ["x"]}, "c": "z"}}`, "x z", "******** z"},
		"no secrets":        {`{"block_type": {"slug": "string"}, "block_schema": {"fields": {}}, "data": {"value": "hush-hush"}}`, "hush-hush", "hush-hush"},
		"no document":       {`{"block_type": {"slug": "secret"}, "data": {"value": "hush-hush"`, "hush-hush", "hush-hush"},
		"another shape":     {`{"block_type": "secret", "data": []}`, "secret", "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New()
			r.LearnBlock(json.RawMessage(c.doc))
			if got := r.Text(c.text); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestOldestAreForgotten(t *testing.T) {
	r := New("configured")
	value := func(i int) string { return fmt.Sprintf("secret number %06d", i) }
	r.Learn(value(0))
	r.maxLearned = 10 * r.size
	for i := range 1000 {
		r.Learn(value(i), value(0), "configured")
	}
	if r.size > r.maxLearned || len(r.spellings.uses) > 200 || len(r.spellings.anywhere)+len(r.spellings.alone) > 100 || len(r.learned) != r.order.Len() {
		t.Errorf("%d bytes of %d, %d spellings, %d values", r.size, r.maxLearned, len(r.spellings.uses), len(r.learned))
	}
	text := strings.Join([]string{value(0), value(1), value(999), "configured"}, "|")
	if got := r.Text(text); got != Mask+"|"+value(1)+"|"+Mask+"|"+Mask {
		t.Error(got)
	}
	r.Learn(strings.Repeat("x", 2*r.maxLearned))
	if r.order.Len() != 1 || r.Text(value(999)) != value(999) || r.Text("configured") != Mask {
		t.Errorf("%d values beside one that is too large", r.order.Len())
	}
}

// TestSharedSpelling: what one secret shares with another stays hidden when that
// one is forgotten.
func TestSharedSpelling(t *testing.T) {
	r := New()
	r.Learn("  hush-hush", "hush-hush")
	r.maxLearned = 1
	r.Learn("hush-hush")
	r.mu.Lock()
	left := r.order.Len()
	r.mu.Unlock()
	if left != 1 || r.Text("hush-hush") != Mask {
		t.Errorf("%d values, %s", left, r.Text("hush-hush"))
	}
}

func TestNilRedactor(t *testing.T) {
	var r *Redactor
	r.Keep("a")
	r.Learn("a")
	r.LearnBlock(json.RawMessage(`{}`))
	err := errors.New("a")
	if r.Text("a") != "a" || !slices.Equal(r.Texts([]string{"a"}), []string{"a"}) || !errors.Is(r.Error(err), err) || r.Handler(nil) != nil ||
		string(r.JSON([]byte(`{"a":1}`))) != `{"a":1}` || string(r.JSON([]byte("a"))) != `"a"` {
		t.Error("a nil Redactor changes something")
	}
}

func TestConcurrentUse(t *testing.T) {
	r := New("configured")
	r.maxLearned = 4096
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 100 {
				secret := fmt.Sprintf("secret-%d-%d", i, j)
				r.Learn(secret)
				r.Keep(fmt.Sprintf("kept-%d", j%4))
				if got := r.Text("configured kept-" + strconv.Itoa(j%4)); got != Mask+" "+Mask {
					t.Errorf("%s", got)
				}
				_ = r.JSON([]byte(`{"a":"configured"}`))
			}
		})
	}
	group.Wait()
}

func FuzzRedact(f *testing.F) {
	for _, seed := range [][3]string{
		{"hush-hush", "abcd", "x hush-hush abcd"}, {"abcd", "cdef", "abcdef"}, {"1", "ä", `{"a":1,"ä":[1.5]}`}, {pem, "pw", fmt.Sprintf("%q", pem)},
		{"\xff\xfe\xfd\xfc", "\\u00e4", "\xff\xfe\xfd\xfc"}, {"a\nb", "\r\n\r\n", `"a\nb"`}, {"aaaa", "aaaaa", "aaaaaaaaa"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, first, second, text string) {
		r := New(first)
		r.Learn(second)
		r.LearnBlock(json.RawMessage(text))
		for _, shown := range []string{r.Text(text), r.Text(first + text + second), r.Error(errors.New(text + first)).Error()} {
			for _, secret := range []string{first, second} {
				// With an asterisk a secret may be made of the mask and what is beside it.
				if len(secret) >= minAnywhere && isSecret(secret) && !strings.Contains(secret, "*") && strings.Contains(shown, secret) {
					t.Errorf("%q holds %q", shown, secret)
				}
			}
		}
		doc := r.JSON([]byte(text))
		if !json.Valid(doc) {
			t.Errorf("%q is no JSON", doc)
		}
	})
}
