package fhirjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) Value {
	t.Helper()
	d, err := Parse([]byte(text), Limits{})
	if err != nil {
		t.Fatalf("%s refused: %v", text, err)
	}
	return d.Root()
}

// many is an object with so many members that the set instead of the pairwise comparison looks for duplicates.
func many(last string) string {
	var b strings.Builder
	b.WriteString("{")
	for i := range 30 {
		fmt.Fprintf(&b, `"k%d":%d,`, i, i)
	}
	return b.String() + last + "}"
}

func TestRefusals(t *testing.T) {
	small := Limits{Depth: 3, StringBytes: 5, NumberBytes: 4, Values: 6}
	for _, c := range []struct {
		name, text string
		lim        Limits
		reason     string
		offset     int
	}{
		{"nothing", "", Limits{}, "text ends early", 0},
		{"white space only", " \n\t\r", Limits{}, "text ends early", 4},
		{"byte order mark", "\ufeff{}", Limits{}, "not a value", 0},
		{"trailing data", `{} {}`, Limits{}, "trailing data", 3},
		{"trailing comma of an object", `{"a":1,}`, Limits{}, "not a key", 7},
		{"trailing comma of an array", `[1,]`, Limits{}, "not a value", 3},
		{"leading comma", `[,1]`, Limits{}, "not a value", 1},
		{"open object", `{"a":1`, Limits{}, "text ends early", 6},
		{"open object after its brace", `{`, Limits{}, "not a key", 1},
		{"open array", `[1`, Limits{}, "text ends early", 2},
		{"open array after its bracket", `[`, Limits{}, "text ends early", 1},
		{"open string", `"abc`, Limits{}, "text ends early", 4},
		{"open escape", `"\`, Limits{}, "text ends early", 1},
		{"open unicode escape", `"\u12`, Limits{}, "text ends early", 1},
		{"no colon", `{"a" 1}`, Limits{}, "no colon after a key", 5},
		{"no value", `{"a":}`, Limits{}, "not a value", 5},
		{"no comma between members", `{"a":1 "b":2}`, Limits{}, "no comma between members", 7},
		{"no comma between elements", `[1 2]`, Limits{}, "no comma between elements", 3},
		{"key that is no string", `{1:2}`, Limits{}, "not a key", 1},
		{"single quotes", `{'a':1}`, Limits{}, "not a key", 1},
		{"comment", `{/*x*/}`, Limits{}, "not a key", 1},
		{"wrong literal", `trve`, Limits{}, "not a value", 0},
		{"literal cut short", `tru`, Limits{}, "not a value", 0},
		{"literal and more", `nullx`, Limits{}, "trailing data", 4},
		{"NaN", `NaN`, Limits{}, "not a value", 0},
		{"Infinity", `-Infinity`, Limits{}, "not a number", 1},
		{"leading zero", `01`, Limits{}, "not a number", 2},
		{"leading zero below nought", `-01`, Limits{}, "not a number", 3},
		{"plus sign", `+1`, Limits{}, "not a value", 0},
		{"no digit after the point", `1.`, Limits{}, "not a number", 2},
		{"no digit before the point", `.5`, Limits{}, "not a value", 0},
		{"no digit in the exponent", `1e`, Limits{}, "not a number", 2},
		{"sign only in the exponent", `1e+`, Limits{}, "not a number", 3},
		{"minus only", `-`, Limits{}, "not a number", 1},
		{"hexadecimal", `0x10`, Limits{}, "trailing data", 1},
		{"control character", "\"a\tb\"", Limits{}, "control character in a string", 2},
		{"nul", "\"a\x00\"", Limits{}, "control character in a string", 2},
		{"unknown escape", `"\x41"`, Limits{}, "not an escape", 1},
		{"escape with bad digits", `"\u12g4"`, Limits{}, "not an escape", 1},
		{"high surrogate alone", `"\ud83d"`, Limits{}, "lone surrogate", 1},
		{"high surrogate before a letter", `"\ud83da12345"`, Limits{}, "lone surrogate", 1},
		{"two high surrogates", `"\ud83d\ud83d"`, Limits{}, "lone surrogate", 1},
		{"low surrogate first", `"\ude00\ud83d"`, Limits{}, "lone surrogate", 1},
		{"invalid UTF-8", "\"a\xff\"", Limits{}, "invalid UTF-8", 2},
		{"overlong UTF-8", "\"\xc0\xaf\"", Limits{}, "invalid UTF-8", 1},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", Limits{}, "invalid UTF-8", 1},
		{"UTF-8 cut short", "\"\xe2\x82\"", Limits{}, "invalid UTF-8", 1},
		{"invalid UTF-8 in a key", "{\"\xff\":1}", Limits{}, "invalid UTF-8", 2},
		{"duplicate key", `{"id":"1","id":"2"}`, Limits{}, "duplicate key", 11},
		{"keys that differ in case", `{"id":"1","ID":"2"}`, Limits{}, "duplicate key", 11},
		{"keys that fold to one: long s", `{"status":1,"ſtatus":2}`, Limits{}, "duplicate key", 13},
		{"keys that fold to one: Kelvin sign", `{"\u004B":1}`, Limits{}, "escaped key", 2},
		{"duplicate key of many", many(`"k7":1`), Limits{}, "duplicate key", -1},
		{"keys of many that differ in case", many(`"K7":1`), Limits{}, "duplicate key", -1},
		{"keys of many that fold to one", many("\"\u212a7\":1"), Limits{}, "duplicate key", -1},
		{"escaped key", `{"i\u0064":1}`, Limits{}, "escaped key", 2},
		{"deep objects", `{"a":{"a":{"a":{}}}}`, small, "nested too deep", -1},
		{"deep arrays", `[[[[]]]]`, small, "nested too deep", 3},
		{"very deep", strings.Repeat("[", 100000), Limits{}, "nested too deep", 64},
		{"long string", `"123456"`, small, "string too long", 1},
		{"long key", `{"123456":1}`, small, "string too long", 2},
		{"long number", `12345`, small, "number too long", 0},
		{"many values", `[1,2,3,4,5,6]`, small, "too many values", -1},
		{"many members", `{"a":1,"b":2,"c":3,"d":4,"e":"5", "f": "6"}`, small, "too many values", 39},
		{"many members, the last without a value", `{"a":1,"b":2,"c":3,"d":4,"e":"5", "f": `, small, "text ends early", 39},
		{"many members, the last without a colon", `{"a":1,"b":2,"c":3,"d":4,"e":"5", "f" "6"}`, small, "no colon after a key", 38},
		{"many elements, the last not there", `[1,2,3,4,5, `, small, "text ends early", 12},
		{"a comma in front of the first member", `{,"a":1}`, Limits{}, "not a key", 1},
		{"the wrong bracket after a key", `{"a":}`, Limits{}, "not a value", 5},
		{"the wrong bracket closes an object", `{"a":1]`, Limits{}, "no comma between members", 6},
		{"the wrong bracket closes an array", `[1}`, Limits{}, "no comma between elements", 2},
		{"the wrong bracket closes an empty array", `[}`, Limits{}, "not a value", 1},
		{"the wrong bracket closes an empty object", `{]`, Limits{}, "not a key", 1},
		{"deep objects and arrays", strings.Repeat(`{"a":[`, 32) + "[", Limits{}, "nested too deep", 32 * 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := bothWays(t, []byte(c.text), c.lim)
			var e *Error
			if d != nil || !errors.As(err, &e) {
				t.Fatalf("accepted")
			}
			if e.Reason != c.reason || c.offset >= 0 && e.Offset != c.offset {
				t.Errorf("got %q at %d, want %q at %d", e.Reason, e.Offset, c.reason, c.offset)
			}
			if e.Capped() != strings.Contains(c.reason, "too ") || e.Capped() && c.reason == "key too long" {
				t.Errorf("%s: a cap of ours: %v", c.reason, e.Capped())
			}
			if want := fmt.Sprintf("%s at byte %d", e.Reason, e.Offset); e.Error() != want {
				t.Errorf("got %q", e.Error())
			}
		})
	}
}

func TestAcceptedAtTheCaps(t *testing.T) {
	small := Limits{Depth: 3, StringBytes: 5, NumberBytes: 4, Values: 6}
	for _, text := range []string{`{"a":{"a":{}}}`, `[[[]]]`, `"12345"`, `{"12345":1}`, `1234`, `[1,2,3,4,5]`, `-1.5`, `0`, `-0`, `1e-9`,
		`{"a":1,"b":2}`, "\"\u00e9\"", "{\"\u0131\":1,\"i\":2}"} {
		if _, err := bothWays(t, []byte(text), small); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Parse([]byte(strings.Repeat(`{"a":[`, 32)+strings.Repeat(`]}`, 32)), Limits{}); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	if _, err := Parse([]byte(many("\"\u0131\":1,\"i\":2")), Limits{}); err != nil {
		t.Errorf("a dotless i is not an i: %v", err)
	}
}

func TestErrorsHoldNothingOfTheText(t *testing.T) {
	for _, text := range []string{`{"marker":"marker","marker":1}`, `"marker`, `markermarker`, "\"marker\x01\"", `{"marker" "marker"}`, `["marker" marker]`} {
		if _, err := Parse([]byte(text), Limits{}); err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestValues(t *testing.T) {
	v := parse(t, ` {"s":"a\"\\\/\b\f\n\r\té€😀\ud83d\ude00\u0000","n":-1.50e+3,"t":true,"f":false,"z":null,"a":[1,[2],{"x":3}],"o":{},"e":[] } `)
	if got, want := v.Get("s").Text(), "a\"\\/\b\f\n\r\té€😀😀\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !v.Get("s").Is("a\"\\/\b\f\n\r\té€😀😀\x00") || v.Get("s").Is("a") || v.Get("n").Is("-1.50e+3") {
		t.Error("Is")
	}
	if got := string(v.Get("n").Raw()); got != "-1.50e+3" {
		t.Errorf("number text %q", got)
	}
	for key, kind := range map[string]Kind{"s": String, "n": Number, "t": Bool, "f": Bool, "z": Null, "a": Array, "o": Object, "none": Absent} {
		if got := v.Get(key).Kind(); got != kind {
			t.Errorf("%s: got kind %d, want %d", key, got, kind)
		}
	}
	if !v.Get("t").True() || v.Get("f").True() || v.Get("s").True() {
		t.Error("True")
	}
	if v.Len() != 8 || v.Get("a").Len() != 3 || v.Get("s").Len() != 0 || v.Get("e").Len() != 0 {
		t.Error("Len")
	}
	if got := v.Get("a").First(); string(got.Raw()) != "1" || v.Get("e").First().Exists() || !v.Get("s").First().Is(v.Get("s").Text()) {
		t.Error("First")
	}
	if got := v.Get("n").Key(); got != "n" || !v.Get("n").KeyIs("n") || v.Get("n").KeyIs("N") || v.Key() != "" || v.Get("a").First().KeyIs("a") {
		t.Errorf("Key %q", got)
	}
	if text := string(v.Doc().src); text[v.Get("t").KeyStart():v.Get("t").End()] != `"t":true` || text[v.Start()] != '{' || text[v.End()-1] != '}' {
		t.Error("offsets")
	}
	if v.Get("a").Get("x").Exists() || v.At("a", "x").Exists() || v.At("o", "x").Exists() {
		t.Error("a member that is not there")
	}
	var zero Value
	if zero.Exists() || zero.Get("a").Exists() || zero.Text() != "" || zero.Raw() != nil || zero.Is("") || zero.Len() != 0 || zero.Key() != "" ||
		zero.KeyIs("") || zero.Doc() != nil || zero.True() || zero.At("a", "b").Exists() {
		t.Error("the zero Value is absent")
	}
	for range zero.Elems() {
		t.Error("elements of nothing")
	}
	zero.Visit(func([]Value, Value) bool { t.Error("visited nothing"); return true })
}

func TestVariant(t *testing.T) {
	v := parse(t, `{"id":1,"META":2,"ſource":3}`)
	for key, want := range map[string]bool{"id": false, "ID": true, "meta": true, "META": false, "tag": false} {
		if v.Variant(key) != want {
			t.Errorf("%s: got %v", key, !want)
		}
	}
	if (Value{}).Variant("id") || !parse(t, "{\"ſource\":3}").Variant("source") {
		t.Error("absent, and beyond ASCII")
	}
}

func TestEach(t *testing.T) {
	v := parse(t, `{"participant":[{"individual":{"reference":"a"}},{"x":1},{"individual":[{"reference":"b"},{"reference":"c"}]}],"code":{"coding":[{"code":"1"},{"code":"2"}]}}`)
	for _, c := range []struct{ path, want string }{
		{"participant.individual.reference", "a b c"},
		{"code.coding.code", "1 2"},
		{"code.coding.display", ""},
		{"nothing.at.all", ""},
		{"participant.x.y", ""},
	} {
		var got []string
		for x := range v.Each(c.path) {
			got = append(got, x.Text())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.path, got, c.want)
		}
	}
	for x := range v.Each("participant.individual.reference") { // breaking off must not panic
		if x.Text() == "a" {
			break
		}
		t.Error("went on")
	}
}

func TestWalkAndVisit(t *testing.T) {
	v := parse(t, `{"a":[{"b":1},"c"],"d":{"e":{"f":[]}},"g":2}`)
	var walked []string
	v.Walk(func(key string, x Value) bool {
		walked = append(walked, key+"="+string(x.Raw()))
		return key != "d"
	})
	want := []string{`=` + string(v.Raw()), `a=[{"b":1},"c"]`, `a={"b":1}`, `b=1`, `a="c"`, `d={"e":{"f":[]}}`, `g=2`}
	if !slices.Equal(walked, want) {
		t.Errorf("Walk: %q", walked)
	}
	var visited []string
	v.Visit(func(around []Value, x Value) bool {
		path := ""
		for i, a := range around {
			if i > 0 {
				path += a.Key() + "/"
			}
		}
		visited = append(visited, path+x.Key()+"="+string(x.Raw()))
		return !x.KeyIs("e")
	})
	want = []string{`=` + string(v.Raw()), `a=[{"b":1},"c"]`, `a/={"b":1}`, `a//b=1`, `a/="c"`, `d={"e":{"f":[]}}`, `d/e={"f":[]}`, `g=2`}
	if !slices.Equal(visited, want) {
		t.Errorf("Visit: %q", visited)
	}
	v.Get("d").Visit(func(around []Value, x Value) bool { // begins within, and ends with it
		if x.KeyIs("g") || len(around) == 0 && !x.KeyIs("d") {
			t.Error("left the value")
		}
		return true
	})
	for k, m := range v.Members() {
		if k != "a" || m.Kind() != Array {
			t.Error("order")
		}
		break
	}
}

func TestRewrite(t *testing.T) {
	text := `[ {"a" : "b", "n":1.50}, 2 ]`
	v := parse(t, text).First()
	at := func(s string) (int, int) { i := strings.Index(text, s); return i, i + len(s) }
	b0, b1 := at(`"b"`)
	n0, n1 := at(`1.50`)
	for _, c := range []struct {
		name  string
		edits []Edit
		want  string
	}{
		{"nothing", nil, `{"a" : "b", "n":1.50}`},
		{"replace", []Edit{{b0, b1, []byte(`"x"`)}}, `{"a" : "x", "n":1.50}`},
		{"any order", []Edit{{n0, n1, []byte(`2`)}, {b0, b1, []byte(`"long"`)}}, `{"a" : "long", "n":2}`},
		{"insert twice at one place, in order", []Edit{{b1, b1, []byte(`1`)}, {b1, b1, []byte(`2`)}}, `{"a" : "b"12, "n":1.50}`},
		{"insert where a replacement ends", []Edit{{b1, b1, []byte(`!`)}, {b0, b1, nil}}, `{"a" : !, "n":1.50}`},
		{"remove to the end", []Edit{{b1, v.End() - 1, nil}}, `{"a" : "b"}`},
	} {
		if got := string(v.Rewrite(slices.Clone(c.edits))); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	for name, edits := range map[string][]Edit{"overlap": {{b0, b1, nil}, {b0 + 1, b1 + 1, nil}}, "before": {{v.Start() - 1, v.Start(), nil}},
		"after": {{v.End(), v.End() + 1, nil}}, "backwards": {{b1, b0, nil}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			v.Rewrite(edits)
		}()
	}
	out := v.Rewrite(nil)
	out[0] = 'X'
	if text[2] != '{' || v.Raw()[0] != '{' {
		t.Error("the copy is not fresh")
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "plain", `"quoted" \ back`, "\x00\x1f\n\t", "é€😀", "\u2028<>&", string([]byte{0xff, 'a'})} {
		var got string
		if err := json.Unmarshal(Quote(s), &got); err != nil || got != strings.ToValidUTF8(s, "\ufffd") {
			t.Errorf("%q became %s: %v", s, Quote(s), err)
		}
		if _, err := Parse(Quote(s), Limits{}); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestReadBundle(t *testing.T) {
	read := func(text string) (Bundle, error) {
		t.Helper()
		return ReadBundle(parse(t, text).Doc())
	}
	b, err := read(`{"resourceType":"Bundle","type":"searchset","link":[{"relation":"self","url":"s"},{"relation":"next","url":"n"}],"entry":[
		{"fullUrl":"u","resource":{"resourceType":"Patient","id":"1"},"search":{"mode":"match"}},{"response":{"status":"200"}},{"resource":{"resourceType":"X"}}]}`)
	if err != nil || b.Type != "searchset" || b.Next != "n" || len(b.Entries) != 2 || b.Entries[0].FullURL != "u" || b.Entries[0].Mode != "match" ||
		!bytes.Equal(b.Entries[0].Resource.Raw(), []byte(`{"resourceType":"Patient","id":"1"}`)) || b.Entries[1].FullURL != "" {
		t.Errorf("%+v %v", b, err)
	}
	if b, err := read(`{"resourceType":"Bundle","entry":[{"fullUrl":"u","search":{"mode":"match"}},{"request":{"method":"DELETE"}},{}]}`); err != nil || len(b.Entries) != 0 || b.Missing != 2 {
		t.Errorf("without resources: %+v %v", b, err)
	}
	if b, err := read(`{"resourceType":"Bundle","type":"searchset"}`); err != nil || len(b.Entries) != 0 || b.Next != "" {
		t.Errorf("empty: %+v %v", b, err)
	}
	for name, text := range map[string]string{ // what servers write that can be read in one way only
		"in another case": `{"resourceType":"Bundle","link":[{"relation":"Self","url":"s"},{"relation":"NEXT","url":"n"}]}`,
		"no list":         `{"resourceType":"Bundle","link":{"relation":"next","url":"n"}}`,
	} {
		if b, err := read(text); err != nil || b.Next != "n" {
			t.Errorf("a next link %s: %+v %v", name, b, err)
		}
	}
	if b, err := read(`{"resourceType":"Bundle","link":null}`); err != nil || b.Next != "" {
		t.Errorf("no links: %+v %v", b, err)
	}
	for name, c := range map[string]struct{ text, reason string }{
		"another resource":      {`{"resourceType":"Patient"}`, "not a Bundle"},
		"no type":               {`{"entry":[]}`, "not a Bundle"},
		"an array":              {`[]`, "not a Bundle"},
		"two next links":        {`{"resourceType":"Bundle","link":[{"relation":"next","url":"a"},{"relation":"next","url":"b"}]}`, "next link unclear"},
		"next without address":  {`{"resourceType":"Bundle","link":[{"relation":"next"}]}`, "next link unclear"},
		"entry is an object":    {`{"resourceType":"Bundle","entry":{"resource":{"resourceType":"Patient"}}}`, "entry is not an array"},
		"resource is a string":  {`{"resourceType":"Bundle","entry":[{"resource":"x"}]}`, "not a resource"},
		"resource without type": {`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}}]}`, "not a resource"},
		"type is a number":      {`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":1}}]}`, "not a resource"},
		"entry is a string":     {`{"resourceType":"Bundle","entry":["x"]}`, "not a resource"},
		"entry is null":         {`{"resourceType":"Bundle","entry":[null]}`, "not a resource"},
		"Resource":              {`{"resourceType":"Bundle","entry":[{"Resource":{"resourceType":"Patient"},"response":{}}]}`, "a name in other case"},
		"Entry":                 {`{"resourceType":"Bundle","Entry":[{"resource":{"resourceType":"Patient"}}]}`, "a name in other case"},
		"Link":                  {`{"resourceType":"Bundle","Link":[{"relation":"next","url":"a"}]}`, "a name in other case"},
		"id is a number":        {`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":1}}]}`, "id is not a string"},
		"Total":                 {`{"resourceType":"Bundle","Total":9}`, "a name in other case"},
		"link is a string":      {`{"resourceType":"Bundle","link":"a"}`, "link is not readable"},
		"a list in link":        {`{"resourceType":"Bundle","link":[[{"relation":"next","url":"a"}]]}`, "link is not readable"},
		"null in link":          {`{"resourceType":"Bundle","link":[null]}`, "link is not readable"},
		"Relation":              {`{"resourceType":"Bundle","link":[{"Relation":"next","url":"a"}]}`, "link is not readable"},
		"relation is a list":    {`{"resourceType":"Bundle","link":[{"relation":["next"],"url":"a"}]}`, "link is not readable"},
		"no relation":           {`{"resourceType":"Bundle","link":[{"url":"a"}]}`, "link is not readable"},
		"Url":                   {`{"resourceType":"Bundle","link":[{"relation":"next","Url":"a"}]}`, "next link unclear"},
		"two spellings of next": {`{"resourceType":"Bundle","link":[{"relation":"next","url":"a"},{"relation":"Next","url":"b"}]}`, "next link unclear"},
	} {
		_, err := read(c.text)
		var e *Error
		if !errors.As(err, &e) || e.Reason != c.reason {
			t.Errorf("%s: got %v, want %s", name, err, c.reason)
		}
	}
}

func TestSame(t *testing.T) {
	wide := func(n int, last string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":%d,`, (i*7)%n, (i*7)%n)
		}
		return `{` + b.String() + last + `}`
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{}`, ` { } `, true}, {`{"a":1,"b":[true,null,"x"]}`, `{"b":[true,null,"\u0078"],"a":1}`, true}, {`{"a":1}`, `{"a":1.0}`, false}, {`{"a":1}`, `{"b":1}`, false},
		{`{"a":1,"b":2}`, `{"a":1}`, false}, {`{"a":1}`, `{"a":1,"b":2}`, false}, {`{"a":1,"b":2}`, `{"b":2,"c":1}`, false}, {`{"a":1,"b":2}`, `{"b":3,"a":1}`, false},
		{`[1,2]`, `[1,2]`, true}, {`[1,2]`, `[2,1]`, false}, {`[1]`, `[1,2]`, false}, {`[1,2]`, `[1]`, false}, {`[]`, `{}`, false}, {`true`, `false`, false}, {`null`, `null`, true},
		{`{"reference":"x","d":1}`, `{"d":1,"reference":"y"}`, true}, {`{"reference":"x"}`, `{"reference":"y"}`, true}, {`{"reference":"x"}`, `{}`, false},
		{`[{"a":{"reference":"x"}}]`, `[{"a":{"reference":"y"}}]`, true}, {`"reference"`, `"other"`, false},
		{wide(60, `"z":1,"y":2`), wide(60, `"y":2,"z":1`), true}, {wide(60, `"z":1,"y":2`), wide(60, `"y":1,"z":2`), false},
	} {
		a, b := parse(t, c.a), parse(t, c.b)
		if Same(a, b, "reference") != c.same || Same(b, a, "reference") != c.same || !Same(a, a, "") {
			t.Errorf("%s and %s: same %v", c.a, c.b, !c.same)
		}
	}
	if !Same(Value{}, Value{}, "") || Same(Value{}, parse(t, `null`), "") {
		t.Error("what is absent is the same as what is absent only")
	}
	v := parse(t, wide(60, `"z":"last"`))
	if find := v.Finder(); !find.Get("z").Is("last") || find.Get("k59").Start() != v.Get("k59").Start() || find.Get("none").Exists() {
		t.Error("a Finder finds what Get does")
	}
}

// Strings are the same if they say the same, however each of their characters is written; finding out makes no string.
func TestSameStrings(t *testing.T) {
	var all []Value
	for _, a := range []string{``, `a`, `\u0061`, `é`, `\u00e9`, `\u00E9`, `è`} {
		for _, b := range []string{``, `\"`, `\\`, `/`, `\/`, `\u002f`, `\n`, `\u000a`, `\t`} {
			for _, c := range []string{``, `😀`, `\ud83d\ude00`, `\ud83d\ude01`, "\ufffd", `\ufffd`, `z`, `\b`, `\f`, `\r`, `\u0000`} {
				all = append(all, parse(t, `"`+a+b+c+`"`))
			}
		}
	}
	for _, x := range all {
		for _, y := range all {
			if Same(x, y, "") != (x.Text() == y.Text()) {
				t.Fatalf("%s and %s: same %t", x.Raw(), y.Raw(), Same(x, y, ""))
			}
		}
	}
	long := strings.Repeat(`<p class=\"x\">\u00e9</p>\n`, 1000)
	x, y := parse(t, `{"div":"`+long+`"}`), parse(t, `{"div":"`+strings.ReplaceAll(long, `\u00e9`, `é`)+`"}`)
	if n := testing.AllocsPerRun(10, func() {
		if !Same(x, y, "") {
			t.Error("not the same")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestViewIsText(t *testing.T) {
	for _, s := range []string{`""`, `"a"`, `"\u00e9\n"`, `"é"`, `1`, `null`} {
		if v := parse(t, s); v.View() != v.Text() {
			t.Errorf("%s: %q and %q", s, v.View(), v.Text())
		}
	}
	if (Value{}).View() != "" {
		t.Error("absent")
	}
}

func TestTotal(t *testing.T) {
	for text, want := range map[string]int{`{}`: 0, `{"total":0}`: 0, `{"total":12}`: 12, `{"total":-1}`: maxTotal, `{"total":"3"}`: maxTotal, `{"total":1.5}`: maxTotal, `{"total":99999999999}`: maxTotal, `{"total":null}`: maxTotal} {
		if got := Total(parse(t, text)); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
}
