package kube

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

type pageItem struct {
	Metadata map[string]any `json:"metadata"`
	Spec     map[string]any `json:"spec"`
	Status   any            `json:"status"`
}

// pageOf is what encoding/json reads of a page; not valid: it is none.
func pageOf(data []byte) (items []pageItem, token string, valid bool) {
	var page struct {
		Metadata struct{ Continue string }
		Items    []pageItem
	}
	valid = json.Unmarshal(data, &page) == nil
	for _, item := range page.Items {
		for _, part := range []map[string]any{item.Metadata, item.Spec} {
			for _, key := range []string{"template", "managedFields"} {
				if _, there := part[key]; there {
					part[key] = nil
				}
			}
		}
	}
	return page.Items, page.Metadata.Continue, valid
}

var pages = []string{
	`{"kind":"JobList","metadata":{"continue":"c"},"items":[{"metadata":{"name":"a","labels":{"template":"kept"},"managedFields":[{"f:x":{}}]},"spec":{"suspend":true,"template":{"x":"]}\\\"{["}},"status":1e3}]}`,
	` { "items" : [ ] , "metadata" : { } } `,
	`{"items":[{"metadata":{"a":"\\","b":"\\\\\"","c":"\u00e9\u2028"},"status":[[],{}]},{},{"spec":{}}],"metadata":{"continue":""},"more":[true,null,-1.5]}`,
	`{"items":null,"metadata":null}`,
}

// TestPages: as encoding/json reads them, whatever the size of what arrives.
func TestPages(t *testing.T) {
	for _, page := range pages {
		want, token, valid := pageOf([]byte(page))
		for _, r := range []io.Reader{strings.NewReader(page), iotest.OneByteReader(strings.NewReader(page))} {
			var got []pageItem
			next, err := readPage(r, func(item *pageItem) { got = append(got, *item) })
			if err != nil || !valid || next != token || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v, %q, %v; want %v, %q", page, got, next, err, want, token)
			}
		}
		for cut := range len(strings.TrimSpace(page)) {
			if _, err := readPage(strings.NewReader(page[:cut]), func(*pageItem) {}); err == nil {
				t.Errorf("no error about a page that is cut: %s", page[:cut])
			}
		}
	}
}

// FuzzPage: it never panics, and what both read is the same.
func FuzzPage(f *testing.F) {
	for _, page := range pages {
		f.Add([]byte(page))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []pageItem
		token, err := readPage(bytes.NewReader(data), func(item *pageItem) { got = append(got, *item) })
		whole, ofChunks := len(got), 0
		again, againErr := readPage(iotest.OneByteReader(bytes.NewReader(data)), func(*pageItem) { ofChunks++ })
		if again != token || ofChunks != whole || (err == nil) != (againErr == nil) {
			t.Errorf("%q, %d items, %v; byte by byte %q, %d items, %v", token, whole, err, again, ofChunks, againErr)
		}
		// encoding/json takes other spellings of a key, and the last of two equal
		// ones: a page that has such is not compared.
		if want, _, valid := pageOf(data); valid && err == nil && bytes.Count(bytes.ToLower(data), []byte(`"items"`)) == 1 && len(got) != len(want) {
			t.Errorf("%d items, want %d", len(got), len(want))
		}
	})
}
