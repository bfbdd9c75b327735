// Package optoutlist reads and writes lists of objections as regions keep and exchange them: CSV, and FHIR R4 Consent in a Bundle or one to a
// line. It also authors the one Consent that the gateway shows.
//
// Reading is strict: what cannot be recorded exactly is refused, row by row, with the column and what to give, and never with what was given. It
// knows nothing of people but what the list says; whether they exist is the broker's to find out. See DESIGN.md.
package optoutlist

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Format is how a list is written.
type Format string

// The formats.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
	Bundle Format = "bundle"
)

// Caps on what is read.
const (
	MaxRows     = 250_000   // of one list: they are held in memory until all are checked
	MaxBytes    = 256 << 20 // of one list
	maxRecord   = 16 << 10  // one record of a CSV list
	maxResource = 64 << 10  // one resource
	maxDepth    = 16        // nesting of one resource
	maxProblems = 8         // that are told of one row
)

// Row is one row of a list.
type Row struct {
	Number    int // from 1
	Subject   record.NHSNumber
	BirthDate string // YYYY-MM-DD
	Objection consent.Objection
	Problems  []Problem // why it cannot be recorded; nil: it can
}

// Problem is one thing that is wrong: where, and what to give. It never says what was given.
type Problem struct{ Field, Want string }

// ListError says what is wrong with a list as a whole. Rows in front of it may have been read.
type ListError struct{ Problem }

// Error returns the field and what to give.
func (e *ListError) Error() string { return e.Field + ": " + e.Want }

func wrong(field, format string, args ...any) error {
	return &ListError{Problem{field, fmt.Sprintf(format, args...)}}
}

// Names turns names of others into ours and back.
type Names struct {
	CodeBase string // base of our own code systems

	// Custodian returns our key of an organisation. nil: there are none.
	Custodian func(record.ODSCode) (record.CustodianKey, bool)

	// ODS returns an organisation's code and name. nil: there are none.
	ODS func(record.CustodianKey) (record.ODSCode, string, bool)
}

// Read reads a list and calls each for every row, in order, also for those that cannot be recorded. It stops at the first error of each, and
// returns it; an error of the list itself is a [*ListError], one of r is returned as it is.
func Read(r io.Reader, f Format, names Names, each func(Row) error) error {
	capped := &cappedReader{r: r, left: MaxBytes}
	switch f {
	case CSV:
		return readCSV(capped, each)
	case NDJSON:
		return readLines(capped, names, each)
	case Bundle:
		return readBundle(capped, names, each)
	}
	return wrong("format", "one of csv, ndjson, bundle")
}

// cappedReader ends a list that is too long with an error. After an error it reads no more: what reads from it may ask again.
type cappedReader struct {
	r    io.Reader
	left int64
	err  error
}

var errTooLong = wrong("list", "at most %d MiB; cut it in pieces", MaxBytes>>20)

// Read implements io.Reader.
func (c *cappedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left <= 0 {
		var one [1]byte
		if _, c.err = io.ReadFull(c.r, one[:]); c.err == nil {
			c.err = errTooLong
		}
		return 0, c.err
	}
	var n int
	n, c.err = c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, c.err
}

// cells is what one row says, by our names of columns, and what is wrong with it so far.
type cells struct {
	row      *Row
	interned map[string]string // words that stand in many rows, once
}

func (c *cells) problem(field, want string) {
	if len(c.row.Problems) < maxProblems {
		c.row.Problems = append(c.row.Problems, Problem{field, want})
	}
}

// set reads one value into the row. An empty one says nothing.
func (c *cells) set(column, text string) {
	o := &c.row.Objection
	switch column {
	case "nhs_number":
		n, err := record.ParseNHSNumber(text)
		if err != nil {
			c.problem(column, "ten digits whose last is the right check digit")
		}
		c.row.Subject = n
	case "birth_date":
		if text == "" {
			c.problem(column, "the person's date of birth, YYYY-MM-DD")
		} else if _, err := time.Parse(time.DateOnly, text); err != nil {
			c.problem(column, "a whole day, YYYY-MM-DD")
		} else {
			c.row.BirthDate = c.intern(text)
		}
	case "scope":
		switch o.Scope = consent.Scope(text); o.Scope {
		case consent.ToAll, consent.ToCustodian, consent.ToSection:
			o.Scope = consent.Scope(c.intern(text))
		default:
			c.problem(column, "all, custodian or section")
			o.Scope = ""
		}
	case "custodian":
		if key := record.CustodianKey(c.intern(text)); key == "" || key.Valid() {
			o.Custodian = key
		} else {
			c.problem(column, "a custodian's key: 1 to 12 of a-z and 0-9")
		}
	case "status":
		switch s := consent.Status(c.intern(text)); s {
		case "":
			o.Status = consent.InForce
		case consent.Requested, consent.InForce, consent.Declined, consent.Withdrawn:
			o.Status = s
		default:
			c.problem(column, "requested, in-force, declined or withdrawn")
		}
	case "absolute":
		switch text {
		case "", "no":
		case "yes":
			o.Absolute = true
		default:
			c.problem(column, "yes or no")
		}
	case "from":
		o.From = c.time(column, text, false)
	case "until":
		o.Until = c.time(column, text, true)
	case "method":
		switch text {
		case "form", "phone", "in-person", "online":
			o.Method = c.intern(text)
		default:
			c.problem(column, "how the wish was made known: form, phone, in-person or online")
		}
	case "responsible":
		if o.Responsible = c.freeText(column, c.intern(text)); text == "" {
			o.Responsible = "self"
		}
	case "source":
		o.Source = c.freeText(column, text)
	}
}

// section is set apart: its zero value is a section.
func (c *cells) section(text string) {
	if s, ok := record.ParseSection(text); ok {
		c.row.Objection.Section = s
	} else {
		c.problem("section", "one of "+record.SectionCodes())
	}
}

// whole holds what only a row as a whole can be wrong about.
func (c *cells) whole(section string) {
	o := &c.row.Objection
	bad := func(column string) bool {
		return slices.ContainsFunc(c.row.Problems, func(p Problem) bool { return p.Field == column })
	}
	switch {
	case bad("scope"):
		return // what else is wrong cannot be known
	case bad("custodian"):
	case o.Scope == consent.ToCustodian && o.Custodian == "":
		c.problem("custodian", "needed with the scope custodian")
	case o.Scope != consent.ToCustodian && o.Custodian != "":
		c.problem("custodian", "only with the scope custodian")
	}
	switch {
	case o.Scope == consent.ToSection:
		c.section(section)
	case section != "":
		c.problem("section", "only with the scope section")
	}
	if !o.From.IsZero() && !o.Until.IsZero() && !o.From.Before(o.Until) {
		c.problem("until", "after from")
	}
}

// time reads a day, which counts whole and is London's, or an instant with its zone, to the microsecond: as exactly as it is kept.
func (c *cells) time(column, text string, end bool) time.Time {
	if text == "" {
		return time.Time{}
	}
	const want = "a date, YYYY-MM-DD, or a time with a zone, YYYY-MM-DDThh:mm:ssZ, to the microsecond"
	at, err := record.ParseClinicalTime(text)
	_, fraction, _ := strings.Cut(text, ".")
	if err != nil || at.Precision > record.Day && !zoned(text) || digits(fraction) > 6 {
		c.problem(column, want)
		return time.Time{}
	}
	if end {
		return at.Hi.UTC()
	}
	return at.Lo.UTC()
}

func zoned(text string) bool {
	_, clock, _ := strings.Cut(text, "T")
	return strings.ContainsAny(clock, "Z+-")
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func (c *cells) freeText(column, text string) string {
	if record.CheckFreeText(column, text) != nil {
		c.problem(column, fmt.Sprintf("UTF-8, at most %d bytes, without control characters", record.MaxFreeText))
		return ""
	}
	return text
}

// maxInterned bounds how many words are kept to be used again.
const maxInterned = 10_000

func (c *cells) intern(s string) string {
	if known, ok := c.interned[s]; ok {
		return known
	}
	if len(c.interned) < maxInterned && len(s) <= 64 {
		c.interned[s] = strings.Clone(s)
	}
	return s
}

// instant writes a time exactly.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999999Z07:00")
}

// isListError reports whether err is about the list, and not of whoever reads it.
func isListError(err error) bool {
	var e *ListError
	return errors.As(err, &e)
}
