package grpcapi

import (
	"bytes"
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// codec is gRPC's own, but that a message which cannot be decoded is no error yet. grpc-go would answer INTERNAL with a text of its library, before
// it is known who asks; here the message is emptied and marked, and the gate refuses it once it has passed: as bad input, in our words, and on record.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// unreadable is what a message holds that could not be decoded: one unknown field. A caller who sends just that is refused like any other.
var unreadable = protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1)

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return err
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(unreadable)
	return nil
}

// readable returns the refusal of a message that could not be decoded, nil for one that could.
func readable(v any) error {
	m, ok := v.(proto.Message)
	if !ok || !bytes.Equal(m.ProtoReflect().GetUnknown(), unreadable) {
		return nil
	}
	return unreadError{fail(rowUndecodable)}
}

// admittedStream is a stream that has passed the gate.
type admittedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the call's context with what the gate found out.
func (s admittedStream) Context() context.Context { return s.ctx }

// RecvMsg refuses a message that could not be decoded.
func (s admittedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return readable(m)
}
