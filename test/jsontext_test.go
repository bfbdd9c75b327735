package test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// node is one JSON value as it was written. The proofs about whole records read FHIR with it, and with nothing of the product: every
// token keeps its text, so that 1.0 is not 1.00, members keep their order, and a key that stands twice is an error.
type node struct {
	kind byte   // { [ " 0 t f n
	raw  string // its text, white space inside included
	text string // of strings: decoded
	keys []string
	kids []*node // members in the order of keys, or elements
}

var errJSON = errors.New("not JSON as RFC 8259 has it, or a key twice")

// readJSON reads a whole text.
func readJSON(text []byte) (*node, error) {
	if !utf8.Valid(text) {
		return nil, errJSON
	}
	r := jsonReader{src: string(text)}
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.space(); r.at != len(r.src) {
		return nil, errJSON
	}
	return n, nil
}

type jsonReader struct {
	src string
	at  int
}

func (r *jsonReader) space() {
	for r.at < len(r.src) && strings.IndexByte(" \t\r\n", r.src[r.at]) >= 0 {
		r.at++
	}
}

// take reports whether c comes next, and goes past it.
func (r *jsonReader) take(c byte) bool {
	if r.at < len(r.src) && r.src[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *jsonReader) value(depth int) (*node, error) {
	r.space()
	if r.at >= len(r.src) || depth > 200 {
		return nil, errJSON
	}
	from := r.at
	n := &node{kind: r.src[from]}
	var err error
	switch n.kind {
	case '{':
		err = r.object(n, depth)
	case '[':
		err = r.array(n, depth)
	case '"':
		err = r.str(n)
	default:
		for r.at < len(r.src) && strings.IndexByte("+-.0123456789abcdefghijklmnopqrstuvwxyzE", r.src[r.at]) >= 0 {
			r.at++
		}
		var v any // the standard library says whether the word or number is one
		if json.Unmarshal([]byte(r.src[from:r.at]), &v) != nil {
			err = errJSON
		}
		if _, number := v.(float64); number {
			n.kind = '0'
		}
	}
	n.raw = r.src[from:r.at]
	return n, err
}

func (r *jsonReader) object(n *node, depth int) error {
	r.at++
	if r.space(); r.take('}') {
		return nil
	}
	seen := map[string]bool{}
	for {
		r.space()
		var key node
		if r.at >= len(r.src) || r.src[r.at] != '"' || r.str(&key) != nil || seen[key.text] {
			return errJSON
		}
		seen[key.text] = true
		if r.space(); !r.take(':') {
			return errJSON
		}
		kid, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.keys, n.kids = append(n.keys, key.text), append(n.kids, kid)
		r.space()
		if r.take('}') {
			return nil
		}
		if !r.take(',') {
			return errJSON
		}
	}
}

func (r *jsonReader) array(n *node, depth int) error {
	r.at++
	if r.space(); r.take(']') {
		return nil
	}
	for {
		kid, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.kids = append(n.kids, kid)
		r.space()
		if r.take(']') {
			return nil
		}
		if !r.take(',') {
			return errJSON
		}
	}
}

func (r *jsonReader) str(n *node) error {
	from := r.at
	for r.at++; r.at < len(r.src) && r.src[r.at] != '"'; r.at++ {
		if r.src[r.at] == '\\' {
			r.at++
		}
	}
	if r.at >= len(r.src) {
		return errJSON
	}
	r.at++
	if n.text = r.src[from+1 : r.at-1]; strings.ContainsFunc(n.text, func(c rune) bool { return c == '\\' || c < ' ' }) &&
		json.Unmarshal([]byte(r.src[from:r.at]), &n.text) != nil { // the standard library says what an escape means
		return errJSON
	}
	return nil
}

// get follows keys from n; where an array stands in the way its first element is taken. nil if there is nothing. It may be called on nil.
func (n *node) get(keys ...string) *node {
	for _, k := range keys {
		if n != nil && n.kind == '[' && len(n.kids) > 0 {
			n = n.kids[0]
		}
		if n == nil || n.kind != '{' {
			return nil
		}
		i := slices.Index(n.keys, k)
		if i < 0 {
			return nil
		}
		n = n.kids[i]
	}
	return n
}

// str returns the string at keys, "" if there is none.
func (n *node) str(keys ...string) string {
	if n = n.get(keys...); n == nil || n.kind != '"' {
		return ""
	}
	return n.text
}

// list returns the elements of the array at keys.
func (n *node) list(keys ...string) []*node {
	if n = n.get(keys...); n == nil || n.kind != '[' {
		return nil
	}
	return n.kids
}

// walk calls f for every member of every object below n, with the object that it stands in.
func (n *node) walk(f func(in *node, key string, v *node)) {
	for i, kid := range n.kids {
		if n.kind == '{' {
			f(n, n.keys[i], kid)
		}
		kid.walk(f)
	}
}
