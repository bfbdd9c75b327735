package authn

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth bounds nesting in tokens and key sets. The deepest real one, a CIS2 role, needs three.
const maxDepth = 8

// parseObject is [ReadJSON] for an object. The error says nothing of the text.
func parseObject(raw []byte) (map[string]any, error) {
	v, err := ReadJSON(raw, maxDepth)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errOutsideText
	}
	return object, nil
}

// ReadJSON reads JSON in the one way that every reader must: names that stand twice in an object, or differ only in letter case,
// invalid UTF-8, trailing data and values within more than depth others are refused. encoding/json alone takes the last of two names and matches them
// without regard to case, which has let tokens say two things at once (Vault, CVE-2020-16250). Values are map[string]any, []any,
// string, json.Number, bool and nil. The error says nothing of the text.
func ReadJSON(raw []byte, depth int) (any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) { // what follows relies on both
		return nil, errOutsideText
	}
	r := strictReader{text: string(raw)}
	return r.value(depth)
}

// strictReader reads a text that is known to be valid JSON, and refuses what is not strict.
type strictReader struct {
	text string
	at   int
}

// next passes over white space and returns the byte behind it, which is not passed over.
func (r *strictReader) next() byte {
	for {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return c
		}
	}
}

// value reads one value, within which others may be so deep.
func (r *strictReader) value(depth int) (any, error) {
	if depth < 0 {
		return nil, errOutsideText
	}
	switch r.next() {
	case '{':
		return r.object(depth)
	case '[':
		return r.list(depth)
	case '"':
		s, err := r.string()
		return strings.Clone(s), err // the text is not kept for as long as one word of it
	case 't':
		r.at += len("true")
		return true, nil
	case 'f':
		r.at += len("false")
		return false, nil
	case 'n':
		r.at += len("null")
		return nil, nil
	}
	from := r.at
	for r.at < len(r.text) && strings.IndexByte("+-.0123456789Ee", r.text[r.at]) >= 0 {
		r.at++
	}
	return json.Number(r.text[from:r.at]), nil // numbers are counted with, and not kept
}

func (r *strictReader) object(depth int) (any, error) {
	out := make(map[string]any)
	var folded map[string]struct{} // of objects of many members
	for r.at++; ; r.at++ {
		if r.next() == '}' {
			r.at++
			return out, nil
		}
		name, err := r.string()
		if err != nil {
			return nil, err
		}
		switch {
		case folded != nil:
			if _, twice := folded[strings.ToLower(name)]; twice {
				return nil, errAmbiguousMembers
			}
			folded[strings.ToLower(name)] = struct{}{}
		default:
			for other := range out {
				if sameButForCase(name, other) {
					return nil, errAmbiguousMembers
				}
			}
			if len(out) == fewMembers {
				folded = map[string]struct{}{strings.ToLower(name): {}}
				for other := range out {
					folded[strings.ToLower(other)] = struct{}{}
				}
			}
		}
		r.next()
		r.at++ // the colon
		if out[name], err = r.value(depth - 1); err != nil {
			return nil, err
		}
		if r.next() == '}' {
			r.at++
			return out, nil
		}
	}
}

// fewMembers is up to how many are compared with each other one by one.
const fewMembers = 24

// sameButForCase reports whether two names are the same in lower case.
func sameButForCase(a, b string) bool {
	for a != "" && b != "" {
		x, n := rune(a[0]), 1
		if x >= utf8.RuneSelf {
			x, n = utf8.DecodeRuneInString(a)
		}
		y, m := rune(b[0]), 1
		if y >= utf8.RuneSelf {
			y, m = utf8.DecodeRuneInString(b)
		}
		if x != y && unicode.ToLower(x) != unicode.ToLower(y) {
			return false
		}
		a, b = a[n:], b[m:]
	}
	return a == b
}

func (r *strictReader) list(depth int) (any, error) {
	out := []any{}
	for r.at++; ; r.at++ {
		if r.next() == ']' {
			r.at++
			return out, nil
		}
		v, err := r.value(depth - 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if r.next() == ']' {
			r.at++
			return out, nil
		}
	}
}

// string reads a string, or a name. It may be part of the text.
func (r *strictReader) string() (string, error) {
	from := r.at
	plain := true
	for r.at++; r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] == '\\' {
			plain = false
			r.at++
		}
	}
	r.at++
	if plain {
		return r.text[from+1 : r.at-1], nil
	}
	var s string
	if json.Unmarshal([]byte(r.text[from:r.at]), &s) != nil {
		return "", errOutsideText
	}
	return s, nil
}
