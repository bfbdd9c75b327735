package fhirr4

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// patient is the custodian's Patient for the subject.
type patient struct {
	id       string
	idTells  bool // the id holds an NHS number, so it must not be in an address
	entry    fhirjson.Entry
	outcomes []fhirjson.Entry // what the custodian said when it was asked who that is
	short    bool             // it says that it found more than it sent, or that another page follows which is not there
}

// findPatient asks for the person by NHS number, in a body. Exactly one Patient may come back, and it must carry that number: a server that
// ignores the parameter and returns somebody, or everybody, is found out here.
func (f *fetch) findPatient(ctx context.Context) (patient, error) {
	people, err := f.pages(ctx, wire.Request{Target: f.source.search, Form: byNumber + f.query.Subject.Number.Reveal(), ID: f.id, Header: f.header})
	if err != nil {
		return patient{}, err
	}
	found := patient{short: people.short("Patient")}
	heard := said{}
	for _, e := range people.entries {
		switch e.Resource.Get("resourceType").View() {
		case "Patient":
		case "OperationOutcome":
			found.outcomes = append(found.outcomes, e)
			o := listen(e.Resource)
			heard.trouble, heard.withheld = heard.trouble || o.trouble, heard.withheld || o.withheld
			continue
		default:
			continue // an included Organization or the like: it comes again with the record
		}
		id := e.Resource.Get("id").Text()
		if !legalID(id) {
			return patient{}, broker.ErrMalformed
		}
		if found.id != "" && found.id != id || !f.names(e.Resource) {
			return patient{}, broker.ErrWrongSubject
		}
		found.id, found.entry = id, e
	}
	switch {
	case found.id != "":
		found.entry.Mode = "match"
		if found.idTells = f.tells(found.id); found.idTells {
			f.hidden = append(f.hidden, found.id)
		}
		return found, nil
	case heard.withheld:
		return patient{}, broker.ErrWithheld
	case heard.trouble || found.short: // nobody came because the search failed, or somebody was found and not sent, which is not the same as nobody
		return patient{}, broker.ErrMalformed
	}
	return patient{}, broker.ErrNoRecord
}

// byNumber is a search by an NHS number, whose digits stand for themselves behind it.
var byNumber = url.Values{"identifier": {record.NHSNumberSystem + "|"}}.Encode()

// names reports whether a Patient carries the number that was asked and no other. Numbers marked old, and those that the number replaced, do not
// count either way.
func (f *fetch) names(p fhirjson.Value) bool {
	found := false
	for id := range p.Get("identifier").Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || id.Get("use").Is("old") || !id.Get("value").Exists() {
			continue
		}
		n, err := record.ParseNHSNumber(id.Get("value").View())
		if err == nil && slices.Contains(f.query.Subject.Supersedes, n) {
			continue
		}
		if err != nil || n != f.query.Subject.Number {
			return false
		}
		found = true
	}
	return found
}

// aboutThem finds out a custodian that answered about somebody else: some resource names a patient, and none names the one found. Where both
// are named the merge drops the others' and counts them.
func (f *fetch) aboutThem(entries []fhirjson.Entry, found patient) error {
	others := false
	for _, e := range entries {
		for _, element := range [...]string{"subject", "patient"} {
			ref := e.Resource.Get(element).Get("reference").View()
			id, ok := f.patientID(ref)
			if ok && id == found.id {
				return nil
			}
			others = others || ok
		}
	}
	if others {
		return broker.ErrWrongSubject
	}
	return nil
}

// patientID returns the id in a reference to a Patient of this server.
func (f *fetch) patientID(ref string) (string, bool) {
	id, ok := strings.CutPrefix(strings.TrimPrefix(ref, f.source.below), "Patient/")
	id, _, _ = strings.Cut(id, "/_history/")
	return id, ok
}

// legalID reports whether s is a FHIR id (R4: 1 to 64 of A-Z a-z 0-9 - .) that means itself in an address: "." and ".." do not.
func legalID(s string) bool {
	if len(s) < 1 || len(s) > 64 || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// tells reports whether text holds an NHS number, also with points or hyphens between the digits.
func (f *fetch) tells(text string) bool {
	joined := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' {
			return -1
		}
		return r
	}, text)
	return record.HoldsNHSNumber(text) || strings.Contains(joined, f.query.Subject.Number.Reveal())
}
