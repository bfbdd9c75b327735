package documents

import (
	"context"
	"fmt"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// described is what could be read of a document.
type described struct {
	format   string // "CDA R2", "FHIR document": for Provenance
	about    person
	readable bool // there is a Composition to be made of it
	id       identifier
	kind     []coding
	kindText string
	title    string
	status   string // of Composition
	date     string // a FHIR dateTime
	authors  []string
	holder   string // custodian
	level    string // confidentiality, of v3-Confidentiality
	sections []section
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

type coding struct{ system, code, display string }

type section struct {
	title    string
	code     []coding
	codeText string
	text     string // div
	sections []section
}

// person is whom a document says that it is about.
type person struct {
	numbers []string // NHS numbers, as they stand
	born    string   // YYYY-MM-DD, or less of it
	family  string
}

// verdict is what that is to whoever was asked for.
type verdict uint8

const (
	unsaid  verdict = iota // nothing that a machine can check
	same                   // the NHS number asked for, and nothing against it
	another                // somebody else
)

// is holds a document against the person asked for. A number that is none says nothing; one of another person, or a date of birth that is not theirs, is
// somebody else, whatever else stands there.
func (p person) is(s record.Subject) verdict {
	v := unsaid
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
			v = same
		case !contains(s.Supersedes, n):
			return another
		}
	}
	if short := min(len(p.born), len(s.BirthDate)); short >= 4 && p.born[:short] != s.BirthDate[:short] {
		return another
	}
	return v
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
	opaque   format = iota
	inXML           // that is CDA, FHIR, or something else
	inJSON          // likewise
	asBinary        // FHIR's Binary around something, in JSON
)

// formatOf judges by the first letter, and not by what anybody says of it.
func formatOf(body []byte) format {
	text := strings.TrimLeft(string(body[:min(len(body), 512)]), " \t\r\n\ufeff")
	switch {
	case strings.HasPrefix(text, "<?xml"), strings.HasPrefix(text, "<") && !isHTML(text), strings.HasPrefix(text, "\xfe\xff"), strings.HasPrefix(text, "\xff\xfe"):
		return inXML
	case strings.HasPrefix(text, "{"):
		return inJSON
	}
	return opaque
}

// isHTML: a page is no XML that we read.
func isHTML(text string) bool {
	t := strings.ToLower(text)
	return strings.HasPrefix(t, "<!doctype html") || strings.HasPrefix(t, "<html")
}

// read reads what can be read of a document. The error is errXML, errTooDeep or fhirjson's: it claims to be XML or JSON and is neither to its end; or it is
// ctx's.
func read(ctx context.Context, body []byte, depth int) (*described, error) {
	var root *element
	switch formatOf(body) {
	case inXML:
		e, err := parseXML(ctx, body, depth)
		if err != nil {
			return nil, err
		}
		root = e
	case inJSON:
		d, err := parseJSON(body, depth)
		if err != nil {
			return nil, err
		}
		if d.Root().Get("resourceType").Kind() != fhirjson.String {
			return &described{}, nil
		}
		if root, err = fromJSON(ctx, d.Root()); err != nil {
			return nil, err
		}
	default:
		return &described{}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // reduced by the caller
	}
	if root.space == spaceFHIR {
		return readFHIR(root), nil
	}
	return readCDA(root), nil
}
