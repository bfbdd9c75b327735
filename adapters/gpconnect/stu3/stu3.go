// Package stu3 converts the resources of FHIR STU3 that a person's record is made of to FHIR R4.
//
// It works on the text: no resource is decoded into structures and written again, so numbers stay as they were written, and what nobody foresaw
// stays too. What is done with each element stands in tables that a clinician can read:
//
//   - elements.txt lists every element of the types that are known, with its type, its codes, and its place in R4;
//   - extensions.go lists the UK extensions that have a present form in UK Core;
//   - systems.go lists the code systems that have another name;
//   - rules.go holds what depends on more than one element: taken and status, related observations, requesters.
//
// Three things never happen. Nothing is dropped in silence: what R4 has no place for becomes an extension, and what is not of STU3 becomes an
// extension too, under [UnmappedURL]; a resource of a clinical type that is not in the table becomes a Basic that holds all of it. Nothing is guessed:
// a code that its value set does not hold is unmapped, not something near it. And nothing is repaired but this: one value where R4 wants a list
// becomes a list of one, a list of one where R4 wants a value becomes that value, and a number or text that was written as the other (which NHS
// England's own examples do) is written as what it should be, digit for digit.
//
// HL7's own maps (r3maps) were not used: those that are published lose MedicationStatement.taken and some of its neighbours, pass the status of
// requests through unchanged although the value sets differ, and guess repeats.
package stu3

import (
	"errors"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Version names these rules in a Provenance. It changes when the same input would be converted differently.
const Version = "FHIR STU3 to R4, rules 1"

// The addresses under which we keep what R4 has no place for. DESIGN.md in the folder above documents them.
const (
	// UnmappedURL is an extension that holds, as nested extensions named like the elements, what is not of STU3 or cannot be R4.
	UnmappedURL = "https://mycarerecord.example/StructureDefinition/stu3-unmapped"
	// ProfileURL is an extension of Meta with a profile that the resource claimed as STU3. The converted resource does not claim it.
	ProfileURL = "https://mycarerecord.example/StructureDefinition/stu3-profile"
	// ConversionSystem is the code system of [UnmappedCode].
	ConversionSystem = "https://mycarerecord.example/CodeSystem/conversion"
	// UnmappedCode is the code of a Basic that stands for a resource which could not be converted.
	UnmappedCode = "unmapped-resource"
)

// Errors of Convert.
var (
	ErrTooMuch   = errors.New("the converted record exceeds a cap")
	ErrMalformed = errors.New("the record is not what it should be") // two elements that lead to one, which no STU3 has
)

// Limits are the caps on what comes out. Conversion can lengthen a text, because names become extensions.
type Limits struct {
	Bytes       int64 // of all resources together; 0 is 32 MiB
	StringBytes int   // one string; 0 is fhirjson's
	Depth       int   // nesting; 0 is fhirjson's. What is unmapped may be nested twice as deep as it came
	// Take is called before so many more bytes are held, and says whether they may be; nil: no bound.
	Take func(n int64) bool
}

// Result is a converted record.
type Result struct {
	Entries  []fhirjson.Entry // R4, in the order given; what was taken out of Lists follows at the end
	Bytes    int64            // of the text that holds them
	Promoted int              // resources that were contained in a List and are entries of their own now
	Unmapped int              // elements and resources that were kept as unmapped
	LeftOut  int              // resources that stood where none may stand, and of which only the type is left: whose they are cannot be told (P4)
}

// Convert converts a whole record. base is the address of the server that it came from, with which its own absolute references begin. The
// entries are not changed, and the result shares no memory with them.
func Convert(entries []fhirjson.Entry, base string, lim Limits) (Result, error) {
	if lim.Bytes <= 0 {
		lim.Bytes = fhirjsonDefaultBytes
	}
	c := &conv{t: tables, lim: lim, base: base}
	c.survey(entries)
	size := 0
	for _, e := range entries {
		size += e.Resource.End() - e.Resource.Start()
	}
	c.out = make([]byte, 0, min(int64(size)+int64(size)/8+512, lim.Bytes+512))
	c.out = append(c.out, '[')
	urls := make([]string, 0, len(entries))
	modes := make([]string, 0, len(entries))
	for i, e := range entries {
		c.at = i
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.resource(e.Resource, c.newIDs[i])
		if c.room(); c.over {
			return Result{}, ErrTooMuch
		}
		urls, modes = append(urls, c.address(e, c.newIDs[i])), append(modes, strings.Clone(e.Mode))
	}
	for _, p := range c.promotions {
		c.at = -1
		c.out = append(c.out, ',')
		c.resource(p.resource, p.id)
		if c.room(); c.over {
			return Result{}, ErrTooMuch
		}
		urls, modes = append(urls, ""), append(modes, "")
	}
	c.out = append(c.out, ']')
	doc, err := fhirjson.Parse(c.out, fhirjson.Limits{Depth: 2*orDefault(lim.Depth, fhirjson.Default.Depth) + 16, StringBytes: lim.StringBytes})
	if err != nil {
		var e *fhirjson.Error
		if errors.As(err, &e) && e.Reason == "duplicate key" {
			return Result{}, ErrMalformed
		}
		return Result{}, ErrTooMuch
	}
	r := Result{Entries: make([]fhirjson.Entry, 0, len(urls)), Bytes: int64(len(c.out)), Promoted: len(c.promotions), Unmapped: c.unmapped, LeftOut: c.leftOut}
	for v := range doc.Root().Elems() {
		i := len(r.Entries)
		r.Entries = append(r.Entries, fhirjson.Entry{FullURL: urls[i], Mode: modes[i], Resource: v})
	}
	return r, nil
}

const fhirjsonDefaultBytes = 32 << 20

func orDefault(v, d int) int {
	if v > 0 {
		return v
	}
	return d
}

// address is an entry's fullUrl under the type that its resource has now. id is the new one, "" if it keeps its own.
func (c *conv) address(e fhirjson.Entry, id string) string {
	typ := e.Resource.Get("resourceType").View()
	to := c.t.becomes(typ)
	old := e.Resource.Get("id").View()
	head, found := strings.CutSuffix(e.FullURL, "/"+typ+"/"+old)
	if !found || to == typ && id == "" {
		return strings.Clone(e.FullURL)
	}
	if id == "" {
		id = old
	}
	return head + "/" + to + "/" + id
}
