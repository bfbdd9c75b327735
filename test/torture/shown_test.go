package torture

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// custodians are the keys of the demo's nine, and who is one's own staff.
var custodians = []string{"gp", "acute", "mentalhealth", "community", "socialcare", "ambulance", "pharmacy", "nhs111", "outofhours"}

// shown is one resource that a caller was given, or the beginning of one.
type shown struct {
	custodian string          // key; "" for what the broker authors
	typ       string          // FHIR resource type
	sections  record.Sections // as tagged
	digest    [32]byte        // SHA-256 of its bytes
	part      bool            // cut off: no digest, and perhaps no sections
}

// Marks of a Bundle as the broker writes it. Inside a string of a resource a quotation mark is escaped, so none of them can stand there.
const (
	entryMark    = `{"fullUrl":"`
	resourceMark = `","resource":`
	searchMark   = `,"search":{"mode":"`
	sectionMark  = `/CodeSystem/section","code":"`
	receiptMark  = `/CodeSystem/receipt","code":"`
)

// readBundle reads what a Bundle shows, whole or cut off anywhere, without trusting that it is JSON.
func readBundle(text []byte) (out []shown, receiptTag string) {
	if i := bytes.Index(text, []byte(receiptMark)); i >= 0 {
		receiptTag, _, _ = strings.Cut(string(text[i+len(receiptMark):min(len(text), i+200)]), `"`)
	}
	pieces := bytes.Split(text, []byte(entryMark))
	for _, piece := range pieces[1:] {
		address, rest, hasResource := bytes.Cut(piece, []byte(resourceMark))
		custodian, typ := holder(string(address))
		resource, _, whole := bytes.Cut(rest, []byte(searchMark))
		out = append(out, show(custodian, typ, resource, hasResource && whole))
	}
	return out, receiptTag
}

// show describes a resource, or the beginning of one.
func show(custodian, typ string, resource []byte, whole bool) shown {
	s := shown{custodian: custodian, typ: typ, part: !whole}
	if whole {
		s.digest = sha256.Sum256(resource)
	}
	for rest := resource; ; {
		_, after, found := bytes.Cut(rest, []byte(sectionMark))
		code, _, closed := bytes.Cut(after, []byte(`"`))
		if !found || !closed {
			return s
		}
		if x, known := record.ParseSection(string(code)); known {
			s.sections = s.sections.With(x)
		}
		rest = after
	}
}

// holder reads custodian and type from an address such as http://host/fhir/Condition/gp-17. What the broker authors has no custodian.
func holder(address string) (custodian, typ string) {
	parts := strings.Split(address, "/")
	if len(parts) < 2 {
		return "", ""
	}
	key, _, hyphen := strings.Cut(parts[len(parts)-1], "-")
	if hyphen && slices.Contains(custodians, key) {
		custodian = key
	}
	return custodian, parts[len(parts)-2]
}

func TestReadBundle(t *testing.T) {
	const text = `{"resourceType":"Bundle","meta":{"tag":[{"system":"https://x.example/CodeSystem/receipt","code":"7.ab"}]},"entry":[` +
		`{"fullUrl":"http://h/fhir/OperationOutcome/outcome-gp","resource":{},"search":{"mode":"outcome"}},` +
		`{"fullUrl":"http://h/fhir/Condition/gp-1","resource":{"note":"{\"fullUrl\":\"","meta":{"tag":[{"system":"https://x.example/CodeSystem/section","code":"history"},` +
		`{"system":"https://x.example/CodeSystem/section","code":"mental-health"}]}},"search":{"mode":"match"}},` +
		`{"fullUrl":"http://h/fhir/Flag/acute-2","resource":{"a":1},"search":{"mode":"match"}}]}`
	got, tag := readBundle([]byte(text))
	if tag != "7.ab" || len(got) != 3 {
		t.Fatalf("%d entries", len(got))
	}
	if got[0].custodian != "" || got[1].custodian != "gp" || got[1].typ != "Condition" || got[1].sections != record.SectionsOf(record.History, record.MentalHealth) ||
		got[2].digest != sha256.Sum256([]byte(`{"a":1}`)) || got[2].part {
		t.Error("an entry is misread")
	}
	for cut := range len(text) { // whatever has begun to arrive is seen
		part, _ := readBundle([]byte(text[:cut]))
		if want := strings.Count(text[:cut], entryMark); len(part) != want {
			t.Fatalf("cut at %d: %d entries, want %d", cut, len(part), want)
		}
		for i, s := range part {
			if !s.part && s != got[i] {
				t.Fatalf("cut at %d: an entry that looks whole is not", cut)
			}
		}
	}
}
