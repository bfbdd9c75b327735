package merge

import (
	"strings"
	"unicode"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// identify finds the Patient that the reply is about and holds it against the trace (M-4). Exactly one Patient must carry the NHS
// number asked for (copies of one id count as one, and each is checked) in what each source returned; Patients with other numbers or none are
// strangers. The error is of kind ErrWrongSubject.
func (p *preparing) identify() error {
	type patient struct {
		id    string
		found bool
	}
	subjects := make([]patient, len(p.origins))
	for i := range p.items {
		it := &p.items[i]
		if it.typ != "Patient" || !(it.fate == undecided || it.fate == folded && p.items[it.keeper].origin != it.origin) || !p.carriesNumber(it.v) {
			continue
		}
		s := &subjects[it.origin]
		if s.found && (it.id == "" || it.id != s.id) {
			return ErrWrongSubject
		}
		s.found, s.id, it.isSubject = true, it.id, true
		if !p.verified(it.v) || !p.agrees(it.v) {
			return ErrWrongSubject
		}
	}
	for i := range subjects {
		if !subjects[i].found {
			return ErrWrongSubject
		}
	}
	for i := range p.items { // another copy of the same Patient that does not carry the number: whose it is cannot be told
		it := &p.items[i]
		if it.typ == "Patient" && it.fate == undecided && !it.isSubject && it.id != "" && it.id == subjects[it.origin].id {
			return ErrWrongSubject
		}
		if it.fate == folded && it.typ == "Patient" {
			it.isSubject = p.items[it.keeper].isSubject
		}
	}
	return nil
}

// isAsked reports whether a contained Patient is the one that was asked for, by all that a custodian's own Patient is held to.
func (p *preparing) isAsked(v fhirjson.Value) bool {
	return p.carriesNumber(v) && p.verified(v) && p.agrees(v)
}

// carriesNumber reports whether a Patient has the NHS number asked for, and no other but those that it replaced. A number that the custodian itself calls old is not the
// Patient's.
func (p *preparing) carriesNumber(v fhirjson.Value) bool {
	found := false
	for id := range v.Get("identifier").Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || !id.Get("value").Exists() {
			continue
		}
		switch value := id.Get("value"); {
		case id.Get("use").Is("old") || p.replaced(value):
		case value.Is(p.number):
			found = true
		default:
			return false
		}
	}
	return found
}

func (p *preparing) replaced(v fhirjson.Value) bool {
	for _, n := range p.req.Subject.Supersedes {
		if v.Is(n.Reveal()) {
			return true
		}
	}
	return false
}

// Where a Patient says it, for every custodian of every record.
var (
	verificationCodes = fhirjson.PathOf("valueCodeableConcept.coding") // of an extension
	familyNames       = fhirjson.PathOf("name.family")
)

// verified reports whether the custodian holds the number as present and verified, or says nothing of it. UK Core's extension
// NHSNumberVerificationStatus and its forerunners are known by the last segment of their address; 01 is the code of
// UKCore-NHSNumberVerificationStatusEngland, the word that of the list before it.
func (p *preparing) verified(v fhirjson.Value) bool {
	if p.rules.AcceptUnverified {
		return true
	}
	for id := range v.Get("identifier").Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || !id.Get("value").Is(p.number) {
			continue
		}
		for x := range id.Get("extension").Elems() {
			if !extensionNamed(x, "NHSNumberVerificationStatus") {
				continue
			}
			good, stated := 0, 0
			for c := range x.Along(verificationCodes) {
				stated++
				if code := c.Get("code"); code.Is("01") || code.Is("number-present-and-verified") {
					good++
				}
			}
			if good == 0 || good != stated {
				return false
			}
		}
	}
	return true
}

// extensionNamed reports whether an extension's address ends in the name, with or without the "-1" of older lists.
func extensionNamed(x fhirjson.Value, name string) bool {
	url := strings.TrimSuffix(x.Get("url").View(), "-1")
	if !strings.HasSuffix(url, name) {
		return false
	}
	rest := url[:len(url)-len(name)]
	return rest == "" || rest[len(rest)-1] == '/' || rest[len(rest)-1] == '-'
}

// agrees compares date of birth and family name with the trace. Dates that differ where both say something refuse. Families change their
// names, so a different family name refuses only where no date of birth confirms the person. What is missing on either side refuses
// nothing. Family names are compared without case, accents, spaces and punctuation; any of the Patient's names may agree.
func (p *preparing) agrees(v fhirjson.Value) bool {
	confirmed := false
	if theirs, known := v.Get("birthDate"), p.req.Subject.BirthDate; theirs.Exists() && known != "" {
		a := theirs.View()
		short := min(len(a), len(known))
		if short < 4 || a[:short] != known[:short] {
			return false
		}
		confirmed = true
	}
	want := plain(p.req.Subject.Family)
	if confirmed || want == "" {
		return true
	}
	stated := false
	for f := range v.Along(familyNames) {
		if got := plain(f.View()); got != "" {
			if got == want {
				return true
			}
			stated = true
		}
	}
	return !stated
}

// plain reduces a name to lower-case letters without accents.
func plain(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if base, is := unaccented[r]; is {
			b.WriteString(base)
		} else if unicode.IsLetter(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unaccented maps the lower-case letters of Latin-1 and Latin Extended-A to plain ones. Combining accents are no letters and fall away.
var unaccented = func() map[rune]string {
	m := map[rune]string{'ß': "ss", 'æ': "ae", 'œ': "oe", 'þ': "th", 'ĳ': "ij"}
	for base, letters := range map[string]string{"a": "àáâãäåāăą", "c": "çćĉċč", "d": "ďđð", "e": "èéêëēĕėęě", "g": "ĝğġģ", "h": "ĥħ",
		"i": "ìíîïĩīĭįı", "j": "ĵ", "k": "ķĸ", "l": "ĺļľŀł", "n": "ñńņňŉŋ", "o": "òóôõöøōŏő", "r": "ŕŗř", "s": "śŝşšș", "t": "ţťŧț",
		"u": "ùúûüũūŭůűų", "w": "ŵ", "y": "ýÿŷ", "z": "źżž"} {
		for _, r := range letters {
			m[r] = base
		}
	}
	return m
}()
