package prefect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// errTooLarge ends the reading of an answer that is larger than its bound.
var errTooLarge = errors.New("the answer is too large")

// answerReader reads an answer, decompressed, up to a bound. It keeps apart what
// ended the reading: the connection, the bound, or neither.
type answerReader struct {
	body io.Reader
	left int64 // bytes that may still be read, and one

	read     int64
	failed   error // of the connection
	tooLarge bool
	head     []byte // the beginning, to name what is too large
}

// headBytes is enough for the id of a polled run, which stands near the beginning.
const headBytes = 4 << 10

func (a *answerReader) Read(p []byte) (int, error) {
	if a.left <= 0 {
		a.tooLarge = true
		return 0, errTooLarge
	}
	n, err := a.body.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	a.read += int64(n)
	a.head = append(a.head, p[:min(n, headBytes-len(a.head))]...)
	if err != nil && err != io.EOF {
		a.failed = err
	}
	return n, err
}

// fault makes an Error of what a decoder returned; nil for nil.
func (a *answerReader) fault(op string, err error) *Error {
	switch {
	case err == nil:
		return nil
	case a.failed != nil:
		return noAnswer(op, a.failed, true)
	case a.tooLarge:
		return &Error{Op: op, Kind: Unavailable, Sent: true, Detail: fmt.Sprintf("the answer is larger than %d KiB%s", a.read>>10, a.firstObject())}
	}
	return unexpected(op, err)
}

// unexpected is an answer of another shape than the Prefect API's.
func unexpected(op string, err error) *Error {
	return &Error{Op: op, Kind: Unavailable, Sent: true, Detail: "the answer is not what the Prefect API sends (is PREFECT_API_URL right, with its /api?)", Err: err}
}

var objectID = regexp.MustCompile(`"id"\s*:\s*"([0-9A-Za-z-]{1,64})"`)

// firstObject names the object that an answer begins with, where it shows its id.
func (a *answerReader) firstObject() string {
	if id := objectID.FindSubmatch(a.head); id != nil {
		return ", with object " + string(id[1])
	}
	return ""
}

// decodeList decodes an array one element after the other, so that only what T
// keeps of each is held. A list that is cut at the reader's bound is no error:
// its whole elements are returned, and cut is true.
func decodeList[T any](a *answerReader) (items []T, cut bool, err error) {
	d := json.NewDecoder(a)
	start, err := d.Token()
	if err == nil && start == nil { // null
		return nil, false, theEnd(d)
	}
	if err == nil && start != json.Delim('[') {
		err = fmt.Errorf("the answer begins with %v, not with a list", start)
	}
	for err == nil && d.More() {
		var one T
		if err = d.Decode(&one); err == nil {
			items = append(items, one)
		}
	}
	if err == nil {
		_, err = d.Token()
	}
	if err == nil {
		err = theEnd(d)
	}
	if a.tooLarge && a.failed == nil {
		return items, true, nil
	}
	return items, false, err
}

// theEnd reads on to the answer's end, which lets the connection be used again.
func theEnd(d *json.Decoder) error {
	switch token, err := d.Token(); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("the answer goes on after its end with %v", token)
	}
}

// keepRaw decodes fields and keeps a copy of what they were decoded from.
func keepRaw(data []byte, fields any, raw *json.RawMessage) error {
	if err := json.Unmarshal(data, fields); err != nil {
		return err
	}
	*raw = bytes.Clone(data)
	return nil
}
