package fhirjson

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A Layout finds what going through the members finds: every member, none that is not there, whatever stands where, in objects of few and of too many members.
func TestLayoutFindsWhatIsThere(t *testing.T) {
	var texts []string
	for _, n := range []int{0, 1, 2, 12, layoutMost, layoutMost + 1, 200} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"member%c%d":%d`, 'a'+i%26, i, i))
		}
		texts = append(texts, "{"+strings.Join(members, ",")+"}")
	}
	texts = append(texts, `{"id":"1","Meta":{},"contained":[{"id":"2"}],"code":{"coding":[{"code":"a"},{"code":"b"}]}}`, `{"ſubject":1,"ID":2,"meta":3}`, `{"":1,"a":2}`, `[{"id":1}]`, `"id"`, `1`,
		`{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,"list":[`+strings.Repeat(`1000,`, 1<<16)+`1],"id":5}`)
	keys := []string{"id", "meta", "subject", "contained", "code", "list", "a", "", "membera0", "memberb1", "MEMBERA0", "memberz25", "membera26", "member"}
	for _, text := range texts {
		doc, err := Parse([]byte(text), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		v := doc.Root()
		l := v.Layout()
		if l.Value() != v {
			t.Error("a Layout does not know its object")
		}
		for k := range v.Members() {
			keys = append(keys, strings.Clone(k))
		}
		for _, key := range keys {
			p := Path{[]step{stepOf(key)}}
			if got, want := l.Get(p), v.Get(key); got != want || v.To(p) != want {
				t.Errorf("%.60s: a Layout finds %v at %q, Get %v", text, got.Exists(), key, want.Exists())
			}
			p.steps = append(p.steps, stepOf("coding"), stepOf("code"))
			if got, want := slices.Collect(l.Along(p)), slices.Collect(v.Along(p)); !slices.Equal(got, want) && v.Kind() == Object {
				t.Errorf("%.60s: along %q a Layout finds %d, a Value %d", text, key, len(got), len(want))
			}
		}
	}
	var none Layout
	if absent := (Value{}).Layout(); none.Get(PathOf("id")).Exists() || absent.Get(PathOf("id")).Exists() || len(slices.Collect(absent.Along(PathOf("id.x")))) != 0 {
		t.Error("something is found where nothing is")
	}
}
