package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// JobList says which Jobs to list, and what to keep of them.
type JobList struct {
	Namespace     string // "": all namespaces
	LabelSelector string
	// FieldSelector may name metadata.name, metadata.namespace and status.successful:
	// API servers know no other fields of Jobs. See NotSucceeded.
	FieldSelector string
	Keys          []string // labels and annotations to keep
	PageSize      int      // Jobs per request at most; 0: 500
}

// EachJob calls f for each Job of a list, page by page: memory does not grow with
// the number of Jobs. f may keep its Job. An error means that the list is not
// whole. If the list expires between two pages (HTTP 410: the API server keeps a
// list for some minutes), it starts again from the beginning, once; f then gets
// some Jobs a second time.
func (c *Client) EachJob(ctx context.Context, l JobList, f func(*Job)) error {
	where := "namespace " + l.Namespace
	if l.Namespace == "" {
		where = "all namespaces"
	}
	request := func() *rest.Request {
		req := c.batch.Get().Resource("jobs").NamespaceIfScoped(l.Namespace, l.Namespace != "")
		return withSelectors(req, l.LabelSelector, l.FieldSelector)
	}
	keep := func(object *jobObject) *Job {
		job := object.job()
		job.Labels, job.Annotations = only(l.Keys, job.Labels), only(l.Keys, job.Annotations)
		return job
	}
	return again(func() error {
		return eachItem(ctx, c, "list Jobs in "+where, cmp.Or(l.PageSize, pageSize), request, keep, f)
	})
}

// withSelectors leaves out an empty selector, as a real client does.
func withSelectors(req *rest.Request, labels, fields string) *rest.Request {
	if labels != "" {
		req = req.Param("labelSelector", labels)
	}
	if fields != "" {
		req = req.Param("fieldSelector", fields)
	}
	return req
}

// only returns the entries with these keys; nil if there are none.
func only(keys []string, all map[string]string) map[string]string {
	var kept map[string]string
	for _, key := range keys {
		if value, there := all[key]; there {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}

// again runs list, and once more if the API server no longer keeps what the list's
// continue token stands for.
func again(list func() error) error {
	err := list()
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		err = list()
	}
	return err
}

// eachItem asks for a list page by page. It decodes each item by itself into an
// Item, and holds what keep returns until the page is whole. A page that is larger
// than maxAnswerBytes is asked for again, and the rest of the list with it, with
// half as many items.
func eachItem[Item, Kept any](ctx context.Context, c *Client, op string, limit int, request func() *rest.Request, keep func(*Item) Kept, each func(Kept)) error {
	token := ""
	for {
		req := request().Param("limit", strconv.Itoa(limit))
		if token != "" {
			req = req.Param("continue", token)
		}
		var kept []Kept
		var next string
		_, err := c.send(ctx, op, req, func(body io.Reader) (err error) {
			next, err = readPage(body, func(item *Item) { kept = append(kept, keep(item)) })
			return err
		})
		if errors.Is(err, errAnswerTooLarge) && limit > 1 {
			limit /= 2
			continue
		}
		if err != nil {
			return err
		}
		for _, one := range kept {
			each(one)
		}
		if next == "" {
			return nil
		}
		if next == token { // it would never end
			return &Error{Op: op, Kind: Unknown, Err: errors.New("the API server answers two pages with the same continue token")}
		}
		token = next
	}
}

// readPage decodes one answer of a list, item by item, and returns its continue
// token: "" at the end of the list. An answer without items is no list.
func readPage[Item any](body io.Reader, each func(*Item)) (token string, err error) {
	s := newScanner(body)
	var metadata struct {
		Continue string `json:"continue"`
	}
	found := false
	err = s.object(func(key string) error {
		switch key {
		case "metadata":
			return s.decode(&metadata)
		case "items":
			found = true
			return readItems(s, each)
		}
		return s.skip()
	})
	if err == nil && !found {
		err = errors.New("it is not a list")
	}
	return metadata.Continue, err
}

// readItems reads an array of objects, or null, which stands for an empty one.
func readItems[Item any](s *scanner, each func(*Item)) error {
	if b, err := s.peek(); err != nil || b == 'n' {
		return s.skip()
	}
	var raw bytes.Buffer
	return s.each('[', ']', func() error {
		raw.Reset()
		if err := s.copyItem(&raw); err != nil {
			return err
		}
		item := new(Item)
		if err := json.Unmarshal(raw.Bytes(), item); err != nil {
			return err
		}
		each(item)
		return nil
	})
}
