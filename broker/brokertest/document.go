package brokertest

import (
	"context"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// DocumentAt is where the document of [WithDocument] is kept.
const DocumentAt = "https://letters.example/1"

// WithDocument lets the first custodian hold one document more about everybody, which its record leads to.
func WithDocument(cfg *broker.Config, d broker.Document) {
	cfg.Custodians[0].Source = library{cfg.Custodians[0].Source, d}
}

type library struct {
	broker.Source
	document broker.Document
}

// Fetch adds the pointer.
func (l library) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	reply, err := l.Source.Fetch(ctx, q)
	if err != nil {
		return reply, err //nolint:wrapcheck // a sentinel
	}
	text := `{"resourceType":"DocumentReference","id":"d1","status":"current","subject":{"reference":"Patient/p1"},"date":"2024-05-02T09:00:00Z","content":[{"attachment":{"url":"` + DocumentAt + `"}}]}`
	doc, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
	if err != nil {
		return broker.Reply{}, broker.ErrMalformed
	}
	reply.Entries = append(reply.Entries, fhirjson.Entry{FullURL: reply.Base + "/DocumentReference/d1", Resource: doc.Root()})
	return reply, nil
}

// Opens takes the one address.
func (l library) Opens(address string) bool { return address == DocumentAt }

// Document gives the document.
func (l library) Document(context.Context, broker.Query, string) (broker.Document, error) {
	return l.document, nil
}
