package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"sync"
	"unicode/utf8"
)

// canonical writes a payload as the one JSON text that it can have (ENTRY.md): members in the order of the struct and under the names
// of their tags, nothing that is empty, no white space, as few escapes as JSON allows. encoding/json is not used for writing because
// its bytes change between versions of Go (1.22 changed how \b and \f are escaped), and an entry's bytes must not.
func canonical(v any) []byte { return appendValue(nil, valueOf(v)) }

func valueOf(v any) reflect.Value { return reflect.ValueOf(v) }

var bytesType = reflect.TypeFor[[]byte]()

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		return appendValue(b, v.Elem())
	case reflect.Struct:
		b = append(b, '{')
		first := true
		for i, name := range namesOf(v.Type()) {
			f := v.Field(i)
			if empty(f) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, name...)
			b = appendValue(b, f)
		}
		return append(b, '}')
	case reflect.Slice:
		if v.Type() == bytesType {
			b = append(b, '"')
			b = base64.StdEncoding.AppendEncode(b, v.Bytes())
			return append(b, '"')
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	}
	panic("a payload holds a kind of value that has no canonical form")
}

// written are the names of the members of each type that a payload is made of, in their order, each quoted and with its colon.
var written sync.Map // reflect.Type -> []string

func namesOf(t reflect.Type) []string {
	if known, ok := written.Load(t); ok {
		return known.([]string)
	}
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = string(append(appendString(nil, t.Field(i).Tag.Get("json")), ':'))
	}
	written.Store(t, names)
	return names
}

// empty reports whether a member is left out: "", 0, false, no elements, or an object all of whose members are left out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		for i := range v.NumField() {
			if !empty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

// appendString escapes the quotation mark, the reverse solidus and U+0000 to U+001F (as \u00xx, lower case), and nothing else. What is
// not UTF-8 becomes U+FFFD, byte by byte.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		plain := i
		for plain < len(s) && s[plain] >= ' ' && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
			plain++
		}
		b = append(b, s[i:plain]...)
		if i = plain; i == len(s) {
			break
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		case r == utf8.RuneError && n == 1:
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// parseCanonical reads what canonical wrote, and nothing else: the text must be the canonical one of what was read.
func parseCanonical(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: a payload is not what this version writes", ErrDamaged)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || !bytes.Equal(canonical(into), text) {
		return fmt.Errorf("%w: a payload is not in canonical form", ErrDamaged)
	}
	return nil
}
