// Package document reads what a clinical document says: CDA R2, and FHIR documents of STU3 and R4, in XML or JSON. It tells whom a document is about, which every
// adapter asks that gives one out, and makes a Composition of it.
package document

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Described is what could be read of a document.
type Described struct {
	format   string // "CDA R2", "FHIR document": for Provenance
	About    Person
	Readable bool // there is a Composition to be made of it
	id       identifier
	Kind     []coding
	KindText string
	Title    string
	status   string // of Composition
	Date     string // a FHIR dateTime
	Authors  []string
	holder   string // custodian
	level    string // confidentiality, of v3-Confidentiality
	labels   []coding
	coded    []coding // what the text of the sections was made of
	Sections []Section
}

// maxAuthors is how many authors of a document are named. Published documents have at most a handful.
const maxAuthors = 50

// withMore says after the names of authors how many more there are.
func withMore(names []string, more int) []string {
	if more > 0 {
		names = append(names, fmt.Sprintf("and %d more, who are named in the original", more))
	}
	return names
}

type identifier struct{ system, value string }

type coding struct{ system, Code, display string }

// Section is a part of a document with its text.
type Section struct {
	title    string
	code     []coding
	codeText string
	Text     string // div
	Sections []Section
}

// Person is whom a document says that it is about.
type Person struct {
	numbers []string // NHS numbers, as they stand
	born    string   // YYYY-MM-DD, or less of it
	family  string
}

// Verdict is what that is to whoever was asked for.
type Verdict uint8

const (
	Unsaid  Verdict = iota // nothing that a machine can check
	Same                   // the NHS number asked for, and nothing against it
	Another                // somebody else
)

// Is holds a document against the person asked for. A number that is none says nothing; one of another person, or a date of birth that is not theirs, is
// somebody else, whatever else stands there.
func (p Person) Is(s record.Subject) Verdict {
	v := Unsaid
	for _, text := range p.numbers {
		n, err := record.ParseNHSNumber(strings.Map(func(r rune) rune {
			if r == ' ' || r == '-' {
				return -1
			}
			return r
		}, text))
		switch {
		case err != nil:
		case n == s.Number:
			v = Same
		case !contains(s.Supersedes, n):
			return Another
		}
	}
	if short := min(len(p.born), len(s.BirthDate)); short >= 4 && p.born[:short] != s.BirthDate[:short] {
		return Another
	}
	return v
}

// Other is a reference to the other person whom a document is about, by a number that it gives and that is not the subject's. Without one it names a
// Patient that nothing shows to be the subject.
func (p Person) Other(s record.Subject) Object {
	for _, text := range p.numbers {
		if n, err := record.ParseNHSNumber(text); err == nil && n != s.Number {
			return Object{"type": "Patient", "identifier": Object{"system": record.NHSNumberSystem, "value": n.Reveal()}}
		}
	}
	return Object{"type": "Patient", "display": "somebody else"}
}

func contains(list []record.NHSNumber, n record.NHSNumber) bool {
	for _, x := range list {
		if x == n {
			return true
		}
	}
	return false
}

// format is the syntax in which a document is written.
type format uint8

const (
	opaque format = iota
	inXML         // that is CDA, FHIR, or something else
	inJSON        // likewise
)

// formatOf judges by the first letter, and not by what anybody says of it.
func formatOf(body []byte) format {
	body = bytes.TrimLeftFunc(body, func(r rune) bool { return r <= ' ' || unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' }) // however much of it
	text := string(body[:min(len(body), 512)])
	switch {
	case strings.HasPrefix(text, "<?xml"), strings.HasPrefix(text, "<") && !isHTML(text), strings.HasPrefix(text, "\xfe\xff"), strings.HasPrefix(text, "\xff\xfe"):
		return inXML
	case strings.HasPrefix(text, "{"):
		return inJSON
	}
	return opaque
}

// IsJSON reports whether a document is written in JSON.
func IsJSON(body []byte) bool { return formatOf(body) == inJSON }

// isHTML: a page is no XML that we read.
func isHTML(text string) bool {
	t := strings.ToLower(text)
	return strings.HasPrefix(t, "<!doctype html") || strings.HasPrefix(t, "<html")
}

// Read reads what can be read of a document. The error is errXML, ErrTooDeep or fhirjson's: it claims to be XML or JSON and is neither to its end; or it is
// ctx's.
func Read(ctx context.Context, body []byte, depth int) (*Described, error) {
	return read(ctx, body, depth, 0)
}

// read is Read within so many Binaries.
func read(ctx context.Context, body []byte, depth, wrapped int) (*Described, error) {
	var root *element
	switch formatOf(body) {
	case inXML:
		e, err := parseXML(ctx, body, depth)
		if err != nil {
			return nil, err
		}
		root = e
	case inJSON:
		d, err := ParseJSON(body, depth)
		if err != nil {
			return nil, err
		}
		if d.Root().Get("resourceType").Kind() != fhirjson.String {
			return &Described{}, nil
		}
		if root, err = fromJSON(ctx, d.Root()); err != nil {
			return nil, err
		}
	default:
		return &Described{}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // reduced by the caller
	}
	if root.isBinary() && root.held() != "" {
		if wrapped++; wrapped > maxWrapped {
			return nil, ErrTooDeep
		}
		inner, err := Base64(root.held())
		if err != nil {
			return nil, err
		}
		d, err := read(ctx, inner, depth, wrapped)
		if err == nil {
			d.About.numbers = append(d.About.numbers, root.child("securityContext", "identifier").numbers()...)
			d.carries(root)
		}
		return d, err
	}
	var d *Described
	if root.space == spaceFHIR {
		d = readFHIR(root)
	} else {
		d = readCDA(root)
		d.About.anywhere(root, 0)
	}
	d.carries(root)
	return d, nil
}

// carries notes the codes that stand within e, and of them those that are labels: what a custodian never shares, and to whom something may be shown, is known by them,
// wherever in a document they stand.
func (d *Described) carries(e *element) {
	for _, c := range e.codings() {
		if d.coded = append(d.coded, c); c.Code == "NOPAT" || c.Code == "PATAST" {
			d.labels = append(d.labels, c)
		}
	}
}

// Codes yields the systems and codes that stand in the document, as far as it can be read.
func (d *Described) Codes(yield func(system, code string) bool) {
	for _, c := range d.coded {
		if !yield(c.system, c.Code) {
			return
		}
	}
}

// anywhere takes whom CDA and FHIR name that came without their namespaces, or within what is neither: they are not laid out, because they are not what they look
// like, and are not opened for anybody else either.
func (p *Person) anywhere(e *element, depth int) {
	switch {
	case depth > 64:
	case e.name == "ClinicalDocument":
		p.numbers = append(p.numbers, recordTarget(e).numbers...)
		if born := recordTarget(e).born; born != "" {
			p.born = born
		}
	case e.name == "Patient":
		p.add(e)
	default:
		for _, k := range e.kids {
			p.anywhere(k, depth+1)
		}
	}
}
