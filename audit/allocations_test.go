package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// The keyed hash is HMAC-SHA256 over the version, the kind, and each word with its length, however long the words are.
func TestHashIsHMAC(t *testing.T) {
	for _, n := range []int{0, 1, 10, 100, 185, 186, 187, 300, 5000} {
		var lookup [keySize]byte
		_, _ = rand.Read(lookup[:])
		e := newEpoch(1, [keySize]byte{}, lookup)
		words := []string{strings.Repeat("a", n), "", "word"}
		h := hmac.New(sha256.New, e.lookup[:])
		_, _ = h.Write([]byte{EntryVersion, byte(MarkKey)})
		for _, w := range words {
			_, _ = h.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(w))), w...)) //nolint:gosec // short
		}
		want := Mark{MarkKey, string(h.Sum(nil))}
		for range 2 {
			if e.hash(MarkKey, words...) != want {
				t.Errorf("a word of %d bytes: not the HMAC", n)
			}
		}
	}
}

// What a request records is hashed, sealed, opened and read a few times, and makes little each time.
func TestAllocations(t *testing.T) {
	e := newEpoch(1, [keySize]byte{}, [keySize]byte{})
	k := &Keys{epochs: []epoch{e}}
	a := Access{Key: strings.Repeat("0f", 16), RequestID: "7d0c2b0e-5b5e-4f0f-9b0a-000000000000", Face: "rest", Operation: "record", Subject: someone(t, "9990000018"),
		Requester: record.Requester{Kind: record.Professional, User: "555000001", Name: "Example", Organisation: "X9A01", Client: "epr"}, Purpose: record.Treatment, At: time.Now()}
	for _, c := range []record.CustodianKey{"acute", "gp", "mentalhealth", "community", "socialcare"} {
		a.Asked = append(a.Asked, c)
		a.Decision.Custodians = append(a.Decision.Custodians, consent.CustodianDecision{Key: c, Permitted: record.AllSections,
			Parts: []consent.Part{{Sections: record.AllSections, Allowed: true, Outcome: "permitted", Rule: "C-1"}}})
	}
	p := &payload{Access: accessOut(a)}
	entry, err := newDraft(k, canonical(p)).entry(1, TypeBegin, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		most float64
		do   func()
	}{
		{"a mark", 5, func() { _ = e.hash(MarkPerson, "9990000018") }},
		{"a draft, sealed", 9, func() { _, _ = newDraft(k, nil).entry(1, TypeBegin, entry.Time) }},
		{"an entry, opened and read", 42, func() {
			if f, err := found(k, &entry); err != nil || f.Access.Key != a.Key {
				t.Fatal(err)
			}
		}},
	} {
		if got := testing.AllocsPerRun(100, c.do); got > c.most {
			t.Errorf("%s: %.0f allocations, want at most %.0f", c.name, got, c.most)
		} else {
			t.Logf("%s: %.0f", c.name, got)
		}
	}
}

func someone(t *testing.T, digits string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
