package kube

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// scanner reads a JSON document part by part, and skips parts without decoding
// them. It is for lists of Jobs: three quarters of a Job are its pod template and
// managed fields, which are not needed, and encoding/json reads every byte
// twice. What it skips need not be valid JSON, only balanced; what it copies is
// decoded by encoding/json.
type scanner struct{ r *bufio.Reader }

func newScanner(r io.Reader) *scanner { return &scanner{bufio.NewReaderSize(r, 64<<10)} }

// peek returns the next byte that is no white space, without consuming it.
func (s *scanner) peek() (byte, error) {
	for {
		b, err := s.r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case b != ' ' && b != '\n' && b != '\t' && b != '\r':
			return b, s.r.UnreadByte()
		}
	}
}

// take consumes the next byte that is no white space.
func (s *scanner) take() (byte, error) {
	b, err := s.peek()
	if err == nil {
		_, err = s.r.Discard(1)
	}
	return b, err
}

func (s *scanner) expect(want byte) error {
	b, err := s.take()
	if err == nil && b != want {
		err = fmt.Errorf("%q stands where %q is expected", b, want)
	}
	return err
}

// each reads what stands between an opening and a closing bracket, separated by
// commas. element must read one element.
func (s *scanner) each(opening, closing byte, element func() error) error {
	if err := s.expect(opening); err != nil {
		return err
	}
	b, err := s.peek()
	if err == nil && b == closing {
		return s.expect(closing)
	}
	for err == nil {
		if err = element(); err != nil {
			return err
		}
		switch b, err = s.take(); {
		case err != nil:
		case b == closing:
			return nil
		case b != ',':
			err = fmt.Errorf("%q stands where %q or a comma is expected", b, closing)
		}
	}
	return err
}

// object reads an object. value must read the value of the key that it gets.
func (s *scanner) object(value func(key string) error) error {
	return s.each('{', '}', func() error {
		var key string
		if err := s.decode(&key); err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return value(key)
	})
}

// decode reads one value and decodes it.
func (s *scanner) decode(into any) error {
	var raw bytes.Buffer
	if err := s.copy(&raw); err != nil {
		return err
	}
	return json.Unmarshal(raw.Bytes(), into)
}

// skip reads one value without decoding it.
func (s *scanner) skip() error { return s.copy(nil) }

// copy reads one value; into may be nil.
func (s *scanner) copy(into *bytes.Buffer) error {
	first, err := s.peek()
	if err != nil {
		return err
	}
	end := endOf(first)
	for {
		if _, err := s.r.Peek(1); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		chunk, _ := s.r.Peek(s.r.Buffered()) // what is buffered can be peeked at
		n, done := end(chunk)
		if into != nil {
			into.Write(chunk[:n])
		}
		if _, err := s.r.Discard(n); err != nil || done {
			return err
		}
	}
}

// endOf returns a function that finds the end of a value that begins with first. It
// gets the value in chunks, and returns how many bytes of a chunk belong to the
// value, and whether that is all of it.
func endOf(first byte) func(chunk []byte) (n int, done bool) {
	if first == '{' || first == '[' || first == '"' {
		return (&nesting{}).end
	}
	return func(chunk []byte) (int, bool) { // a number, true, false or null
		i := bytes.IndexAny(chunk, ",]} \t\r\n")
		if i < 0 {
			return len(chunk), false
		}
		return i, true
	}
}

// nesting is the state within a string, an object or an array.
type nesting struct {
	depth       int  // open brackets
	inString    bool // a quote was read, but not its pair
	backslashes int  // in a string: how many stand at the end of what was read
}

func (n *nesting) end(chunk []byte) (int, bool) {
	for i := 0; i < len(chunk); {
		if n.inString {
			i += n.stringEnd(chunk[i:])
		} else {
			switch chunk[i] {
			case '"':
				n.inString = true
			case '{', '[':
				n.depth++
			case '}', ']':
				n.depth--
			}
			i++
		}
		if n.depth == 0 && !n.inString {
			return i, true
		}
	}
	return len(chunk), false
}

// stringEnd reads up to the next quote, which ends the string unless an odd number
// of backslashes stands before it.
func (n *nesting) stringEnd(chunk []byte) int {
	quote := bytes.IndexByte(chunk, '"')
	part := chunk
	if quote >= 0 {
		part = chunk[:quote]
	}
	backslashes := len(part) - len(bytes.TrimRight(part, `\`))
	if backslashes == len(part) {
		backslashes += n.backslashes
	}
	if n.backslashes = backslashes; quote < 0 {
		return len(chunk)
	}
	n.inString, n.backslashes = backslashes%2 == 1, 0
	return quote + 1
}

// copyItem copies an object of the Kubernetes API without its bulk: pod template
// and managed fields, which stand two levels deep. Labels and annotations, whose
// keys may be any word, stand three levels deep.
func (s *scanner) copyItem(into *bytes.Buffer) error {
	return s.copyObject(into, func(string) error {
		b, err := s.peek()
		if err != nil || b != '{' {
			return s.copy(into)
		}
		return s.copyObject(into, func(key string) error {
			if key == "template" || key == "managedFields" {
				into.WriteString("null")
				return s.skip()
			}
			return s.copy(into)
		})
	})
}

// copyObject copies an object; value must copy the value of the key that it gets.
func (s *scanner) copyObject(into *bytes.Buffer, value func(key string) error) error {
	into.WriteByte('{')
	separator := ""
	err := s.object(func(key string) error {
		quoted, err := json.Marshal(key)
		if err != nil {
			return err
		}
		into.WriteString(separator)
		into.Write(quoted)
		into.WriteByte(':')
		separator = ","
		return value(key)
	})
	into.WriteByte('}')
	return err
}
