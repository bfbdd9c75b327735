package broker_test

import (
	"testing"

	"github.com/mycarerecord/mycarerecord/broker"
)

// What a document is said to be, where record and holder agree, and where they do not.
func TestMediaTypes(t *testing.T) {
	for _, c := range [][3]string{ // the record, the holder, what is said
		{"", "", "application/octet-stream"}, {"application/pdf", "", "application/pdf"}, {"", "application/pdf", "application/pdf"},
		{"application/pdf", "application/octet-stream", "application/pdf"}, {"application/pdf", "Application/PDF; name=x", "application/pdf"},
		{"application/pdf", "text/html", "application/octet-stream"}, {"text/html", "application/pdf", "application/octet-stream"},
		{"application/xml", "text/xml; charset=utf-8", "application/xml"}, {"text/xml", "application/hl7-v3+xml", "text/xml"}, {"application/fhir+json", "application/json", "application/fhir+json"},
		{"application/xml", "image/svg+xml", "application/octet-stream"}, {"text/xml", "application/xhtml+xml", "application/octet-stream"},
		{"text/plain", "text/plain; charset=ISO-8859-1", "text/plain; charset=ISO-8859-1"}, {"text/plain", "text/plain; charset=\"a\r\nb\"", "text/plain"},
		{"nonsense", "more nonsense/", "application/octet-stream"}, {"text/html\r\nX: 1", "", "application/octet-stream"},
	} {
		r := broker.DocumentResult{Document: broker.Document{Type: c[1]}, Listed: c[0]}
		if got := r.MediaType(); got != c[2] {
			t.Errorf("%q and %q: got %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
