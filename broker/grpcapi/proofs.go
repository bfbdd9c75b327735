package grpcapi

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// prover is what the services need of an [audit.Ledger] to prove what it holds. Nothing of it tells anything of a person, so it asks no role and leaves no entry:
// a proof is given only to whoever has the leaf, which is in their receipt.
type prover interface {
	Checkpoint(ctx context.Context, size uint64) (audit.Checkpoint, error)
	Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error)
	Inclusion(ctx context.Context, r audit.Receipt, size uint64) (audit.Inclusion, error)
	Consistency(ctx context.Context, from, to uint64) ([][32]byte, error)
}

var _ prover = (*audit.Ledger)(nil)

var (
	rowNotRecorded = row{codes.NotFound, "NOT_RECORDED", "no entry with this leaf stands at this position: this receipt is not of this ledger"}
	rowNotSigned   = row{codes.NotFound, "NOT_SIGNED", "there is no such checkpoint, or the entry is not under it yet: ask again in a second"}
)

// proved turns an error of the ledger into a status.
func proved(err error) error {
	switch {
	case errors.Is(err, audit.ErrNotRecorded):
		return fail(rowNotRecorded)
	case errors.Is(err, audit.ErrNotSigned):
		return fail(rowNotSigned)
	case errors.Is(err, audit.ErrInvalid):
		var p problems
		p.add("size", "sizes are at least 1 and at most the ledger's, the smaller first; a page holds 1 to 1,000")
		return p.err()
	}
	return fail(byKind[broker.Transient], retry(time.Second)...)
}

// GetCheckpoint returns one checkpoint.
func (s *server) GetCheckpoint(ctx context.Context, in *v1.GetCheckpointRequest) (*v1.GetCheckpointResponse, error) {
	c, err := s.cfg.Ledger.Checkpoint(ctx, in.GetSize())
	if err != nil {
		return nil, proved(err)
	}
	return &v1.GetCheckpointResponse{Checkpoint: checkpoint(c)}, nil
}

func checkpoint(c audit.Checkpoint) *v1.Checkpoint {
	return &v1.Checkpoint{Size: c.Size, At: instant(c.At), Note: c.Note}
}

// ListCheckpoints returns a page of them.
func (s *server) ListCheckpoints(ctx context.Context, in *v1.ListCheckpointsRequest) (*v1.ListCheckpointsResponse, error) {
	limit := int(in.GetLimit())
	if limit == 0 {
		limit = 100
	}
	list, err := s.cfg.Ledger.Checkpoints(ctx, in.GetFromSize(), limit)
	if err != nil {
		return nil, proved(err)
	}
	out := &v1.ListCheckpointsResponse{}
	for _, c := range list {
		out.Checkpoints = append(out.Checkpoints, checkpoint(c))
	}
	if len(list) == limit {
		out.NextFromSize = list[limit-1].Size + 1
	}
	return out, nil
}

// ProveInclusion proves what a receipt says.
func (s *server) ProveInclusion(ctx context.Context, in *v1.ProveInclusionRequest) (*v1.ProveInclusionResponse, error) {
	var p problems
	r := in.GetReceipt()
	if len(r.GetLeaf()) != 32 {
		p.add("receipt", "the receipt as it was given: origin, position and leaf")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	proof, err := s.cfg.Ledger.Inclusion(ctx, audit.Receipt{Origin: r.GetOrigin(), Position: r.GetPosition(), Leaf: [32]byte(r.GetLeaf())}, in.GetSize())
	if err != nil {
		return nil, proved(err)
	}
	return &v1.ProveInclusionResponse{Checkpoint: checkpoint(proof.Checkpoint), Proof: hashes(proof.Proof)}, nil
}

// ProveConsistency proves that a smaller ledger is the beginning of a larger one.
func (s *server) ProveConsistency(ctx context.Context, in *v1.ProveConsistencyRequest) (*v1.ProveConsistencyResponse, error) {
	to := in.GetToSize()
	if to == 0 {
		c, err := s.cfg.Ledger.Checkpoint(ctx, 0)
		if err != nil {
			return nil, proved(err)
		}
		to = c.Size
	}
	proof, err := s.cfg.Ledger.Consistency(ctx, in.GetFromSize(), to)
	if err != nil {
		return nil, proved(err)
	}
	return &v1.ProveConsistencyResponse{ToSize: to, Proof: hashes(proof)}, nil
}

func hashes(in [][32]byte) [][]byte {
	out := make([][]byte, len(in))
	for i := range in {
		out[i] = in[i][:]
	}
	return out
}

// maxPiece is how many bytes of an export go into one message.
const maxPiece = 256 << 10

// ExportEntries streams the whole ledger, sealed.
func (s *server) ExportEntries(in *v1.ExportEntriesRequest, out grpc.ServerStreamingServer[v1.ExportEntriesResponse]) error {
	ctx := out.Context()
	a, err := who(ctx)
	if err != nil {
		return err
	}
	var p problems
	req := broker.SearchRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Reason: p.freeText("reason", in.GetReason()), Arrived: a.arrived, TokenProblem: a.tokenProblem()}
	if err := p.err(); err != nil {
		return err
	}
	err = s.cfg.Broker.ExportEntries(ctx, req, func(lines []byte) error {
		for len(lines) > 0 {
			n := min(len(lines), maxPiece)
			if err := inTime(s.cfg.Stall, func() error { return out.Send(&v1.ExportEntriesResponse{Data: lines[:n]}) }); err != nil {
				return err
			}
			lines = lines[n:]
		}
		return nil
	})
	if err != nil {
		return refusal(err)
	}
	return nil
}
