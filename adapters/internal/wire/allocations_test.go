package wire

import (
	"io"
	"net/http"
	"runtime"
	"testing"
)

// A record is ten requests or more. What is made for each is a few pieces and does not creep back.
func TestAllocations(t *testing.T) {
	c, err := New(Connection{BaseURL: "https://fhir.trust.example/r4"})
	if err != nil {
		t.Fatal(err)
	}
	target := c.At("Patient", "_search")
	for name, r := range map[string]Request{
		"a search":       {Target: target, Form: "identifier=a", ID: "a"},
		"a page of many": {Target: target.WithEncoded("_count=5"), ID: "a"},
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := c.message(&r); err != nil {
				t.Fatal(err)
			}
		})
		if t.Logf("%s: %.0f", name, got); got > 3 {
			t.Errorf("%s: %.0f allocations, want at most 3", name, got)
		}
	}
	if got := testing.AllocsPerRun(100, func() { _ = Answer{Status: 200}.Trouble() }); got > 0 {
		t.Errorf("no trouble: %.0f allocations", got)
	}
}

// A request without a body needs no buffer for one: net/http copied it through 32 KiB.
func TestARequestWithoutABodyNeedsNoBuffer(t *testing.T) {
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w); _, _ = io.WriteString(w, `{}`) }))
	const many = 50
	var before, after runtime.MemStats
	for i := range many + 1 {
		if i == 1 { // the first has opened a connection
			runtime.ReadMemStats(&before)
		}
		if _, err := get(t, c, NewBudget(1000, 100, nil)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / many; each >= 32<<10 {
		t.Errorf("%d bytes for one exchange, both sides together, want less than that buffer alone", each)
	} else {
		t.Logf("%d bytes for one exchange, both sides together", each)
	}
}
