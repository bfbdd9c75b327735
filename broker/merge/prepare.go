package merge

import (
	"errors"
	"io"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The kinds of trouble that make a custodian failed. The broker maps them to its own.
var (
	ErrWrongSubject = errors.New("the reply is about another person, or about nobody for certain") // M-4
	ErrMalformed    = errors.New("the reply is not what it should be")                             // M-2
	ErrSum          = errors.New("resources in and out do not add up")                             // M-11: our own bug; nothing of it is shown
)

// Prepare makes one custodian's part. The error wraps one of the kinds above; nothing of such a reply may be shown.
func Prepare(req Request, rules Rules, reply Reply) (Prepared, error) { panic("contract") }

// Assemble orders everything. statuses lists every configured custodian in order; those of prepared replies are replaced by theirs. troubles and
// parts become one OperationOutcome per custodian that did not return all (M-10). If nothing is shown, there is no Patient of ours in it.
func Assemble(req Request, prepared []Prepared, statuses []record.Status) Answer { panic("contract") }

// Authored returns only what we author (Patient, outcomes, Provenance): the last chunk of a stream, whose custodians' entries have gone before.
func Authored(req Request, prepared []Prepared, statuses []record.Status) Answer { panic("contract") }

// Link is a link of a Bundle.
type Link struct{ Relation, URL string }

// BundleMeta is what a written Bundle says of itself.
type BundleMeta struct {
	ID         string // the Bundle's id
	Links      []Link // self
	ReceiptTag string // value for the meta.tag with our receipt code system; "" for none (L-4)
	CodeBase   string
	Now        string // meta.lastUpdated, an instant
	Pretty     bool   // indent our own text; custodians' bytes stay as they are
}

// WriteBundle writes a searchset Bundle (FHIR R4) and returns how many bytes it wrote.
func (a Answer) WriteBundle(w io.Writer, m BundleMeta) (int64, error) { panic("contract") }

// BundleSize returns how many bytes WriteBundle would write.
func (a Answer) BundleSize(m BundleMeta) int64 { panic("contract") }
