package prefect

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestWithoutMember(t *testing.T) {
	for object, want := range map[string]string{
		`{}`:                                 `{}`,
		`{"a":1}`:                            `{"a":1}`,
		`{"p":1}`:                            `{}`,
		`{ "p" : 1 , "a":2}`:                 `{ "a":2}`,
		`{"a":2, "p":[1,{"p":2}] }`:          `{"a":2 }`,
		`{"a":1e400,"p":{"a":"}"},"b":0.10}`: `{"a":1e400,"b":0.10}`,
		`{"b":{"p":1},"p":2,"a":[{"p":3}]}`:  `{"b":{"p":1},"a":[{"p":3}]}`,
		`{"p":1,"p":2,"a":"<\u00e9>","p":3}`: `{"a":"<\u00e9>"}`,
		`{"\u0070":1,"a":"p\""}`:             `{"a":"p\""}`,
		`[1]`:                                `[1]`,
	} {
		rest, found := withoutMember([]byte(object), "p")
		if string(rest) != want || found != (want != object) {
			t.Errorf("%s without p is %s (found %v), want %s", object, rest, found, want)
		}
	}
}

func FuzzWithoutMember(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"p":2}], "p":{"x":"}"} ,"b":null}`))
	f.Add([]byte(`{"p":"","p":0}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]json.RawMessage
		if json.Unmarshal(object, &want) != nil || want == nil {
			return
		}
		delete(want, "p")
		before := bytes.Clone(object)
		rest, _ := withoutMember(object, "p")
		got := map[string]json.RawMessage{}
		if err := json.Unmarshal(rest, &got); err != nil {
			t.Fatalf("%s became %s: %v", object, rest, err)
		}
		if !reflect.DeepEqual(got, want) || !bytes.Equal(object, before) {
			t.Errorf("%s became %s", object, rest)
		}
	})
}

func TestSplitMessage(t *testing.T) {
	for _, c := range []struct {
		message string
		want    []string
	}{
		{"", []string{""}},
		{"abcd", []string{"abcd"}},
		{"abcdef", []string{"abcd", "ef"}},
		{"ab\ncdef", []string{"ab", "cdef"}},
		{"abcd\nef", []string{"abcd", "ef"}},
		{"abcd\n", []string{"abcd"}},
		{"a\nb\ncd\ne", []string{"a\nb", "cd\ne"}},
		{"\nabcdef", []string{"\nabc", "def"}},
		{"abcéf", []string{"abc", "éf"}},
		{"😀😀", []string{"😀", "😀"}},
		{"\x80\x80\x80\x80\x80\x80", []string{"\x80\x80\x80\x80", "\x80\x80"}},
	} {
		if got := splitMessage(c.message, 4); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q is split into %q, want %q", c.message, got, c.want)
		}
	}
}
