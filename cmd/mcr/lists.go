package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// shownRows is how many refused rows are shown where no report is written.
const shownRows = 20

// listFormat finds out how a list is written: from the flag, else from its name.
func listFormat(given, path string) (v1.ListFormat, error) {
	if given == "" {
		given = map[string]string{".csv": "csv", ".ndjson": "ndjson", ".json": "bundle"}[strings.ToLower(filepath.Ext(path))]
	}
	f := v1.ListFormat(v1.ListFormat_value["LIST_FORMAT_"+enumName(given)])
	if f == v1.ListFormat_LIST_FORMAT_UNSPECIFIED {
		return 0, useError("-format: csv, ndjson (FHIR Consents, one to a line) or bundle (a FHIR Bundle of Consents)")
	}
	return f, nil
}

// consentImport brings a list of objections in.
func (a *app) consentImport(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 2*time.Hour)
	var format, reason, report, output string
	h := &v1.ImportHeader{}
	c.flags.StringVar(&format, "format", "", "csv, ndjson or bundle; default: by the ending of FILE (.csv, .ndjson, .json)")
	c.flags.StringVar(&reason, "reason", "", "why the list is brought in; it is recorded")
	c.flags.StringVar(&report, "report", "", "write what becomes of every row to this `file`, as CSV")
	c.flags.StringVar(&output, "o", "text", "text or json")
	c.flags.BoolVar(&h.DryRun, "dry-run", false, "check every row, and change nothing")
	c.flags.BoolVar(&h.LeaveOut, "leave-out", false, "go on without rows that cannot be taken; otherwise one of them refuses the whole list")
	c.flags.BoolVar(&h.AcceptUntraced, "accept-untraced", false, "take rows whose person the demographics service cannot be asked about just now")
	if err := c.words(1, "a file and flags"); err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	var err error
	if h.Format, err = listFormat(format, c.args[0]); err != nil {
		return err
	}
	if h.Reason = reason; strings.TrimSpace(reason) == "" {
		return useError("-reason: say why the list is brought in")
	}
	in := a.in
	if c.args[0] != "-" {
		f, err := os.Open(c.args[0])
		if err != nil {
			return useError("the list cannot be read: is it there, and may you read it?")
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	rows := &rowReport{a: a, text: output == "text"}
	if report != "" {
		f, err := os.OpenFile(report, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return useError("-report: the file cannot be made; is it there already?")
		}
		defer func() { _ = f.Close() }() // closed below where it matters
		rows.file, rows.to = f, bufio.NewWriter(f)
		_, _ = rows.to.WriteString("row,verdict,untraced,field,want\r\n") // the error stays with the writer
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	stream, err := v1.NewConsentServiceClient(conn).ImportObjections(ctx)
	if err != nil {
		return err
	}
	sending := make(chan error, 1)
	go func() {
		err := send(stream.Send, stream.CloseSend, h, in)
		sending <- err
		if err != nil && !errors.Is(err, io.EOF) {
			cancel() // nobody waits for the rest
		}
	}()
	var sum *v1.ImportSummary
	p := &listProgress{a: a}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.end()
			var fault faultError
			select {
			case failed := <-sending:
				if errors.As(failed, &fault) {
					return failed
				}
			default: // it waits for its input, and ends with the process
			}
			return err
		}
		switch x := m.GetMessage().(type) {
		case *v1.ImportObjectionsResponse_Progress:
			p.show(x.Progress)
		case *v1.ImportObjectionsResponse_Rows:
			p.end()
			rows.add(x.Rows.GetRows())
		case *v1.ImportObjectionsResponse_Summary:
			sum = x.Summary
		}
	}
	p.end()
	if err := rows.close(); err != nil {
		return err
	}
	if sum == nil {
		return faultError("the broker's last word did not come: repeat the command, it changes nothing twice")
	}
	if output == "json" {
		a.say("%s\n", jsonOf(sum, "{}"))
	} else {
		a.say("%s", importText(sum, rows, report))
	}
	if sum.GetOutcome() == v1.ImportOutcome_IMPORT_OUTCOME_REFUSED {
		return errRefused
	}
	return nil
}

// errRefused is a list that was refused: it has been told.
var errRefused = errors.New("the list was refused")

// send sends a list in pieces. io.EOF means that the other side has ended the call, and says itself why.
func send(send func(*v1.ImportObjectionsRequest) error, end func() error, h *v1.ImportHeader, in io.Reader) error {
	if err := send(&v1.ImportObjectionsRequest{Message: &v1.ImportObjectionsRequest_Header{Header: h}}); err != nil {
		return err
	}
	for {
		piece := make([]byte, 64<<10)
		n, err := io.ReadFull(in, piece)
		if n > 0 {
			if err := send(&v1.ImportObjectionsRequest{Message: &v1.ImportObjectionsRequest_Data{Data: piece[:n]}}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return end()
		case err != nil:
			return faultError("the list cannot be read to its end") // without an end the broker takes nothing
		}
	}
}

// listProgress rewrites one line of a terminal.
type listProgress struct {
	a     *app
	shown bool
}

func (p *listProgress) show(x *v1.ImportProgress) {
	if !p.a.lively {
		return
	}
	text := codeOf(x.GetStage().String(), "IMPORT_STAGE_") + " " + thousands(x.GetDone())
	if x.GetOf() > 0 {
		text += " of " + thousands(x.GetOf())
	}
	p.a.tell("\r%s", pad(text, 50))
	p.shown = true
}

func (p *listProgress) end() {
	if p.shown {
		p.a.tell("\r%s\r", strings.Repeat(" ", 50))
		p.shown = false
	}
}

// rowReport takes what becomes of every row.
type rowReport struct {
	a     *app
	text  bool
	file  *os.File
	to    *bufio.Writer // nil: refused rows are shown, the first of them
	shown int
	more  int
}

func (r *rowReport) add(rows []*v1.RowReport) {
	for _, x := range rows {
		refused := x.GetVerdict() == v1.RowVerdict_ROW_VERDICT_REFUSED
		if r.to != nil {
			problems := x.GetProblems()
			if len(problems) == 0 {
				problems = []*v1.RowProblem{nil}
			}
			for _, p := range problems {
				_, _ = fmt.Fprintf(r.to, "%d,%s,%t,%s,%s\r\n", x.GetRow(), codeOf(x.GetVerdict().String(), "ROW_VERDICT_"), x.GetUntraced(), cell(p.GetField()), cell(p.GetWant()))
			}
			continue
		}
		if !refused && len(x.GetProblems()) == 0 || !r.text {
			continue
		}
		if r.shown++; r.shown > shownRows {
			r.more++
			continue
		}
		for _, p := range x.GetProblems() {
			where := "row " + thousands(x.GetRow())
			if x.GetRow() == 0 {
				where = "the list"
			}
			r.a.say("%s, %s: give %s\n", where, safe(p.GetField()), safe(p.GetWant()))
		}
	}
}

// cell writes a text into a CSV file.
func cell(s string) string { return `"` + strings.ReplaceAll(safe(s), `"`, `""`) + `"` }

func (r *rowReport) close() error {
	if r.to == nil {
		return nil
	}
	if err := errors.Join(r.to.Flush(), r.file.Close()); err != nil {
		return faultError("the report cannot be written: is there room?")
	}
	return nil
}

// importText says what came of a list.
func importText(x *v1.ImportSummary, rows *rowReport, report string) string {
	var b strings.Builder
	if rows.more > 0 {
		fmt.Fprintf(&b, "and %s more rows; -report FILE writes all of them\n", thousands(uint64(rows.more)))
	}
	if rows.shown > 0 {
		b.WriteByte('\n')
	}
	switch x.GetOutcome() {
	case v1.ImportOutcome_IMPORT_OUTCOME_APPLIED:
		if x.GetNewRows() == 0 {
			b.WriteString("Nothing was to be changed: every row that can be taken is recorded already.\n")
		} else {
			fmt.Fprintf(&b, "Brought in. From now on %s more objections are honoured, all at once.\n", thousands(x.GetNewRows()))
		}
	case v1.ImportOutcome_IMPORT_OUTCOME_CHECKED:
		b.WriteString("Checked, and nothing was changed. Without -dry-run this list comes in.\n")
	case v1.ImportOutcome_IMPORT_OUTCOME_REFUSED:
		b.WriteString("Refused, and nothing was changed. Put the rows right, or leave them out with -leave-out.\n")
	case v1.ImportOutcome_IMPORT_OUTCOME_UNSPECIFIED:
		b.WriteString("The broker says something that this program does not know.\n")
	}
	fmt.Fprintf(&b, "Rows: %s. Change something: %s. Recorded already: %s. Cannot be taken: %s. Not traced just now: %s.\n", thousands(x.GetRows()), thousands(x.GetNewRows()),
		thousands(x.GetPresent()), thousands(x.GetRefused()), thousands(x.GetUntraced()))
	if n := x.GetChanged(); n > 0 {
		fmt.Fprintf(&b, "Of those recorded already, %s have been changed since, withdrawn say, and stay so: look at these rows.\n", thousands(n))
	}
	if report != "" {
		b.WriteString("What becomes of each row is in the report.\n")
	}
	if r := x.GetReceipt(); r != nil {
		b.WriteString(receiptText(r) + "\n")
	}
	return b.String()
}

// thousands writes a number with commas.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// consentExport writes everybody's objections to a file.
func (a *app) consentExport(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 2*time.Hour)
	var format string
	in := &v1.ExportObjectionsRequest{}
	c.flags.StringVar(&format, "format", "", "csv, ndjson or bundle; default: by the ending of FILE (.csv, .ndjson, .json)")
	c.flags.StringVar(&in.Reason, "reason", "", "why the list is given out; it is recorded, with everybody on it")
	c.flags.BoolVar(&in.WithoutBirthDates, "no-birth-dates", false, "leave dates of birth out; such a list cannot be imported")
	if err := c.words(1, "a file and flags"); err != nil {
		return err
	}
	var err error
	if in.Format, err = listFormat(format, c.args[0]); err != nil {
		return err
	}
	if strings.TrimSpace(in.Reason) == "" {
		return useError("-reason: say why the list is given out")
	}
	to := a.out
	finish := func(error) error { return nil }
	if path := c.args[0]; path != "-" {
		// A list that breaks off must not look whole: it gets its name when it is.
		f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return useError("the file cannot be made; is one with the ending .part there already?")
		}
		to = f
		finish = func(failed error) error {
			if err := errors.Join(f.Sync(), f.Close()); err != nil || failed != nil {
				return errors.Join(failed, os.Remove(path+".part"))
			}
			if err := os.Link(path+".part", path); err != nil { // unlike a rename, it replaces nothing
				return errors.Join(useError("the file is there already: name another"), os.Remove(path+".part"))
			}
			return os.Remove(path + ".part")
		}
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return finish(err)
	}
	defer func() { cancel(); _ = conn.Close() }()
	last, err := a.receive(ctx, v1.NewConsentServiceClient(conn), in, to)
	if err := finish(err); err != nil {
		return err
	}
	if c.args[0] != "-" {
		a.say("Written: %s objections, each as it stands.\n", thousands(last.GetObjections()))
		if n := last.GetUntraced(); n > 0 {
			a.say("%s of them have no date of birth, because the person could not be traced: those rows cannot be imported.\n", thousands(n))
		}
		a.say("People of whom nothing may be said here (unknown, restricted or closed to the demographics service) are not in it, whether there are any or not.\n")
		a.say("Every page is on record as a look at each person on it. %s\n", receiptText(last.GetReceipt()))
	}
	return nil
}

// receive writes a list as it comes, and returns its last piece.
func (a *app) receive(ctx context.Context, client v1.ConsentServiceClient, in *v1.ExportObjectionsRequest, to io.Writer) (*v1.ExportObjectionsResponse, error) {
	stream, err := client.ExportObjections(ctx, in)
	if err != nil {
		return nil, err
	}
	var last *v1.ExportObjectionsResponse
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && last.GetLast():
			return last, nil
		case errors.Is(err, io.EOF):
			return nil, faultError("the list broke off: it is not whole")
		case err != nil:
			return nil, err
		}
		if _, err := to.Write(m.GetData()); err != nil {
			return nil, faultError("the list cannot be written: is there room?")
		}
		if last = m; a.lively {
			a.tell("\r%s", pad(thousands(m.GetObjections())+" objections", 50))
		}
		if m.GetLast() && a.lively {
			a.tell("\r%s\r", strings.Repeat(" ", 50))
		}
	}
}

// explain says what an objection does, in words for the person and for whoever sits before them.
func explain(o *v1.Objection) string {
	what := "everything that any organisation holds"
	switch o.GetScope() {
	case v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN:
		what = "everything that custodian " + safe(o.GetCustodian()) + " holds"
	case v1.ObjectionScope_OBJECTION_SCOPE_SECTION:
		what = "whatever belongs to " + codeOf(o.GetSection().String(), "SECTION_") + ", whoever holds it, also where it belongs to something else too"
	case v1.ObjectionScope_OBJECTION_SCOPE_ALL:
	case v1.ObjectionScope_OBJECTION_SCOPE_UNSPECIFIED:
		return "This program does not know what it does."
	}
	switch o.GetStatus() {
	case v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE:
	case v1.ObjectionStatus_OBJECTION_STATUS_REQUESTED:
		return "It withholds nothing yet: it was asked for, and nobody has decided. In force it would withhold " + what + "."
	case v1.ObjectionStatus_OBJECTION_STATUS_DECLINED:
		return "It withholds nothing: it was declined."
	case v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN:
		return "It withholds nothing any more: it was withdrawn."
	case v1.ObjectionStatus_OBJECTION_STATUS_UNSPECIFIED:
		return "This program does not know where it stands."
	}
	own := "The person's own view stays as it is."
	if o.GetAbsolute() {
		own = "The person's own view is withheld too."
	}
	return "It withholds " + what + ", from everybody who asks here. Staff of an organisation still see what that organisation itself holds. " +
		"Breaking the glass shows it only where the organisation that holds it has configured so. " + own
}
