package grpcapi

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"regexp"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// fetched reads a document to its end.
func fetched(t *testing.T, w *world, who string, in *v1.GetDocumentRequest) (head *v1.DocumentHead, body []byte, err error) {
	t.Helper()
	s, err := w.record.GetDocument(as(t, who, "x-request-id", "req-1"), in)
	for err == nil {
		var m *v1.GetDocumentResponse
		if m, err = s.Recv(); err == nil {
			if h := m.GetHead(); h != nil {
				if head != nil || len(body) > 0 {
					t.Error("the head is not first, or comes twice")
				}
				head = h
			} else if head == nil || len(m.GetChunk()) == 0 || len(m.GetChunk()) > maxEntry {
				t.Errorf("a chunk of %d bytes", len(m.GetChunk()))
			}
			body = append(body, m.GetChunk()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, body, err
}

// A document comes at the address that the record gives, in pieces, byte for byte.
func TestGetDocumentOfARealBroker(t *testing.T) {
	page := bytes.Repeat([]byte("a letter\x00\xff"), 300_000)
	w := house(t, func(cfg *broker.Config) {
		brokertest.WithDocument(cfg, broker.Document{Bytes: page, Type: "image/tiff"})
	})
	in := good()
	in.NhsNumber = brokertest.Ann
	r, err := w.record.GetRecord(as(t, "doctor", "x-request-id", "req-1"), in)
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`https://broker\.example/fhir/Binary/gp-[0-9a-f]{32}\?ctx=[A-Za-z0-9_-]+`).Find(r.GetBundle())
	if address == nil {
		t.Fatal("no address of a document in the record")
	}
	for _, a := range []string{string(address), string(address[len("https://broker.example/fhir/"):])} {
		head, body, err := fetched(t, w, "doctor", &v1.GetDocumentRequest{Address: a, Purpose: in.GetPurpose(), Permission: in.GetPermission()})
		sum := sha256.Sum256(page)
		if err != nil || !bytes.Equal(body, page) || head.GetSize() != int64(len(page)) || !bytes.Equal(head.GetSha256(), sum[:]) || head.GetContentType() != "image/tiff" ||
			head.GetCustodian().GetKey() != "gp" || head.GetReceipt().GetPosition() == 0 {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	}
	if _, _, err := fetched(t, w, "doctor", &v1.GetDocumentRequest{Address: string(address), Purpose: in.GetPurpose(), Permission: &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_NO}}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a person who said no: got %v", status.Code(err))
	}
}

// What is no address of ours is bad input, and on record.
func TestGetDocumentAddresses(t *testing.T) {
	w := newWorld(t)
	in := good()
	for _, a := range []string{"", "Binary/gp-1", "Binary/gp-1?ctx=bad", "Binary/gp-1?ctx=good&ctx=good", "Binary/gp-1?ctx=good&x=1", "Patient/gp-1?ctx=good", "gp-1?ctx=good",
		"Binary/gp 1?ctx=good", "Binary/gp-1?ctx=%zz"} {
		unread := w.broker.unread.Load()
		_, body, err := fetched(t, w, "doctor", &v1.GetDocumentRequest{Address: a, Purpose: in.GetPurpose(), Permission: in.GetPermission()})
		if status.Code(err) != codes.InvalidArgument || len(body) > 0 || w.broker.unread.Load() != unread+1 {
			t.Errorf("%q: got %v", a, err)
		}
	}
	head, body, err := fetched(t, w, "doctor", &v1.GetDocumentRequest{Address: "https://broker.example/fhir/Binary/gp-1?ctx=good", Purpose: in.GetPurpose(), Permission: in.GetPermission()})
	if err != nil || len(body) != 2<<20+16 || head.GetSize() != int64(len(body)) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	req, _ := w.broker.last.(broker.Request)
	if req.Subject.Reveal() != number || req.Document.ID != "gp-1" || req.Operation != "GetDocument" || req.Face != "grpc" {
		t.Error("the broker was asked for something else")
	}
}
