package prefect

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"sync"
)

const (
	maxPageSize = 200 // PREFECT_SERVER_API_DEFAULT_LIMIT, unless the server is set to less

	// maxPageBytes bounds one answer of a list or poll, decompressed. 200 polled
	// runs without parameters are 0.3 MB; each may have 512 KiB of them.
	maxPageBytes = 16 << 20
)

// pageSizes decides how many objects one answer of a list or poll may hold.
type pageSizes struct {
	mu      sync.Mutex
	allowed int            // by the server, as far as it has told
	fitting map[string]int // by path: fewer, for answers that were too large

	pageBytes   int64 // maxPageBytes and maxAnswerBytes, but in tests
	objectBytes int64
}

func newPageSizes() *pageSizes {
	return &pageSizes{allowed: maxPageSize, fitting: map[string]int{}, pageBytes: maxPageBytes, objectBytes: maxAnswerBytes}
}

// of is the size of the next page of a list, at least 1.
func (p *pageSizes) of(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, ok := p.fitting[path]; ok {
		return min(n, p.allowed)
	}
	return p.allowed
}

// allowedLess takes note of what the server allows; false if that is not less than
// what it was asked for, so that asking again would not help.
func (p *pageSizes) allowedLess(n, asked int) bool {
	if n < 1 || n >= asked {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = min(p.allowed, n)
	return true
}

// answered takes note of how large an answer was. The size grows back after
// answers far below the bound.
func (p *pageSizes) answered(path string, objects int, bytes int64, tooLarge bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, reduced := p.fitting[path]
	switch {
	case tooLarge:
		p.fitting[path] = max(objects, 1)
	case reduced && bytes < p.pageBytes/4 && 2*n < p.allowed:
		p.fitting[path] = 2 * n
	case reduced && bytes < p.pageBytes/4:
		delete(p.fitting, path)
	}
}

// limitRefused is how the server refuses a limit: HTTP 422, seen on 2.20.25 and 3.8.8.
var limitRefused = regexp.MustCompile(`^Invalid limit: must be less than or equal to (\d+)\.`)

// allowedBy finds the largest limit in such a refusal; 0 for any other error.
func allowedBy(err error) int {
	failure, ok := errors.AsType[*Error](err)
	if !ok || failure.Status != http.StatusUnprocessableEntity {
		return 0
	}
	words := limitRefused.FindStringSubmatch(failure.Detail)
	if words == nil {
		return 0
	}
	n, _ := strconv.Atoi(words[1])
	return n
}

// readPage reads one page of a list or poll: at most as many objects as most says,
// where that is not 0, as the server allows, and as fit into maxPageBytes. full
// tells that there may be more behind them. An object that is larger than
// maxAnswerBytes is an Error that names it.
func readPage[T any](ctx context.Context, c *Client, k call, body map[string]any, most int) (items []T, full bool, err error) {
	body = maps.Clone(body)
	k.body = body
	for {
		limit := c.pages.of(k.path)
		if most > 0 {
			limit = min(limit, most)
		}
		body["limit"] = limit
		bound := c.pages.pageBytes
		if limit == 1 {
			bound = c.pages.objectBytes
		}
		var cut bool
		failure := c.send(ctx, k, bound, func(r *answerReader) (err error) {
			items, cut, err = decodeList[T](r)
			if err == nil {
				c.pages.answered(k.path, len(items), r.read, cut)
			}
			if cut && limit == 1 {
				return errTooLarge
			}
			return err
		})
		switch {
		case failure != nil && c.pages.allowedLess(allowedBy(failure), limit):
			// Asked again with what the server allows.
		case failure != nil:
			return nil, false, failure
		case cut && len(items) == 0:
			// Asked again for the first object alone.
		default:
			return items, cut || len(items) >= limit, nil
		}
	}
}

// eachPage reads a list page by page and hands on each object, at most as many as
// most says where that is not 0, until there are no more or each returns an error.
// Pages go by offset: when the list changes meanwhile, an object may come twice or
// not at all.
func eachPage[T any](ctx context.Context, c *Client, k call, body map[string]any, most int, each func(*T) error) error {
	body = maps.Clone(body)
	for read := 0; ; {
		body["offset"] = read
		items, full, err := readPage[T](ctx, c, k, body, max(0, most-read))
		if err != nil {
			return err
		}
		for i := range items {
			if err := each(&items[i]); err != nil {
				return err
			}
		}
		read += len(items)
		if !full || most > 0 && read >= most {
			return nil
		}
	}
}

// readAll reads a whole list.
func readAll[T any](ctx context.Context, c *Client, k call, body map[string]any, most int) ([]T, error) {
	var all []T
	err := eachPage(ctx, c, k, body, most, func(one *T) error {
		all = append(all, *one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
