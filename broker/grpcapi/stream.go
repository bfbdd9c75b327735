package grpcapi

import (
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// StreamRecord answers custodian by custodian, as they answer.
func (s *server) StreamRecord(in *v1.StreamRecordRequest, out grpc.ServerStreamingServer[v1.StreamRecordResponse]) error {
	ctx := out.Context()
	a, err := who(ctx)
	if err != nil {
		return err
	}
	q, p := read(in, a.caller)
	if err := p.err(); err != nil {
		return err
	}
	if err := s.cfg.Broker.Stream(ctx, s.request(a, q, "stream", "StreamRecord"), &sink{out: out, stall: s.cfg.Stall, until: time.Now().Add(maxStream)}); err != nil {
		return refusal(err)
	}
	return nil
}

// sink turns the broker's pieces into messages. It is used by one goroutine.
type sink struct {
	out   grpc.ServerStreamingServer[v1.StreamRecordResponse]
	stall time.Duration
	until time.Time // a caller who reads, but never comes to an end, is given up then
}

var _ broker.Sink = (*sink)(nil)

// errStalled ends the stream of a caller who does not read. The broker sees a caller who left.
var errStalled = errors.New("the caller does not read")

// Plan sends who will be asked.
func (k *sink) Plan(handle string, custodians []record.Status) error {
	return k.send(&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Plan{
		Plan: &v1.StreamPlan{Handle: handle, Custodians: custodianStatuses(custodians)}}})
}

// Chunk sends one custodian's entries, then how it stands.
func (k *sink) Chunk(status record.Status, entries []merge.Entry, r audit.Receipt) error {
	if err := k.entries(entries); err != nil {
		return err
	}
	return k.send(&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Custodian{
		Custodian: &v1.StreamCustodian{Status: custodianStatus(status), Receipt: receipt(r)}}})
}

// Summary sends what we author, then the order of everything, in as many messages as it needs, the last of which says the rest.
func (k *sink) Summary(authored merge.Answer, order []string, r audit.Receipt) error {
	if err := k.entries(authored.Entries); err != nil {
		return err
	}
	pieces := cutOrder(order)
	groups := cutGroups(authored.Groups)
	parts := max(len(pieces), len(groups))
	for i := range parts {
		m := &v1.StreamSummary{Part: count(i + 1), Parts: count(parts)}
		if i < len(pieces) {
			m.Order = pieces[i]
		}
		if i < len(groups) {
			m.Groups = groups[i]
		}
		if i == parts-1 {
			m.Total, m.Custodians, m.Receipt = count(authored.Total), custodianStatuses(authored.Statuses), receipt(r)
		}
		if err := k.send(&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Summary{Summary: m}}); err != nil {
			return err
		}
	}
	return nil
}

// cutGroups puts groups into pieces of about maxOrder bytes. A group is never cut: it holds the address of an entry once, and there are not so many
// entries that one group of all would not fit into a message.
func cutGroups(list []merge.Group) [][]*v1.EntryGroup {
	var pieces [][]*v1.EntryGroup
	size := maxOrder
	for _, g := range list {
		n := 16
		for _, s := range g.Members {
			n += len(s) + 4
		}
		for _, s := range g.Differs {
			n += len(s) + 4
		}
		if size += n; size > maxOrder {
			pieces, size = append(pieces, nil), n
		}
		last := &pieces[len(pieces)-1]
		*last = append(*last, &v1.EntryGroup{Number: count(g.Number), Members: g.Members, Certain: g.Certain, Differs: g.Differs})
	}
	return pieces
}

// cutOrder cuts a list into pieces of at most maxOrder bytes. There is always one piece.
func cutOrder(order []string) [][]string {
	var pieces [][]string
	from, size := 0, 0
	for i, u := range order {
		if size += len(u) + 4; size > maxOrder && i > from {
			pieces = append(pieces, order[from:i])
			from, size = i, len(u)+4
		}
	}
	return append(pieces, order[from:])
}

func (k *sink) entries(entries []merge.Entry) error {
	for _, e := range entries {
		parts := max(1, (len(e.JSON)+maxEntry-1)/maxEntry)
		for i := range parts {
			m := &v1.StreamEntry{FullUrl: e.FullURL, Type: e.Type, Id: e.ID, Mode: modes.toWire(e.Mode), Custodian: string(e.Custodian),
				OtherSections: sections(e.Others), Time: clinicalTime(e.Time),
				Resource: e.JSON[i*maxEntry : min((i+1)*maxEntry, len(e.JSON))], Part: count(i + 1), Parts: count(parts)}
			if e.Mode == merge.Match {
				m.Section = section(e.Section)
			}
			if err := k.send(&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Entry{Entry: m}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends one message, and gives up on a caller who takes too long to accept it. What is still being sent then ends with the stream,
// which ends when the handler returns.
func (k *sink) send(m *v1.StreamRecordResponse) error {
	return inTime(min(k.stall, time.Until(k.until)), func() error { return k.out.Send(m) })
}

// inTime sends, and gives up when the time is over.
func inTime(limit time.Duration, send func() error) error {
	done := make(chan error, 1)
	go func() { done <- send() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errStalled
	}
}
