package grpcapi

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// GetRecord answers in one message.
func (s *server) GetRecord(ctx context.Context, in *v1.GetRecordRequest) (*v1.GetRecordResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	q, p := read(in, a.caller)
	if in.GetMaxResponseBytes() < 0 {
		p.add("max_response_bytes", "0 for the largest, or a number of bytes")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	req := s.request(a, q, "grpc", "GetRecord")
	req.MaxBytes = maxBundle
	if n := int64(in.GetMaxResponseBytes()); n > 0 {
		req.MaxBytes = min(maxBundle, n)
	}
	req.Meta = merge.BundleMeta{ID: newUUID(), CodeBase: s.cfg.CodeBase, Now: a.arrived.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		ReceiptTag: longestReceiptTag} // so that the size that the broker judges is never less than what is written
	result, err := s.cfg.Broker.Retrieve(ctx, req)
	defer result.Done() // when it has been written
	if err != nil {
		return nil, refusal(err)
	}
	meta := req.Meta
	meta.ReceiptTag = receiptTag(result.Receipt)
	var bundle bytes.Buffer
	bundle.Grow(int(min(result.Answer.BundleSize(meta), maxBundle)))
	if _, err := result.Answer.WriteBundle(&bundle, meta); err != nil {
		return nil, fail(rowInternal)
	}
	return &v1.GetRecordResponse{Bundle: bundle.Bytes(), Custodians: custodianStatuses(result.Answer.Statuses), Receipt: receipt(result.Receipt)}, nil
}

// ListCustodians says who is configured and how they have been answering.
func (s *server) ListCustodians(ctx context.Context, _ *v1.ListCustodiansRequest) (*v1.ListCustodiansResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	if why := a.tokenProblem(); why != "" {
		// Nobody known asks, so nothing is said. It goes on record as a call that was not read: there is no person for whom it could be refused.
		return nil, unreadError{failWith(byKind[broker.Forbidden], map[string]string{"rule": "C-2.4", "why": string(why)})}
	}
	out := &v1.ListCustodiansResponse{}
	for _, h := range s.cfg.Broker.Custodians() {
		out.Custodians = append(out.Custodians, custodianHealth(h))
	}
	return out, nil
}

// request makes the broker's request. Who asks comes from the token only.
func (s *server) request(a admitted, q question, face, operation string) broker.Request {
	return broker.Request{ID: a.requestID, Face: face, Operation: operation, Subject: q.Subject, BirthDate: q.birthDate,
		Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester), Purpose: q.Purpose, Permission: q.Permission,
		Relationship: q.Relationship, BreakGlassReason: q.reason, Filter: q.filter, Arrived: a.arrived, TokenProblem: a.tokenProblem()}
}

// longestReceiptTag is as long as any receipt's tag.
var longestReceiptTag = strings.Repeat("9", 20) + "." + strings.Repeat("f", 64)

// receiptTag is what a Bundle's meta.tag says of its receipt (L-4): position and leaf hash.
func receiptTag(r audit.Receipt) string { return fmt.Sprintf("%d.%x", r.Position, r.Leaf) }
