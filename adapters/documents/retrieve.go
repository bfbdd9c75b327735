package documents

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// unwrapped takes a document out of a FHIR Binary where a holder that is a FHIR server sends one. An error with status 200 is what it says; what is no
// Binary stays as it came.
func unwrapped(ctx context.Context, d broker.Document, lim broker.Limits, budget *wire.Budget) (broker.Document, error) {
	if len(d.Bytes) == 0 {
		return broker.Document{}, broker.ErrMalformed
	}
	body, kind, is, err := document.XMLBinary(ctx, d.Bytes, lim.Depth)
	switch {
	case err != nil:
		return broker.Document{}, textError(err)
	case is && !budget.Take(len(body)):
		return broker.Document{}, broker.ErrTooMuch
	case is:
		return broker.Document{Bytes: body, Type: kind}, nil
	case !document.IsJSON(d.Bytes):
		return d, nil
	}
	doc, err := document.ParseJSON(d.Bytes, lim.Depth)
	if err != nil {
		return broker.Document{}, textError(err)
	}
	switch root := doc.Root(); {
	case root.Get("resourceType").Is("OperationOutcome"):
		if e := said(root); e != nil {
			return broker.Document{}, e
		}
		return broker.Document{}, broker.ErrMalformed
	case root.Get("resourceType").Is("Binary"):
		data := root.Get("data")
		if !data.Exists() {
			data = root.Get("content") // STU3
		}
		text := strings.Map(func(r rune) rune { // base64 with line breaks is allowed (hl7.org/fhir/R4/datatypes.html#base64Binary)
			if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
				return -1
			}
			return r
		}, data.Text())
		if data.Kind() != fhirjson.String || text == "" || !budget.Take(base64.StdEncoding.DecodedLen(len(text))) {
			return broker.Document{}, broker.ErrMalformed
		}
		body, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return broker.Document{}, broker.ErrMalformed
		}
		return broker.Document{Bytes: body, Type: root.Get("contentType").Text()}, nil
	}
	return d, nil
}
