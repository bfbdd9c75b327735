package grpcapi

import (
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

const wantDocument = "the address of a document that a record gave: .../Binary/ID?ctx=..."

// GetDocument fetches one document at an address that a record gave.
func (s *server) GetDocument(in *v1.GetDocumentRequest, out grpc.ServerStreamingServer[v1.GetDocumentResponse]) error {
	ctx := out.Context()
	a, err := who(ctx)
	if err != nil {
		return err
	}
	id, seal, readable := documentAddress(in.GetAddress())
	document, opens := s.cfg.Broker.OpenAddress(id, seal)
	if !readable || !opens {
		var p problems
		p.add("address", wantDocument)
		return p.err()
	}
	q, p := read(aboutDocument{in, document.Subject.Reveal()}, a.caller)
	if err := p.err(); err != nil {
		return err
	}
	req := s.request(a, q, "grpc", "GetDocument")
	req.Document = document
	result, err := s.cfg.Broker.Document(ctx, req)
	defer result.Done() // when it has been written
	if err != nil {
		return refusal(err)
	}
	until := time.Now().Add(maxStream)
	send := func(m *v1.GetDocumentResponse) error {
		return inTime(min(s.cfg.Stall, time.Until(until)), func() error { return out.Send(m) })
	}
	rest := result.Document.Bytes
	err = send(&v1.GetDocumentResponse{Message: &v1.GetDocumentResponse_Head{Head: &v1.DocumentHead{ContentType: result.MediaType(), Size: int64(len(rest)),
		Sha256: result.Digest[:], Custodian: custodian(result.Custodian), Receipt: receipt(result.Receipt)}}})
	for err == nil && len(rest) > 0 {
		n := min(len(rest), maxEntry)
		err = send(&v1.GetDocumentResponse{Message: &v1.GetDocumentResponse_Chunk{Chunk: rest[:n]}})
		rest = rest[n:]
	}
	if err != nil {
		return fail(rowGone)
	}
	return nil
}

// documentAddress takes an address apart. What stands before Binary/ does not matter: it was ours, and whoever shows it is asked anyway.
func documentAddress(s string) (id, seal string, ok bool) {
	if i := strings.LastIndex(s, "/Binary/"); i >= 0 {
		s = s[i+1:]
	}
	s, is := strings.CutPrefix(s, "Binary/")
	id, query, asks := strings.Cut(s, "?")
	values, err := url.ParseQuery(query)
	if !is || !asks || err != nil || len(values) != 1 || len(values["ctx"]) != 1 || !plain(id) {
		return "", "", false
	}
	return id, values.Get("ctx"), true
}

// aboutDocument is a request for a document as a record request: whose it is, its address says.
type aboutDocument struct {
	*v1.GetDocumentRequest
	number string
}

var _ recordRequest = aboutDocument{}

// GetNhsNumber returns whom the address is about.
func (d aboutDocument) GetNhsNumber() string { return d.number }

// GetTypes returns none.
func (aboutDocument) GetTypes() []string { return nil }

// GetStart returns none.
func (aboutDocument) GetStart() string { return "" }

// GetEnd returns none.
func (aboutDocument) GetEnd() string { return "" }

// GetSince returns none.
func (aboutDocument) GetSince() string { return "" }
