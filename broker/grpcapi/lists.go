package grpcapi

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/optoutlist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

const (
	maxPause     = time.Minute // between two pieces of a list that comes in
	maxListPiece = 256 << 10   // of a list that goes out, in one message
	maxChanges   = audit.MaxPage
)

// ImportObjections brings a list in.
func (s *server) ImportObjections(stream grpc.BidiStreamingServer[v1.ImportObjectionsRequest, v1.ImportObjectionsResponse]) error {
	a, err := who(stream.Context())
	if err != nil {
		return err
	}
	in := &pieces{stream: stream, pause: maxPause}
	first, err := in.next()
	var unread unreadError
	switch {
	case errors.As(err, &unread):
		return err
	case err != nil && !errors.Is(err, io.EOF):
		return fail(rowGone)
	}
	var p problems
	req := s.listRequest(&p, a, first.GetHeader().GetReason())
	if first.GetHeader() == nil {
		p.add("header", "the first message says how to read the list")
	}
	format, ok := listFormats.toOurs(first.GetHeader().GetFormat())
	if !ok {
		p.add("header.format", "LIST_FORMAT_CSV, _NDJSON or _BUNDLE")
	}
	if err := p.err(); err != nil {
		return err
	}
	h := first.GetHeader()
	req.Format, req.DryRun, req.LeaveOut, req.AcceptUntraced = string(format), h.GetDryRun(), h.GetLeaveOut(), h.GetAcceptUntraced()
	to, names := &listSink{stream: stream, stall: s.cfg.Stall}, s.names()
	sum, err := s.cfg.Broker.ImportObjections(stream.Context(), req, func(each func(broker.ListRow) error) error {
		err := optoutlist.Read(in, format, names, func(r optoutlist.Row) error {
			row := broker.ListRow{Number: r.Number, Subject: r.Subject, BirthDate: r.BirthDate, Objection: r.Objection}
			for _, x := range r.Problems {
				row.Problems = append(row.Problems, broker.RowProblem(x))
			}
			return each(row)
		})
		var bad *optoutlist.ListError
		if errors.As(err, &bad) {
			return &broker.BadListError{RowProblem: broker.RowProblem(bad.Problem)}
		}
		return err
	}, to)
	if err != nil {
		return refusal(err)
	}
	return to.send(&v1.ImportObjectionsResponse{Message: &v1.ImportObjectionsResponse_Summary{Summary: &v1.ImportSummary{Outcome: listOutcomes.toWire(sum.Outcome),
		Rows: uint64(sum.Rows), NewRows: uint64(sum.New), Present: uint64(sum.Present), Refused: uint64(sum.Refused), Untraced: uint64(sum.Untraced), Changed: uint64(sum.Changed),
		Receipt: receipt(sum.Receipt)}}})
}

// listRequest is what the calls about everybody's objections have in common.
func (s *server) listRequest(p *problems, a admitted, reason string) broker.ListRequest {
	return broker.ListRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Reason: p.freeText("reason", reason), Arrived: a.arrived, TokenProblem: a.tokenProblem()}
}

// names turns organisations' codes into keys and back, by what is configured.
func (s *server) names() optoutlist.Names {
	byCode, byKey := map[record.ODSCode]record.CustodianKey{}, map[record.CustodianKey]record.Custodian{}
	twice := map[record.ODSCode]bool{}
	for _, c := range s.cfg.Broker.Custodians() {
		_, before := byCode[c.Custodian.ODS]
		twice[c.Custodian.ODS] = before
		byCode[c.Custodian.ODS], byKey[c.Custodian.Key] = c.Custodian.Key, c.Custodian
	}
	return optoutlist.Names{CodeBase: s.cfg.CodeBase,
		Custodian: func(code record.ODSCode) (record.CustodianKey, bool) {
			key, ok := byCode[code]
			return key, ok && !twice[code]
		},
		ODS: func(key record.CustodianKey) (record.ODSCode, string, bool) {
			c, ok := byKey[key]
			return c.ODS, c.Name, ok && c.ODS != "" && !twice[c.ODS] // a code of two custodians would come back as either
		}}
}

// pieces reads a list from the messages that bring it.
type pieces struct {
	stream grpc.BidiStreamingServer[v1.ImportObjectionsRequest, v1.ImportObjectionsResponse]
	pause  time.Duration
	rest   []byte
}

// next waits for a message, but not for ever. What is still being waited for then ends with the stream, which ends when the handler returns.
func (r *pieces) next() (*v1.ImportObjectionsRequest, error) {
	type got struct {
		m   *v1.ImportObjectionsRequest
		err error
	}
	done := make(chan got, 1)
	go func() { m, err := r.stream.Recv(); done <- got{m, err} }()
	t := time.NewTimer(r.pause)
	defer t.Stop()
	select {
	case g := <-done:
		return g.m, g.err
	case <-t.C:
		return nil, errStalled
	}
}

// Read implements io.Reader.
func (r *pieces) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.next()
		var unread unreadError
		if errors.As(err, &unread) {
			m, err = nil, nil
		}
		if err != nil {
			return 0, err
		}
		data, ok := m.GetMessage().(*v1.ImportObjectionsRequest_Data)
		if !ok {
			return 0, &optoutlist.ListError{Problem: optoutlist.Problem{Field: "message", Want: "data after the header"}}
		}
		r.rest = data.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// listSink turns what is said of a list into messages.
type listSink struct {
	stream grpc.BidiStreamingServer[v1.ImportObjectionsRequest, v1.ImportObjectionsResponse]
	stall  time.Duration
}

var _ broker.ListSink = (*listSink)(nil)

// Progress implements broker.ListSink.
func (k *listSink) Progress(stage broker.ListStage, done, of int) error {
	return k.send(&v1.ImportObjectionsResponse{Message: &v1.ImportObjectionsResponse_Progress{
		Progress: &v1.ImportProgress{Stage: listStages.toWire(stage), Done: uint64(done), Of: uint64(of)}}})
}

// Rows implements broker.ListSink.
func (k *listSink) Rows(rows []broker.RowReport) error {
	out := &v1.RowReports{}
	for _, r := range rows {
		m := &v1.RowReport{Row: uint64(r.Number), Verdict: verdicts.toWire(r.Verdict), Untraced: r.Untraced}
		for _, p := range r.Problems {
			m.Problems = append(m.Problems, &v1.RowProblem{Field: p.Field, Want: p.Want})
		}
		out.Rows = append(out.Rows, m)
	}
	return k.send(&v1.ImportObjectionsResponse{Message: &v1.ImportObjectionsResponse_Rows{Rows: out}})
}

func (k *listSink) send(m *v1.ImportObjectionsResponse) error {
	return sendWithin(k.stall, func() error { return k.stream.Send(m) })
}

// sendWithin sends one message, and gives up on a caller who takes too long to accept it.
func sendWithin(stall time.Duration, send func() error) error {
	done := make(chan error, 1)
	go func() { done <- send() }()
	t := time.NewTimer(stall)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errStalled
	}
}

// ExportObjections gives everybody's objections out.
func (s *server) ExportObjections(in *v1.ExportObjectionsRequest, out grpc.ServerStreamingServer[v1.ExportObjectionsResponse]) error {
	a, err := who(out.Context())
	if err != nil {
		return err
	}
	var p problems
	req := s.listRequest(&p, a, in.GetReason())
	format, ok := listFormats.toOurs(in.GetFormat())
	if !ok {
		p.add("format", "LIST_FORMAT_CSV, _NDJSON or _BUNDLE")
	}
	if err := p.err(); err != nil {
		return err
	}
	req.Format, req.NoBirthDates = string(format), in.GetWithoutBirthDates()
	w := optoutlist.NewWriter(format, s.names())
	total, untraced := 0, 0
	err = s.cfg.Broker.ExportObjections(out.Context(), req, func(rows []broker.ListRow, missing int, r audit.Receipt, last bool) error {
		for _, row := range rows {
			w.Add(optoutlist.Row{Number: row.Number, Subject: row.Subject, BirthDate: row.BirthDate, Objection: row.Objection})
		}
		if last {
			w.End()
		}
		total, untraced = total+len(rows), untraced+missing
		text := w.Take()
		for {
			piece := text[:min(len(text), maxListPiece)]
			text = text[len(piece):]
			m := &v1.ExportObjectionsResponse{Data: piece, Objections: uint64(total), Untraced: uint64(untraced), Receipt: receipt(r), Last: last && len(text) == 0}
			if err := sendWithin(s.cfg.Stall, func() error { return out.Send(m) }); err != nil {
				return err
			}
			if len(text) == 0 {
				return nil
			}
		}
	})
	if err != nil {
		return refusal(err)
	}
	return nil
}

// followerRequest is what the two calls of following systems have in common. Such a system calls for itself: that it names no acting person is right.
func (s *server) followerRequest(p *problems, a admitted) broker.ListRequest {
	req := s.listRequest(p, a, "")
	if a.caller.Requester.Kind == record.System && errors.Is(a.caller.Problem, authn.ErrNoActingPerson) {
		req.TokenProblem = ""
	}
	return req
}

// ListChanges tells a following system what came to count.
func (s *server) ListChanges(ctx context.Context, in *v1.ListChangesRequest) (*v1.ListChangesResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.followerRequest(&p, a)
	limit := int(in.GetLimit())
	if limit < 0 || limit > maxChanges {
		p.add("limit", "1 to 500, or 0 for 100")
	}
	if in.GetAfter() > 1<<62 || in.GetAfterRow() > 1<<62 {
		p.add("after", "next_after and next_after_row of the page before, or 0")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = 100
	}
	page, err := s.cfg.Broker.ObjectionChanges(ctx, req, audit.Cursor{Position: in.GetAfter(), Row: in.GetAfterRow()}, limit)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ListChangesResponse{NextAfter: page.Next.Position, NextAfterRow: page.Next.Row, More: page.More, Through: page.Through, Receipt: receipt(page.Receipt)}
	for _, c := range page.Changes {
		o := c.Objection
		o.AuthorUser, o.AuthorName, o.AuthorRole, o.AuthorODS, o.Responsible, o.Source = "", "", "", "", "", ""
		out.Changes = append(out.Changes, &v1.ObjectionChange{NhsNumber: c.About.Reveal(), Objection: objection(o)})
	}
	return out, nil
}

// AcknowledgeChanges records that a following system honours them.
func (s *server) AcknowledgeChanges(ctx context.Context, in *v1.AcknowledgeChangesRequest) (*v1.AcknowledgeChangesResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.followerRequest(&p, a)
	if in.GetThrough() == 0 || in.GetThrough() > 1<<62 {
		p.add("through", "a position that ListChanges gave as through")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	r, err := s.cfg.Broker.AdoptChanges(ctx, req, in.GetThrough())
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.AcknowledgeChangesResponse{Receipt: receipt(r)}, nil
}
