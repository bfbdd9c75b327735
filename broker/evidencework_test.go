package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// However many of a record's entries stand for the requester's organisation, each entry is searched for a few words only, and the last of them is found all the same.
func TestEvidenceSearchesForFewWords(t *testing.T) {
	for _, organisations := range []int{1, maxWords - 3, maxWords - 2, maxWords - 1, maxWords, 1000} { // two words are the requester's own
		now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		l := &looking{requester: record.Requester{Organisation: "X9Z01", User: "555001112223"}, now: now, evidence: &audit.Evidence{}, named: map[string]named{},
			words: [][]byte{[]byte("X9Z01"), []byte("555001112223")}}
		for i := range organisations {
			l.directory(&merge.Entry{Type: "Organization", ID: fmt.Sprintf("o%05d", i),
				JSON: fmt.Appendf(nil, `{"resourceType":"Organization","id":"o%05d","identifier":[{"system":%q,"value":"X9Z01"}]}`, i, record.ODSSystem)})
		}
		if len(l.words) > maxWords || len(l.named) != organisations {
			t.Errorf("%d organisations: %d words to search for and %d names", organisations, len(l.words), len(l.named))
		}
		l.event(&merge.Entry{Type: "Encounter", Time: record.ClinicalTime{Lo: now, Hi: now.Add(time.Hour), Precision: record.Span},
			JSON: fmt.Appendf(nil, `{"resourceType":"Encounter","serviceProvider":{"reference":"Organization/o%05d"}}`, organisations-1)}, audit.NearEncounter, false)
		if len(l.evidence.Near) != 1 {
			t.Errorf("%d organisations: an encounter at the last is not found", organisations)
		}
	}
}
