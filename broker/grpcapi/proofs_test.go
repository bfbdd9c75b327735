package grpcapi

import (
	"bytes"
	"context"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func TestProofs(t *testing.T) {
	w := newWorld(t)
	ctx := as(t, "doctor")
	leaf := [32]byte{7}
	in, err := w.audit.ProveInclusion(ctx, &v1.ProveInclusionRequest{Receipt: &v1.Receipt{Origin: "test/ledger", Position: 2, Leaf: leaf[:]}})
	if err != nil || len(in.GetProof()) != 2 || len(in.GetProof()[0]) != 32 || string(in.GetCheckpoint().GetNote()) != "a note" || in.GetCheckpoint().GetSize() != 3 {
		t.Errorf("%v: %v", err, in)
	}
	for name, c := range map[string]struct {
		call func(context.Context) error
		want codes.Code
		say  string
	}{
		"another leaf": {func(ctx context.Context) error {
			_, err := w.audit.ProveInclusion(ctx, &v1.ProveInclusionRequest{Receipt: &v1.Receipt{Position: 2, Leaf: make([]byte, 32)}})
			return err
		}, codes.NotFound, "NOT_RECORDED"},
		"no leaf": {func(ctx context.Context) error {
			_, err := w.audit.ProveInclusion(ctx, &v1.ProveInclusionRequest{Receipt: &v1.Receipt{Position: 2}})
			return err
		}, codes.InvalidArgument, ""},
		"no receipt": {func(ctx context.Context) error {
			_, err := w.audit.ProveInclusion(ctx, &v1.ProveInclusionRequest{})
			return err
		}, codes.InvalidArgument, ""},
		"a size without a checkpoint": {func(ctx context.Context) error {
			_, err := w.audit.GetCheckpoint(ctx, &v1.GetCheckpointRequest{Size: 4})
			return err
		}, codes.NotFound, "NOT_SIGNED"},
		"from nothing": {func(ctx context.Context) error {
			_, err := w.audit.ProveConsistency(ctx, &v1.ProveConsistencyRequest{})
			return err
		}, codes.InvalidArgument, "INVALID"},
		"a page of less than nothing": {func(ctx context.Context) error {
			_, err := w.audit.ListCheckpoints(ctx, &v1.ListCheckpointsRequest{Limit: -1})
			return err
		}, codes.InvalidArgument, "INVALID"},
	} {
		err := c.call(ctx)
		if status.Code(err) != c.want || c.say != "" && detail[*errdetails.ErrorInfo](status.Convert(err)).GetReason() != c.say {
			t.Errorf("%s: %v, want %s %s", name, err, c.want, c.say)
		}
		if err := c.call(context.Background()); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s, without a token: %v", name, err)
		}
	}
	if to, err := w.audit.ProveConsistency(ctx, &v1.ProveConsistencyRequest{FromSize: 1}); err != nil || to.GetToSize() != 3 || len(to.GetProof()) != 1 {
		t.Errorf("to the newest: %v %v", err, to)
	}
	if page, err := w.audit.ListCheckpoints(ctx, &v1.ListCheckpointsRequest{FromSize: 5, Limit: 2}); err != nil || len(page.GetCheckpoints()) != 2 || page.GetNextFromSize() != 8 {
		t.Errorf("a page: %v %v", err, page)
	}
	if page, err := w.audit.ListCheckpoints(ctx, &v1.ListCheckpointsRequest{FromSize: 5}); err != nil || len(page.GetCheckpoints()) != 2 || page.GetNextFromSize() != 0 {
		t.Errorf("the last page: %v %v", err, page)
	}
}

func TestExportEntries(t *testing.T) {
	w := newWorld(t)
	read := func(ctx context.Context, in *v1.ExportEntriesRequest) (int, error) {
		stream, err := w.audit.ExportEntries(ctx, in)
		if err != nil {
			return 0, err
		}
		n := 0
		for {
			m, err := stream.Recv()
			if err == io.EOF {
				return n, nil
			}
			if err != nil {
				return n, err
			}
			if len(m.GetData()) > maxPiece {
				t.Errorf("a message of %d bytes", len(m.GetData()))
			}
			n += bytes.Count(m.GetData(), []byte("\n"))
		}
	}
	if n, err := read(as(t, "doctor"), &v1.ExportEntriesRequest{Reason: "yearly audit"}); err != nil || n != maxPiece/4 {
		t.Errorf("%v: %d lines", err, n)
	}
	if _, err := read(as(t, "doctor"), &v1.ExportEntriesRequest{Reason: "a\x00b"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a reason with a control character: %v", err)
	}
	w.broker.err = &broker.Refusal{Kind: broker.Forbidden, Reason: "role", Receipt: audit.Receipt{Origin: "test/ledger", Position: 9}}
	if _, err := read(as(t, "doctor"), &v1.ExportEntriesRequest{Reason: "yearly audit"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("refused: %v", err)
	}
}
