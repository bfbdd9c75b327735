package grpcapi

import (
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// house is a server before a real broker.
func house(t testing.TB, change func(*broker.Config)) *world {
	b := brokertest.Open(t, change)
	return newWorld(t, func(c *Config) { c.Broker, c.Policy = b, policy.Default() })
}

// streamed reads a stream to its end and returns how many messages came, and why it ended, nil for its end.
func streamed(t testing.TB, w *world, in *v1.GetRecordRequest, options ...grpc.CallOption) (messages int, err error) {
	t.Helper()
	s, err := w.record.StreamRecord(as(t, "doctor", "x-request-id", "req-1"), &v1.StreamRecordRequest{NhsNumber: in.GetNhsNumber(), BirthDate: in.GetBirthDate(),
		Purpose: in.GetPurpose(), Permission: in.GetPermission()}, options...)
	for err == nil {
		if _, err = s.Recv(); err == nil {
			messages++
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return messages, err
}

// Whatever the reason of which nothing may be said, both calls say the same, at the same time after they came, and a stream nothing before it.
func TestNeutralAnswersAreAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait = 3250 * time.Millisecond
		w := house(t, func(c *broker.Config) { c.NeutralWait = wait })
		whole := good()
		whole.NhsNumber = brokertest.Ann
		if n, err := streamed(t, w, whole); err != nil || n < 2 {
			t.Fatalf("somebody who is held: %d messages, %v", n, err)
		}
		classes := brokertest.Neutral()
		classes["another birth date"] = brokertest.Ann
		type said struct {
			status          proto.Message
			header, trailer metadata.MD
		}
		var first *said
		for class, digits := range classes {
			in := good()
			in.NhsNumber = digits
			if class == "another birth date" {
				in.BirthDate = "1951-02-03"
			}
			for _, call := range []string{"GetRecord", "StreamRecord"} {
				var header, trailer metadata.MD
				began := time.Now()
				var err error
				if call == "GetRecord" {
					_, err = w.record.GetRecord(as(t, "doctor", "x-request-id", "req-1"), in, grpc.Header(&header), grpc.Trailer(&trailer))
				} else {
					var n int
					if n, err = streamed(t, w, in, grpc.Header(&header), grpc.Trailer(&trailer)); n != 0 {
						t.Errorf("%s: %d messages came before the neutral answer", class, n)
					}
				}
				if took := time.Since(began); took != wait {
					t.Errorf("%s by %s: answered after %v, want %v", class, call, took, wait)
				}
				s := wantStatus(t, err, codes.NotFound, "NOT_FOUND")
				got := &said{s.Proto(), header, trailer}
				if first == nil {
					first = got
				}
				if !proto.Equal(got.status, first.status) || !reflect.DeepEqual(got.header, first.header) || !reflect.DeepEqual(got.trailer, first.trailer) {
					t.Errorf("%s by %s is answered differently", class, call)
				}
				if detail[*v1.Receipt](s) != nil || len(header.Get("x-request-id")) != 1 {
					t.Errorf("%s by %s: a receipt would tell, and the request's id is missing or twice", class, call)
				}
			}
		}
	})
}

// A stream's request message that comes long after its headers takes nothing from the time in which neutral answers are alike.
func TestNeutralAnswersToALateMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late, wait = 4 * time.Second, 3250 * time.Millisecond
		w := house(t, func(c *broker.Config) { c.NeutralWait = wait })
		for class, digits := range brokertest.Neutral() {
			began := time.Now()
			s, err := w.conn.NewStream(as(t, "doctor"), &v1.RecordService_ServiceDesc.Streams[0], v1.RecordService_StreamRecord_FullMethodName)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(late)
			in := good()
			if err := s.SendMsg(&v1.StreamRecordRequest{NhsNumber: digits, Purpose: in.GetPurpose(), Permission: in.GetPermission()}); err != nil {
				t.Fatal(err)
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			err = s.RecvMsg(&v1.StreamRecordResponse{})
			if took := time.Since(began); took != late+wait {
				t.Errorf("%s: answered after %v, want %v", class, took, late+wait)
			}
			wantStatus(t, err, codes.NotFound, "NOT_FOUND")
		}
	})
}

// the memory of an answer counts until it is written, and not a moment longer. Here it is enough for one request at a time.
func TestRoomIsGivenBack(t *testing.T) {
	w := house(t, func(c *broker.Config) { c.RequestBytes, c.MaxInFlightBytes = 1<<20, 1<<20 })
	in := good()
	in.NhsNumber = brokertest.Ann
	for range 3 {
		if _, err := w.record.GetRecord(as(t, "doctor"), in); err != nil {
			t.Fatalf("GetRecord: %v", err)
		}
		if _, err := streamed(t, w, in); err != nil {
			t.Fatalf("StreamRecord: %v", err)
		}
		small := proto.Clone(in).(*v1.GetRecordRequest)
		small.MaxResponseBytes = 10
		_, err := w.record.GetRecord(as(t, "doctor"), small)
		wantStatus(t, err, codes.ResourceExhausted, "USE_STREAM")
	}
}
