package gpconnect

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// about finds out an answer about somebody else: exactly one Patient must carry the number that was asked for, and where resources name a patient, some
// must name that one. Others among them are left for the merge, which drops and counts them. The error is a sentinel.
func about(entries []fhirjson.Entry, subject record.Subject) error {
	id, patients := "", 0
	for _, e := range entries {
		if !e.Resource.Get("resourceType").Is("Patient") {
			continue
		}
		patients++
		if !names(e.Resource, subject) {
			continue
		}
		if id != "" && !e.Resource.Get("id").Is(id) {
			return broker.ErrWrongSubject
		}
		if id = e.Resource.Get("id").Text(); id == "" {
			return broker.ErrMalformed
		}
	}
	switch {
	case patients == 0:
		return broker.ErrMalformed // an answer that does not say whose it is
	case id == "":
		return broker.ErrWrongSubject
	}
	others := false
	for _, e := range entries {
		for _, element := range [...]string{"subject", "patient"} {
			of, is := strings.CutPrefix(e.Resource.Get(element).Get("reference").View(), "Patient/")
			if is && of == id {
				return nil
			}
			others = others || is
		}
	}
	if others {
		return broker.ErrWrongSubject
	}
	return nil
}

// names reports whether a Patient carries the number that was asked and no other. Numbers marked old, and those that the number replaced, do not
// count either way.
func names(p fhirjson.Value, subject record.Subject) bool {
	found := false
	for id := range p.Get("identifier").Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || id.Get("use").Is("old") || !id.Get("value").Exists() {
			continue
		}
		n, err := record.ParseNHSNumber(id.Get("value").Text())
		if err == nil && slices.Contains(subject.Supersedes, n) {
			continue
		}
		if err != nil || n != subject.Number {
			return false
		}
		found = true
	}
	return found
}
