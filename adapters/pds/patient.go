package pds

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// confidentialitySystem is the code system of meta.security.
const confidentialitySystem = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

var securityLabels = fhirjson.PathOf("meta.security")

// read turns a Patient of PDS into a subject. The order matters: whose it is, then whether it may be looked at, then what it says.
//
//   - PDS answers for a superseded number with the Patient of the number that replaced it: 200, and another id. Nothing of that Patient is
//     taken, its number included: whoever asked must trace again.
//   - meta.security is U for unrestricted and R for restricted (a sensitive record); V and REDACTED, which PDS answers with 404
//     INVALIDATED_RESOURCE, count as invalidated if they are ever sent. An unknown code is restricted. No code is an answer that cannot be
//     read: PDS always states one, and a missing label is no clearance.
func read(p fhirjson.Value, asked record.NHSNumber) (record.Subject, error) {
	if !p.Get("resourceType").Is("Patient") {
		return record.Subject{}, broker.ErrMalformed
	}
	id, err := record.ParseNHSNumber(p.Get("id").Text())
	if err != nil {
		return record.Subject{}, broker.ErrMalformed
	}
	if id != asked {
		return record.Subject{Number: asked, Standing: record.Superseded}, nil
	}
	if !names(p, asked) {
		return record.Subject{}, broker.ErrWrongSubject
	}
	s := record.Subject{Number: asked, Standing: confidentiality(p), Version: version(p)}
	if s.Standing != record.Live {
		if s.Standing == "" {
			return record.Subject{}, broker.ErrMalformed
		}
		if s.Standing == record.Restricted { // a question of the ledger about them must not look different from one about anybody else
			s.Supersedes = supersedes(p, asked)
		}
		return s, nil
	}
	s.Supersedes = supersedes(p, asked)
	if s.Deceased, err = deceased(p); err != nil {
		return record.Subject{}, err
	}
	if s.Deceased != "" {
		s.Standing = record.Deceased
	}
	if err := demographics(p, &s); err != nil {
		return record.Subject{}, err
	}
	return s, nil
}

// names reports whether the identifiers name the number that was asked and no other. Those marked old do not count here.
func names(p fhirjson.Value, asked record.NHSNumber) bool {
	found := false
	for id := range p.Get("identifier").Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || id.Get("use").Is("old") {
			continue
		}
		n, err := record.ParseNHSNumber(id.Get("value").Text())
		if err != nil || n != asked {
			return false
		}
		found = true
	}
	return found
}

// confidentiality returns the standing that meta.security gives, the strictest of several, "" if there is none.
func confidentiality(p fhirjson.Value) record.Standing {
	s := record.Standing("")
	for c := range p.Along(securityLabels) {
		if !c.Get("system").Is(confidentialitySystem) {
			continue
		}
		switch c.Get("code").Text() {
		case "U":
			if s == "" {
				s = record.Live
			}
		case "V", "REDACTED":
			s = record.Invalidated
		default:
			if s != record.Invalidated {
				s = record.Restricted
			}
		}
	}
	return s
}

// supersedes returns the numbers that this one replaced, as far as the answer states any. PDS itself documents none (its answer for a
// superseded number is the Patient of the newer one, and that Patient does not name the older; read in November 2026), so objections under an
// old number are found only where the service states it in one of the two ways that FHIR R4 has: Patient.link of type replaces, or an
// identifier of use old. More numbers can only lead to more objections found.
func supersedes(p fhirjson.Value, asked record.NHSNumber) []record.NHSNumber {
	const most = 20
	var out []record.NHSNumber
	seen := map[record.NHSNumber]bool{asked: true}
	add := func(text string) {
		if n, err := record.ParseNHSNumber(text); err == nil && !seen[n] && len(out) < most {
			seen[n] = true
			out = append(out, n)
		}
	}
	for l := range p.Get("link").Elems() {
		if !l.Get("type").Is("replaces") {
			continue
		}
		other := l.Get("other")
		if other.At("identifier", "system").Is(record.NHSNumberSystem) {
			add(other.At("identifier", "value").Text())
		}
		if ref := other.Get("reference").Text(); len(ref) >= 10 {
			add(ref[len(ref)-10:])
		}
	}
	for id := range p.Get("identifier").Elems() {
		if id.Get("system").Is(record.NHSNumberSystem) && id.Get("use").Is("old") {
			add(id.Get("value").Text())
		}
	}
	return out
}

// deceased returns a FHIR date or dateTime, "true" where no day is known, or "".
func deceased(p fhirjson.Value) (string, error) {
	when, whether := p.Get("deceasedDateTime"), p.Get("deceasedBoolean")
	switch {
	case when.Exists() && whether.Exists():
		return "", broker.ErrMalformed
	case when.Exists():
		if _, err := record.ParseClinicalTime(when.Text()); err != nil {
			return "", broker.ErrMalformed
		}
		return when.Text(), nil
	case whether.Kind() == fhirjson.Bool:
		if whether.True() {
			return "true", nil
		}
		return "", nil
	case whether.Exists():
		return "", broker.ErrMalformed
	}
	return "", nil
}

// demographics reads the name in use, the gender, the date of birth, the address at home and the practice. Each may be missing: PDS has records that hold none of them.
func demographics(p fhirjson.Value, s *record.Subject) error {
	if n := name(p); n.Exists() {
		s.Family = n.Get("family").Text()
		for g := range n.Get("given").Elems() {
			if t := g.Text(); t != "" {
				s.Given = append(s.Given, t)
			}
		}
	}
	switch g := p.Get("gender").Text(); g {
	case "male", "female", "other", "unknown", "":
		s.Gender = g
	default:
		return broker.ErrMalformed
	}
	if b := p.Get("birthDate"); b.Exists() {
		if _, err := record.ParseClinicalTime(b.Text()); err != nil || len(b.Text()) > len("2006-01-02") {
			return broker.ErrMalformed
		}
		s.BirthDate = b.Text()
	}
	for a := range p.Get("address").Elems() {
		if use := a.Get("use").Text(); use != "" && use != "home" || a.At("period", "end").Exists() {
			continue
		}
		var lines []string
		for l := range a.Get("line").Elems() {
			if t := l.Text(); t != "" {
				lines = append(lines, t)
			}
		}
		s.Postcode, s.Address = a.Get("postalCode").Text(), strings.Join(lines, ", ")
		break
	}
	for gp := range p.Get("generalPractitioner").Elems() {
		id := gp.Get("identifier")
		if o := record.ODSCode(id.Get("value").Text()); id.Get("system").Is(record.ODSSystem) && o.Valid() && !id.At("period", "end").Exists() {
			s.Practice = o
		}
	}
	return nil
}

// name returns the name in use: usual, which is what PDS calls it, else official, else one without a use; of several the first without an end.
func name(p fhirjson.Value) fhirjson.Value {
	for _, use := range [...]string{"usual", "official", ""} {
		var best fhirjson.Value
		for n := range p.Get("name").Elems() {
			if n.Get("use").Text() != use {
				continue
			}
			current := !n.At("period", "end").Exists()
			if !best.Exists() || current && best.At("period", "end").Exists() {
				best = n
			}
		}
		if best.Exists() {
			return best
		}
	}
	return fhirjson.Value{}
}

// version returns meta.versionId if it is one, to be recorded.
func version(p fhirjson.Value) string {
	v := p.At("meta", "versionId").Text()
	if len(v) > 64 || record.HoldsNHSNumber(v) {
		return ""
	}
	for i := range len(v) {
		if c := v[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return ""
		}
	}
	return v
}
