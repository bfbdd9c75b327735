package grpcapi

import (
	"context"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/broker"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// ListOverrides returns the worklist of an IG officer, a page at a time.
func (s *server) ListOverrides(ctx context.Context, in *v1.ListOverridesRequest) (*v1.ListOverridesResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.overrideRequest(a)
	req.Reason = p.freeText("reason", in.GetReason())
	if in.GetLimit() < 0 || in.GetLimit() > 1000 {
		p.add("limit", "1 to 1,000, or 0 for 100")
	}
	p.position("from", in.GetFrom())
	if err := p.err(); err != nil {
		return nil, err
	}
	list, next, r, err := s.cfg.Broker.ListOverrides(ctx, req, in.GetReviewed(), in.GetFrom(), int(in.GetLimit()))
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ListOverridesResponse{Next: next, Receipt: receipt(r)}
	size := 0
	for _, o := range list {
		m := &v1.Override{Entry: ledgerEntry(o.Found), Alert: string(o.Kind), Delivered: instant(o.Delivered), Review: o.Review}
		if size += proto.Size(m); size > maxFound && len(out.Overrides) > 0 {
			out.Next = o.Position // the rest is on the next page
			break
		}
		out.Overrides = append(out.Overrides, m)
	}
	return out, nil
}

// ReviewOverride records what became of one.
func (s *server) ReviewOverride(ctx context.Context, in *v1.ReviewOverrideRequest) (*v1.ReviewOverrideResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.overrideRequest(a)
	req.Key = p.key(in.GetKey())
	p.position("position", in.GetPosition())
	note := p.freeText("note", in.GetNote())
	outcome, ok := reviewOutcomes.toOurs(in.GetOutcome())
	if !ok {
		p.add("outcome", "REVIEW_OUTCOME_JUSTIFIED, _NOT_JUSTIFIED or _REFERRED")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	r, err := s.cfg.Broker.ReviewOverride(ctx, req, in.GetPosition(), outcome, note)
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.ReviewOverrideResponse{Receipt: receipt(r)}, nil
}

func (s *server) overrideRequest(a admitted) broker.OverrideRequest {
	return broker.OverrideRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Arrived: a.arrived, TokenProblem: a.tokenProblem()}
}

func (p *problems) position(field string, position uint64) {
	if position > math.MaxInt64 {
		p.add(field, "a position in the ledger")
	}
}
