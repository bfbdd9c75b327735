package optoutlist

import (
	"strings"
	"time"
)

// Writer writes a list, row by row. The zero value is not one: see NewWriter.
type Writer struct {
	format Format
	names  Names
	buf    []byte
	rows   int
}

// NewWriter returns a writer of a format.
func NewWriter(f Format, names Names) *Writer {
	w := &Writer{format: f, names: names}
	switch f {
	case CSV:
		w.buf = append(w.buf, strings.Join(Columns, ",")+"\r\n"...)
	case Bundle:
		w.buf = append(w.buf, `{"resourceType":"Bundle","type":"collection"`...)
	case NDJSON:
	}
	return w
}

// Add writes a row.
func (w *Writer) Add(row Row) {
	switch w.format {
	case CSV:
		w.buf = appendCSV(w.buf, row)
	case NDJSON:
		w.buf = append(append(w.buf, w.consent(row)...), '\n')
	case Bundle:
		if w.rows == 0 {
			w.buf = append(w.buf, `,"entry":[`...)
		} else {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(append(append(w.buf, `{"resource":`...), w.consent(row)...), '}')
	}
	w.rows++
}

func (w *Writer) consent(row Row) []byte {
	return Consent(row.Objection, Subject{Number: row.Subject, BirthDate: row.BirthDate}, w.names)
}

// Take returns what was written since the last call. It is good until the next Add.
func (w *Writer) Take() []byte {
	out := w.buf
	w.buf = nil
	return out
}

// End ends the list.
func (w *Writer) End() {
	if w.format == Bundle {
		if w.rows > 0 {
			w.buf = append(w.buf, ']')
		}
		w.buf = append(w.buf, '}')
	}
}

// lastInstant writes an end that is not included as the last instant that is, as exactly as times are kept: so FHIR has it
// (hl7.org/fhir/R4/datatypes.html#Period), and so CSV has it here, where a day counts whole.
func lastInstant(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return until.Add(-time.Microsecond).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
}
