package fhirjson

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// stricter holds the reasons for which we refuse what is well-formed JSON: two readers could read it in two ways, or it is over a cap.
var stricter = map[string]bool{"escaped key": true, "duplicate key": true, "nested too deep": true, "string too long": true, "number too long": true,
	"too many values": true, "text too long": true}

// oracle reads text with jsontext, an independent strict reader, as a flat list of what it holds; nil if it refuses.
func oracle(text []byte) []string {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	out := []string{}
	depth := 0
	for n := 0; ; n++ {
		tok, err := d.ReadToken()
		if err == io.EOF && depth == 0 && n > 0 {
			return out
		}
		if err != nil || depth == 0 && n > 0 {
			return nil
		}
		switch k := tok.Kind(); k {
		case '{', '[':
			depth++
			out = append(out, string(k))
		case '}', ']':
			depth--
			out = append(out, string(k))
		default:
			out = append(out, string(k)+tok.String())
		}
	}
}

// ours is the same list from a Doc.
func ours(d *Doc) []string {
	out := []string{}
	var list func(v Value)
	list = func(v Value) {
		switch v.Kind() {
		case Object:
			out = append(out, "{")
			for k, m := range v.Members() {
				out = append(out, `"`+k)
				list(m)
			}
			out = append(out, "}")
		case Array:
			out = append(out, "[")
			for e := range v.Elems() {
				list(e)
			}
			out = append(out, "]")
		case String:
			out = append(out, `"`+v.Text())
		case Number:
			out = append(out, "0"+string(v.Raw()))
		default:
			out = append(out, string(v.Raw()[:1])+string(v.Raw()))
		}
	}
	list(d.Root())
	return out
}

func seeds(f *testing.F) {
	for _, s := range []string{`{}`, `[]`, `{"a":"b","n":[1,2.50,-0e9],"t":true,"f":false,"z":null}`, `"\ud83d\ude00 \u00e9 é"`, `"\ud83d"`, `{"a":1,"a":2}`,
		`{"id":"1","ID":"2"}`, `{"i\u0064":1}`, " { \"x\" : [ ] } ", `01`, `1.`, "\"\xff\"", `{"a":{"b":{"c":["d",{"e":"f"}]}}}`, "\ufeff{}", `{} x`,
		`{"resourceType":"Bundle","link":[{"relation":"next","url":"u"}],"entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","id":"1"},"search":{"mode":"match"}}]}`,
		many(`"k7":1`), many(`"x":1`), strings.Repeat("[", 70) + strings.Repeat("]", 70)} {
		f.Add([]byte(s))
	}
}

// FuzzParse holds acceptance, structure, every string and every number's text against jsontext.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := bothWays(t, text, Limits{})
		want := oracle(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(text) {
				t.Fatalf("error %v", err)
			}
			if want != nil && !stricter[e.Reason] {
				t.Fatalf("we refuse what is JSON: %v", err)
			}
			return
		}
		if want == nil {
			t.Fatal("we accept what is not JSON")
		}
		got := ours(d)
		if len(got) != len(want) {
			t.Fatalf("got %d tokens, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("token %d: got %q, want %q", i, got[i], want[i])
			}
		}
		n := 0
		d.Root().Visit(func(around []Value, x Value) bool {
			n++
			if len(text) < 2000 { // it is quadratic
				looksAreRight(t, x)
			}
			for i, a := range around {
				if i > 0 && (a.Start() < around[i-1].Start() || a.End() > around[i-1].End()) || x.Start() < a.Start() || x.End() > a.End() {
					t.Fatal("what is around a value does not hold it")
				}
			}
			return true
		})
		if n != len(d.tape) {
			t.Fatalf("visited %d of %d", n, len(d.tape))
		}
		_, _ = ReadBundle(d)
	})
}

// looksAreRight holds what is found by hints and lists against what a look at everything finds.
func looksAreRight(t *testing.T, v Value) {
	t.Helper()
	keys := map[string]Value{}
	for k, m := range v.Members() {
		if have, twice := keys[k]; twice {
			t.Fatalf("the object at %d has a key twice, at %d and at %d", v.Start(), have.Start(), m.Start())
		}
		keys[k] = m
	}
	for _, k := range []string{"reference", "url", "code", "id", "", "resourceType"} {
		if v.Get(k) != keys[k] {
			t.Fatalf("Get of the object at %d finds another member", v.Start())
		}
		variant := false
		for other := range keys {
			variant = variant || other != k && strings.EqualFold(other, k)
		}
		if v.Variant(k) != (variant && k != "") {
			t.Fatalf("Variant of the object at %d says %t", v.Start(), v.Variant(k))
		}
	}
	for k, m := range keys {
		if v.Get(k) != m {
			t.Fatalf("Get of the object at %d does not find a member", v.Start())
		}
	}
	type found struct{ x, in Value }
	for _, look := range []struct {
		keys []string
		find func([]Value, func([]Value, Value)) []Value
	}{{[]string{refKey, urlKey}, v.Addresses}, {[]string{codeKey}, v.Codes}} {
		var got, want []found
		look.find(nil, func(around []Value, x Value) {
			if around[0] != v {
				t.Fatal("what is outermost is not where it was looked")
			}
			got = append(got, found{x, around[len(around)-1]})
		})
		v.Visit(func(around []Value, x Value) bool {
			if len(around) > 0 && x.Kind() == String && slices.Contains(look.keys, x.Key()) && x.Key() != "" {
				want = append(want, found{x, around[len(around)-1]})
			}
			return true
		})
		if !slices.Equal(got, want) {
			t.Fatalf("%d strings are found by key, and there are %d", len(got), len(want))
		}
	}
	resources := 0
	v.Visit(func(_ []Value, x Value) bool {
		if x.Get(typeKey).Kind() == String {
			resources++
		}
		return true
	})
	if v.Resources() != resources {
		t.Fatalf("%d resources are counted, and there are %d", v.Resources(), resources)
	}
}

// FuzzRewrite replaces every string by a quoted other one: the result is JSON with those strings and nothing else changed.
func FuzzRewrite(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text, Limits{})
		if err != nil {
			return
		}
		var edits []Edit
		d.Root().Visit(func(_ []Value, x Value) bool {
			if x.Kind() == String {
				edits = append(edits, Edit{x.Start(), x.End(), Quote("<" + x.Text() + ">")})
			}
			return true
		})
		out := d.Root().Rewrite(edits)
		again, err := Parse(out, Limits{StringBytes: len(text) + 10<<20})
		if err != nil {
			t.Fatalf("the result is refused: %v", err)
		}
		a, b := d.Root(), again.Root()
		var same func(a, b Value)
		same = func(a, b Value) {
			if a.Kind() != b.Kind() || a.Len() != b.Len() || a.Key() != b.Key() {
				t.Fatal("structure")
			}
			switch a.Kind() {
			case String:
				if b.Text() != "<"+a.Text()+">" {
					t.Fatal("string")
				}
			case Object, Array:
				var right []Value
				for _, m := range b.Members() {
					right = append(right, m)
				}
				if b.Kind() == Array {
					for e := range b.Elems() {
						right = append(right, e)
					}
				}
				i := 0
				for _, m := range a.Members() {
					same(m, right[i])
					i++
				}
				if a.Kind() == Array {
					for e := range a.Elems() {
						same(e, right[i])
						i++
					}
				}
			default:
				if !bytes.Equal(a.Raw(), b.Raw()) {
					t.Fatal("number or literal text")
				}
			}
		}
		same(a, b)
	})
}

// FuzzQuote: whatever we quote is read back as it was, by us and by the oracle.
func FuzzQuote(f *testing.F) {
	f.Add("a\"\\\x00\u2028😀")
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ToValidUTF8(s, "\ufffd")
		// ToValidUTF8 makes one mark of a run of bad bytes, range makes one of each.
		if want != s {
			want = string([]rune(s))
		}
		d, err := Parse(Quote(s), Limits{StringBytes: 10*len(s) + 10})
		if err != nil || d.Root().Text() != want {
			t.Fatalf("%v", err)
		}
		if tokens := oracle(Quote(s)); len(tokens) != 1 || tokens[0] != `"`+want {
			t.Fatal("the oracle reads something else")
		}
	})
}
