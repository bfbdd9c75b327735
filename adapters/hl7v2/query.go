package hl7v2

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// question is one configured query.
type question struct {
	name   string // QPD-1, or QRD-9 and after a slash QRD-10
	legacy bool
}

// code is how the question is called in answers: the first component of its name.
func (q question) code() string {
	code, _, _ := strings.Cut(q.name, "^")
	return code
}

// sent is one message of ours, and what its answer must echo.
type sent struct {
	text    []byte
	control string // MSH-10
	tag     string // QPD-2, QRD-4
}

// newControl makes a control id that no other message of ours has. Sixteen characters: version 2.5.1 allows twenty.
func newControl() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

// write writes a query by parameter (HL7 2.5.1 section 5.4), or the original-mode query of before (5.10.2). Acknowledgement is in original mode: the
// answer itself. The person is named in a field of the message, which is a body.
func (s Settings) write(q question, number record.NHSNumber, tag, pointer string, now time.Time) sent {
	out := sent{control: newControl(), tag: tag}
	kind := "QBP^Q11^QBP_Q11"
	if q.legacy {
		kind = "QRY^R02^QRY_R02"
	}
	stamp := now.In(record.London).Format("20060102150405-0700")
	var b strings.Builder
	b.WriteString(`MSH|^~\&|` + strings.Join([]string{s.SendingApplication, s.SendingFacility, s.ReceivingApplication, s.ReceivingFacility, stamp, "", kind,
		out.control, s.ProcessingID, s.Version, "", "", "", "", "GBR", "UNICODE UTF-8"}, "|") + "\r")
	if q.legacy {
		what, department, _ := strings.Cut(q.name, "/")
		out.tag = tag[:10] // QRD-4 is no longer
		b.WriteString("QRD|" + strings.Join([]string{stamp, "R", "I", out.tag, "", "", strconv.Itoa(s.Count) + "^RD",
			number.Reveal() + "^^^^^^^^NHS^^^^NH", what, department, "", "T"}, "|") + "\r")
	} else {
		b.WriteString("QPD|" + q.name + "|" + tag + "|" + number.Reveal() + "^^^NHS^NH\r")
		b.WriteString("RCP|I|" + strconv.Itoa(s.Count) + "^RD\r")
	}
	if pointer != "" {
		b.WriteString("DSC|" + escaped(pointer) + "|I\r")
	}
	out.text = []byte(b.String())
	return out
}

// escaped writes text into a field.
func escaped(s string) string {
	return strings.NewReplacer(`\`, `\E\`, "|", `\F\`, "^", `\S\`, "&", `\T\`, "~", `\R\`, "\n", `\.br\`).Replace(s)
}

// envelope is an answer without its record: what is in it, and where the record stands.
type envelope struct {
	header  segment
	msa     segment
	qak     segment
	echo    segment // QPD or QRD
	errs    []segment
	pointer string
	body    *message
}

// maxErrors caps the ERR segments of an answer.
const maxErrors = 100

// open takes an answer apart: RSP is MSH [SFT] [UAC] MSA [ERR] QAK QPD record [DSC], ORF is MSH MSA QRD [QRF] record [ERR] [QAK] [DSC], ACK is MSH MSA
// [ERR]. Anything else, and anything twice, cannot be read.
func open(m *message) (*envelope, error) {
	e := &envelope{}
	body := [2]int{-1, -1}
	closed := false
	for from := 0; from < len(m.text); {
		end := len(m.text)
		next := end
		if i := strings.IndexAny(m.text[from:], "\r\n"); i >= 0 {
			end, next = from+i, from+i+1
		}
		line := m.text[from:end]
		at := from
		from = next
		if line == "" {
			continue
		}
		if len(line) < 3 || closed {
			return nil, broker.ErrMalformed
		}
		name := line[:3]
		var into *segment
		switch name {
		case "MSH":
			into = &e.header
		case "MSA":
			into = &e.msa
		case "QAK":
			into = &e.qak
		case "QPD", "QRD":
			into = &e.echo
		case "ERR", "DSC":
		case "SFT", "UAC", "QRF":
			if body[0] < 0 {
				continue
			}
		}
		if into == nil && name != "ERR" && name != "DSC" {
			if e.echo.name() == "" || body[1] >= 0 {
				return nil, broker.ErrMalformed // the record before the query's echo, or in two places
			}
			if body[0] < 0 {
				body[0] = at
			}
			continue
		}
		if body[0] >= 0 && body[1] < 0 {
			body[1] = at
		}
		s, ok := m.segment(line)
		if !ok || body[0] >= 0 && (name == "MSH" || name == "MSA" || name == "QPD" || name == "QRD") || into != nil && into.name() != "" || len(e.errs) > maxErrors ||
			name != "MSH" && e.header.name() == "" || name != "MSH" && name != "MSA" && e.msa.name() == "" {
			return nil, broker.ErrMalformed
		}
		switch {
		case into != nil:
			*into = s
		case name == "ERR":
			e.errs = append(e.errs, s)
		default:
			e.pointer, closed = s.at(1, 1), true
		}
	}
	if e.msa.name() == "" {
		return nil, broker.ErrMalformed
	}
	b := *m
	b.text = ""
	if body[0] >= 0 {
		if body[1] < 0 {
			body[1] = len(m.text)
		}
		b.text = m.text[body[0]:body[1]]
	}
	e.body = &b
	return e, nil
}

// read takes an answer apart and holds it against the query.
func (s Settings) read(text []byte, q question, asked sent, number record.NHSNumber) (*envelope, error) {
	m, err := parse(text, s.CharacterSet)
	if err != nil {
		return nil, err
	}
	e, err := open(m)
	if err != nil {
		return nil, err
	}
	return e, s.check(e, q, asked, number)
}

// more reports whether an answer without a continuation says that it is not the last: that hits remain (QAK-6), or that there are more of them (QAK-4)
// than have come. before are those of the answers before it, and here those with its own (QAK-5): -1 where one did not say. What is said of remaining
// hits and cannot be read is not nothing.
func (e *envelope) more(before int) (here int, more bool) {
	here = -1
	if n, err := strconv.Atoi(e.qak.at(5, 1)); err == nil && n >= 0 && before >= 0 {
		here = before + n
	}
	hits, err := strconv.Atoi(e.qak.at(4, 1))
	return here, strings.Trim(e.qak.at(6, 1), "0 ") != "" || err == nil && here >= 0 && here < hits
}

// check holds an answer against the query, and returns what it says: nil if it is a record to be read, else a refusal, or that it cannot be
// believed at all.
func (s Settings) check(e *envelope, q question, asked sent, number record.NHSNumber) error {
	kind, trigger := e.header.at(9, 1), e.header.at(9, 2)
	mode := e.header.at(11, 1)
	switch {
	case !strings.HasPrefix(e.header.at(12, 1), "2"),
		mode != "" && mode != s.ProcessingID, // somebody's test system answers for the real one, or the reverse
		e.msa.at(2, 1) != asked.control:      // the answer to something else
		return broker.ErrMalformed
	}
	ok := e.msa.at(1, 1)
	switch {
	case kind == "ACK":
		if ok == "AE" || ok == "AR" || ok == "CE" || ok == "CR" {
			return e.refused()
		}
		return broker.ErrMalformed
	case !q.legacy && kind == "RSP" && (trigger == "K11" || strings.HasPrefix(trigger, "Z")):
	case q.legacy && kind == "ORF" && trigger == "R04":
	default:
		return broker.ErrMalformed
	}
	if err := s.echoes(e, q, asked, number); err != nil {
		return err
	}
	switch ok {
	case "AA":
	case "AE", "AR":
		return e.refused()
	default:
		return broker.ErrMalformed
	}
	switch e.qak.at(2, 1) {
	case "OK":
		return nil
	case "NF":
		return e.noRecord()
	case "PD":
		return &refusal{broker.ErrWithheld}
	case "TM":
		return broker.ErrTooMuch
	case "AE", "AR":
		return e.refused()
	case "":
		if q.legacy { // QAK came with version 2.4
			return nil
		}
	}
	return broker.ErrMalformed
}

// holdsRecord reports whether there is anything but words in an answer beside what belongs to the query.
func (e *envelope) holdsRecord() bool {
	for s, ok := range e.body.segments() {
		if !ok || s.name() != "NTE" {
			return true
		}
	}
	return false
}

// countsHits reports whether an answer says of any hit: in all (QAK-4), here (QAK-5) or remaining (QAK-6). A count that cannot be read is not nothing.
func (e *envelope) countsHits() bool {
	return strings.Trim(e.qak.at(4, 1)+e.qak.at(5, 1)+e.qak.at(6, 1), "0 ") != ""
}

// echoes checks that an answer names our query and the person we asked about.
func (s Settings) echoes(e *envelope, q question, asked sent, number record.NHSNumber) error {
	person, tag, name := 3, 2, "QPD"
	if q.legacy {
		person, tag, name = 8, 4, "QRD"
	}
	switch {
	case e.echo.name() == "" && e.msa.at(1, 1) != "AA": // an error may be all there is
		return nil
	case e.echo.name() != name, e.echo.at(tag, 1) != asked.tag:
		return broker.ErrMalformed
	case !q.legacy && (e.echo.at(1, 1) != q.code() || e.qak.name() == "" && e.msa.at(1, 1) == "AA"):
		return broker.ErrMalformed
	case e.qak.name() != "" && e.qak.at(1, 1) != asked.tag:
		return broker.ErrMalformed
	case digits(e.echo.at(person, 1)) != number.Reveal():
		return broker.ErrWrongSubject
	}
	return nil
}
