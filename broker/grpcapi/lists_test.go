package grpcapi

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

const list = "nhs_number,birth_date,scope,custodian,method,source\n9990000018,1950-02-03,custodian,gp,form,form 7\n9990000017,1950-02-03,all,,form,\n"

// importing sends a list in pieces of some bytes, and returns what comes back.
func importing(t *testing.T, w *world, token string, h *v1.ImportHeader, text string, piece int) (*v1.ImportSummary, []*v1.RowReport, error) {
	t.Helper()
	s, err := w.consent.ImportObjections(as(t, token))
	if err != nil {
		t.Fatal(err)
	}
	if h != nil {
		if err := s.Send(&v1.ImportObjectionsRequest{Message: &v1.ImportObjectionsRequest_Header{Header: h}}); err != nil && !errors.Is(err, io.EOF) { // refused already: the answer says why
			t.Fatal(err)
		}
	}
	for len(text) > 0 {
		n := min(piece, len(text))
		if s.Send(&v1.ImportObjectionsRequest{Message: &v1.ImportObjectionsRequest_Data{Data: []byte(text[:n])}}) != nil {
			break // the answer says why
		}
		text = text[n:]
	}
	_ = s.CloseSend() // likewise
	var rows []*v1.RowReport
	var sum *v1.ImportSummary
	for {
		m, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return sum, rows, nil
		case err != nil:
			return nil, rows, err
		}
		rows = append(rows, m.GetRows().GetRows()...)
		if m.GetSummary() != nil {
			sum = m.GetSummary()
		}
	}
}

func header() *v1.ImportHeader {
	return &v1.ImportHeader{Format: v1.ListFormat_LIST_FORMAT_CSV, DryRun: true, LeaveOut: true, AcceptUntraced: true, Reason: "the region's list"}
}

func TestImportObjections(t *testing.T) {
	for _, piece := range []int{1, 7, 1000} {
		w := newWorld(t)
		w.broker.reports = []broker.RowReport{{Number: 1, Verdict: broker.RowNew, Untraced: true}, {Number: 2, Verdict: broker.RowRefused, Problems: []broker.RowProblem{{Field: "nhs_number", Want: "ten digits"}}}}
		w.broker.summary = broker.ListSummary{Outcome: broker.ListChecked, Rows: 2, New: 1, Present: 3, Refused: 4, Untraced: 5, Receipt: w.broker.receipt}
		sum, rows, err := importing(t, w, "doctor", header(), list, piece)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := w.broker.last.(broker.ListRequest)
		if !ok || r.Format != "csv" || !r.DryRun || !r.LeaveOut || !r.AcceptUntraced || r.Reason != "the region's list" || r.Requester.User != "555000000001" || r.Role.Name != "role of R8000" {
			t.Error("the request is wrong")
		}
		got := w.broker.rows
		if len(got) != 2 || got[0].Subject != mustNumber(t, number) || got[0].Objection.Custodian != "gp" || got[0].Objection.Source != "form 7" || len(got[1].Problems) != 1 || got[1].Problems[0].Field != "nhs_number" {
			t.Errorf("%d rows were read, or not as they were written", len(got))
		}
		if len(rows) != 2 || rows[0].GetVerdict() != v1.RowVerdict_ROW_VERDICT_NEW || !rows[0].GetUntraced() || rows[1].GetProblems()[0].GetField() != "nhs_number" || rows[1].GetRow() != 2 {
			t.Error("the reports are wrong")
		}
		if sum.GetOutcome() != v1.ImportOutcome_IMPORT_OUTCOME_CHECKED || sum.GetRows() != 2 || sum.GetNewRows() != 1 || sum.GetPresent() != 3 || sum.GetRefused() != 4 || sum.GetUntraced() != 5 ||
			sum.GetReceipt().GetPosition() != 7 {
			t.Error("the summary is wrong")
		}
	}
}

// A region's list takes longer than a connection lasts: who is told to come anew meanwhile goes on to the end of it.
func TestListsOutliveTheirConnection(t *testing.T) {
	for _, c := range []struct {
		what  string
		grace time.Duration
		whole bool
	}{{"the server's own grace", maxAgeGrace, true}, {"less than the list takes", 50 * time.Millisecond, false}} {
		w := newWorld(t, func(cfg *Config) {
			cfg.Options = append(cfg.Options, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: c.grace}))
		})
		w.broker.takes = 600 * time.Millisecond
		w.broker.summary = broker.ListSummary{Outcome: broker.ListChecked, Rows: 2}
		sum, _, err := importing(t, w, "doctor", header(), list, 1000)
		if whole := err == nil && sum.GetRows() == 2; whole != c.whole {
			t.Errorf("%s: an import came to its end: %v (%v)", c.what, whole, err)
		}
		everybody := consent.Objection{Scope: consent.ToAll, Status: consent.InForce}
		w.broker.rows = []broker.ListRow{{Number: 1, Subject: mustNumber(t, number), Objection: everybody}, {Number: 2, Subject: mustNumber(t, number), Objection: everybody}}
		out, err := w.consent.ExportObjections(as(t, "doctor"), &v1.ExportObjectionsRequest{Format: v1.ListFormat_LIST_FORMAT_CSV, Reason: "the region moves"})
		last := false
		for err == nil {
			var m *v1.ExportObjectionsResponse
			if m, err = out.Recv(); err == nil {
				last = m.GetLast()
			}
		}
		if last != c.whole {
			t.Errorf("%s: an export came to its end: %v (%v)", c.what, last, err)
		}
	}
	if maxAgeGrace < broker.LongestList {
		t.Error("a connection may end before a list does")
	}
}

func TestImportsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for field, h := range map[string]*v1.ImportHeader{"header": nil, "header.format": {Reason: "x"}, "reason": {Format: v1.ListFormat_LIST_FORMAT_CSV, Reason: strings.Repeat("x", 501)}} {
		_, _, err := importing(t, w, "doctor", h, list, 1000)
		wantField(t, err, field)
	}
	if w.broker.calls != 0 {
		t.Error("the broker was asked")
	}
	if n := w.broker.unread.Load(); n != 3 {
		t.Errorf("%d calls that could not be read are on record, want 3", n)
	}
	_, _, err := importing(t, w, "doctor", header(), "nhs_number,surname\n", 1000)
	var bad *broker.BadListError
	if err != nil || !errors.As(w.broker.readErr, &bad) || bad.Field != "columns" {
		t.Errorf("a list with unknown columns: %v", w.broker.readErr)
	}
	_, _, err = importing(t, w, "doctor", &v1.ImportHeader{Format: v1.ListFormat_LIST_FORMAT_BUNDLE, Reason: "x"}, `{"resourceType":"Bundle","type":"batch"}`, 10)
	if err != nil || !errors.As(w.broker.readErr, &bad) || bad.Field != "type" {
		t.Errorf("another Bundle: %v", w.broker.readErr)
	}
	s, err := w.consent.ImportObjections(as(t, "doctor"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Send(&v1.ImportObjectionsRequest{Message: &v1.ImportObjectionsRequest_Header{Header: header()}}); err != nil && !errors.Is(err, io.EOF) { // the same
			t.Fatal(err)
		}
	}
	for err == nil {
		_, err = s.Recv()
	}
	if !errors.Is(err, io.EOF) || !errors.As(w.broker.readErr, &bad) || bad.Field != "message" {
		t.Errorf("two headers: %v, %v", err, w.broker.readErr)
	}
	w.broker.err = &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonRole, Rule: "C-10"}
	_, _, err = importing(t, w, "doctor", header(), list, 1000)
	wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
	_, _, err = importing(t, w, "", header(), list, 1000)
	wantStatus(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
	if strings.Contains(w.log.String(), number) {
		t.Error("an NHS number is in the log")
	}
}

func TestExportObjections(t *testing.T) {
	w := newWorld(t)
	w.broker.health = []broker.CustodianHealth{{Custodian: record.Custodian{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery"}, Breaker: "closed"}}
	for i, digits := range []string{number, otherNumber} {
		w.broker.rows = append(w.broker.rows, broker.ListRow{Number: i + 1, Subject: mustNumber(t, digits), BirthDate: "1950-02-03",
			Objection: consent.Objection{ID: digits[5:], Scope: consent.ToCustodian, Custodian: "gp", Status: consent.InForce, Responsible: "self", Method: "form"}})
	}
	for format, want := range map[v1.ListFormat]string{v1.ListFormat_LIST_FORMAT_CSV: "\r\n" + number + ",1950-02-03,custodian,gp,", v1.ListFormat_LIST_FORMAT_NDJSON: `"value":"X9A01"`,
		v1.ListFormat_LIST_FORMAT_BUNDLE: `]}`} {
		s, err := w.consent.ExportObjections(as(t, "doctor"), &v1.ExportObjectionsRequest{Format: format, Reason: "a move", WithoutBirthDates: true})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		var last *v1.ExportObjectionsResponse
		for {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if last.GetLast() {
				t.Error("something comes behind the last piece")
			}
			text.Write(m.GetData())
			last = m
		}
		if !strings.Contains(text.String(), want) || !last.GetLast() || last.GetObjections() != 2 || last.GetUntraced() != 1 || last.GetReceipt().GetPosition() != 7 {
			t.Errorf("%s: the list is wrong", format)
		}
		if r, ok := w.broker.last.(broker.ListRequest); !ok || !r.NoBirthDates || r.Reason != "a move" {
			t.Error("the request is wrong")
		}
	}
	s, err := w.consent.ExportObjections(as(t, "doctor"), &v1.ExportObjectionsRequest{Reason: "a move"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	wantField(t, err, "format")
}

func TestChangesAndAcknowledgement(t *testing.T) {
	w := newWorld(t)
	w.broker.page = audit.Page{Next: audit.Cursor{Position: 12, Row: 5}, More: true, Through: 11, Receipt: w.broker.receipt, Changes: []audit.Listed{{About: mustNumber(t, number),
		Objection: consent.Objection{ID: "o1", Scope: consent.ToAll, Status: consent.InForce, AuthorUser: "u", AuthorName: "Dr A", AuthorRole: "gp", AuthorODS: "X9A01", Responsible: "mother", Source: "form 7",
			Method: "form", Position: 12, Recorded: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}}}}
	out, err := w.consent.ListChanges(as(t, "engine"), &v1.ListChangesRequest{After: 9, AfterRow: 3})
	if err != nil {
		t.Fatal(err)
	}
	o := out.GetChanges()[0].GetObjection()
	if out.GetChanges()[0].GetNhsNumber() != number || o.GetId() != "o1" || o.GetPosition() != 12 || o.GetMethod() != v1.ObjectionMethod_OBJECTION_METHOD_FORM || out.GetNextAfter() != 12 || out.GetNextAfterRow() != 5 ||
		!out.GetMore() || out.GetThrough() != 11 || out.GetReceipt().GetPosition() != 7 {
		t.Error("the page is wrong")
	}
	if o.GetAuthorName() != "" || o.GetAuthorUser() != "" || o.GetAuthorRole() != "" || o.GetAuthorOdsCode() != "" || o.GetResponsible() != "" || o.GetSource() != "" {
		t.Error("a follower is told who wrote it down, or on whose behalf")
	}
	r, ok := w.broker.last.(broker.ListRequest)
	if !ok || r.TokenProblem != "" || r.Requester.Client != "engine" || w.broker.from != (audit.Cursor{Position: 9, Row: 3}) || w.broker.limit != 100 {
		t.Error("a system that calls for itself names no acting person, and that is right")
	}
	if _, err := w.consent.AcknowledgeChanges(as(t, "engine"), &v1.AcknowledgeChangesRequest{Through: 11}); err != nil || w.broker.through != 11 {
		t.Errorf("acknowledging: %v", err)
	}
	_, err = w.consent.ListChanges(as(t, "engine"), &v1.ListChangesRequest{Limit: 501})
	wantField(t, err, "limit")
	_, err = w.consent.ListChanges(as(t, "engine"), &v1.ListChangesRequest{After: 1 << 63})
	wantField(t, err, "after")
	_, err = w.consent.AcknowledgeChanges(as(t, "engine"), &v1.AcknowledgeChangesRequest{})
	wantField(t, err, "through")
}

func TestShowWithHistoryAndAdoptions(t *testing.T) {
	w := newWorld(t)
	w.broker.objections = []consent.Objection{{ID: "a", Scope: consent.ToAll, Status: consent.InForce, Source: "form 7"}}
	w.broker.adoptions = []broker.Adoption{{System: "gp-system", At: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}, {System: "region"}}
	for _, past := range []bool{false, true} {
		out, err := w.consent.ShowObjections(as(t, "doctor"), &v1.ShowObjectionsRequest{NhsNumber: number, BirthDate: "1950-02-03", WithHistory: past})
		if err != nil {
			t.Fatal(err)
		}
		o := out.GetObjections()[0]
		if len(out.GetHistory()) != map[bool]int{false: 0, true: 2}[past] || o.GetSource() != "form 7" || len(o.GetAdoptions()) != 2 || o.GetAdoptions()[0].GetAt() == nil || o.GetAdoptions()[1].GetAt() != nil {
			t.Error("the list is wrong")
		}
	}
}
