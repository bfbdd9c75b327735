package optoutlist

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/consent"
)

// Columns are the columns of a CSV list, in the order in which we write them. Those that must be there are nhs_number, birth_date, scope and method.
var Columns = []string{"nhs_number", "birth_date", "scope", "custodian", "section", "status", "absolute", "from", "until", "method", "responsible", "source"}

var needed = []string{"nhs_number", "birth_date", "scope", "method"}

// readCSV reads RFC 4180: records end with CRLF or LF, fields are parted by commas and may be quoted. A byte order mark of UTF-8 is passed over.
func readCSV(r io.Reader, each func(Row) error) error {
	in := &csvReader{r: bufio.NewReaderSize(r, 64<<10)}
	if mark, err := in.r.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
		_, _ = in.r.Discard(3) // it was peeked
	} else if len(mark) >= 2 && (string(mark[:2]) == "\xff\xfe" || string(mark[:2]) == "\xfe\xff") {
		return wrong("list", "text in UTF-8: save it as CSV UTF-8")
	}
	header, err := in.record()
	switch {
	case errors.Is(err, io.EOF):
		return wrong("columns", "the first line names the columns: %s", strings.Join(Columns, ","))
	case err != nil:
		return err
	}
	names, ok := fields(header, nil)
	if !ok || !utf8.Valid(header) {
		return wrong("columns", "the first line names the columns: %s", strings.Join(Columns, ","))
	}
	columns := slices.Clone(names)
	for i, name := range columns {
		switch {
		case !slices.Contains(Columns, name):
			return wrong("columns", "column %d is not known; known are %s", i+1, strings.Join(Columns, ","))
		case slices.Contains(columns[:i], name):
			return wrong("columns", "column %d is there twice", i+1)
		}
	}
	for _, name := range needed {
		if !slices.Contains(columns, name) {
			return wrong("columns", "the column %s is missing", name)
		}
	}
	section := slices.Index(columns, "section")
	interned := map[string]string{}
	var values []string
	for n := 1; ; n++ {
		text, err := in.record()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case isListError(err):
			var e *ListError
			errors.As(err, &e)
			return wrong(e.Field, "%s (at row %d)", e.Want, n)
		case err != nil:
			return err
		case n > MaxRows:
			return wrong("list", "at most %d rows; cut it in pieces", MaxRows)
		}
		row := Row{Number: n}
		c := cells{&row, interned}
		if !utf8.Valid(text) {
			c.problem("row", "text in UTF-8")
		} else if values, ok = fields(text, values[:0]); !ok {
			c.problem("row", "a quoted field ends before a comma, and a quote inside is doubled")
		} else if len(values) != len(columns) {
			c.problem("row", "as many fields as there are columns")
		} else {
			row.Objection.Status, row.Objection.Responsible = consent.InForce, "self"
			for i, name := range columns {
				if name == "responsible" || name == "source" {
					values[i] = fromSheet(values[i])
				}
				c.set(name, values[i])
			}
			var code string
			if section >= 0 {
				code = values[section]
			}
			c.whole(code)
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// csvReader cuts a list into records. A quote opens and closes: an end of line between two belongs to the record.
type csvReader struct {
	r   *bufio.Reader
	buf []byte
}

// record returns the next record that is not empty, without its end of line. It is good until the next call. io.EOF: there is none.
func (c *csvReader) record() ([]byte, error) {
	for {
		c.buf = c.buf[:0]
		quotes := 0
		for {
			piece, err := c.r.ReadSlice('\n')
			if len(c.buf)+len(piece) > maxRecord {
				return nil, wrong("list", "a row of at most %d KiB: is a quote missing?", maxRecord>>10)
			}
			c.buf = append(c.buf, piece...)
			quotes += bytes.Count(piece, []byte{'"'})
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case errors.Is(err, io.EOF):
				if quotes%2 == 1 {
					return nil, wrong("list", "a quote is closed before the end")
				}
				if len(c.buf) == 0 {
					return nil, io.EOF
				}
			case err != nil:
				return nil, err
			case quotes%2 == 1:
				continue
			}
			break
		}
		if line := bytes.TrimSuffix(bytes.TrimSuffix(c.buf, []byte{'\n'}), []byte{'\r'}); len(line) > 0 {
			return line, nil
		}
	}
}

// fields parts a record. ok is false if quotes stand where none may.
func fields(record []byte, into []string) (out []string, ok bool) {
	out = into
	rest := string(record)
	for {
		if !strings.HasPrefix(rest, `"`) {
			field, after, more := strings.Cut(rest, ",")
			if strings.Contains(field, `"`) {
				return nil, false
			}
			out = append(out, field)
			if !more {
				return out, true
			}
			rest = after
			continue
		}
		var b strings.Builder
		rest = rest[1:]
		for {
			i := strings.IndexByte(rest, '"')
			if i < 0 {
				return nil, false
			}
			b.WriteString(rest[:i])
			rest = rest[i+1:]
			if !strings.HasPrefix(rest, `"`) {
				break
			}
			b.WriteByte('"')
			rest = rest[1:]
		}
		out = append(out, b.String())
		switch {
		case rest == "":
			return out, true
		case rest[0] != ',':
			return nil, false
		}
		rest = rest[1:]
	}
}

// appendCSV writes one row.
func appendCSV(b []byte, row Row) []byte {
	o := row.Objection
	section, absolute := "", ""
	if o.Scope == consent.ToSection {
		section = o.Section.Code()
	}
	if o.Absolute {
		absolute = "yes"
	}
	for i, v := range [...]string{row.Subject.Reveal(), row.BirthDate, string(o.Scope), string(o.Custodian), section, string(o.Status), absolute,
		instant(o.From), lastInstant(o.Until), o.Method, forSheet(o.Responsible), forSheet(o.Source)} {
		if i > 0 {
			b = append(b, ',')
		}
		if strings.ContainsAny(v, "\",\r\n") || strings.HasPrefix(v, " ") || strings.HasSuffix(v, " ") {
			b = append(b, '"')
			b = append(b, strings.ReplaceAll(v, `"`, `""`)...)
			b = append(b, '"')
			continue
		}
		b = append(b, v...)
	}
	return append(b, '\r', '\n')
}

// formula are the characters with which a spreadsheet takes a text for a formula, and the one that keeps it from doing so.
const formula = "=+-@'"

// forSheet writes free text so that a spreadsheet that opens the list computes nothing of it (CWE-1236), and fromSheet takes that back.
func forSheet(s string) string {
	if s != "" && strings.Contains(formula, s[:1]) {
		return "'" + s
	}
	return s
}

func fromSheet(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.Contains(formula, s[1:2]) {
		return s[1:]
	}
	return s
}
