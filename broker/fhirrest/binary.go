package fhirrest

import (
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker"
)

// readBinary serves GET Binary/{id}?ctx=: a document at an address that a record gave (design section 8). As FHIR has it, the answer is the document itself,
// unless the caller asks for FHIR by name and gets a Binary resource around it. What it holds is somebody else's: a browser that is led here keeps it and shows
// nothing of it.
func readBinary(id string) func(*exchange) *problem {
	return func(x *exchange) *problem {
		q, p := x.readQuestion("document", x.query, []string{"ctx", "birthdate"})
		if p != nil {
			return p
		}
		seals := x.query["ctx"]
		if len(seals) != 1 {
			return notFoundHere("A document is read at the address that stands in the record, with its ctx. " + instead("DocumentReference"))
		}
		document, ok := x.h.broker.OpenAddress(id, seals[0])
		if !ok {
			return bad(fhir.IssueTypeValue, broker.WantAddress()+".")
		}
		q.subject = document.Subject
		req, p := x.request(q)
		if p != nil {
			return p
		}
		req.Document, req.Demographics = document, false
		x.asked = true
		result, err := x.h.broker.Document(x.r.Context(), req)
		defer result.Done() // when it has been written
		if err != nil {
			return x.refused(err)
		}
		x.sendDocument(id, result)
		return nil
	}
}

// isDocument reports whether the answer may be of any media type.
func (x *exchange) isDocument() bool { return strings.HasPrefix(x.r.URL.Path, Root+"/Binary/") }

// sendDocument sends a released document. Its first byte leaves here.
func (x *exchange) sendDocument(id string, result *broker.DocumentResult) {
	header := x.w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("Content-Disposition", "attachment")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	body, kind := result.Document.Bytes, result.MediaType()
	if x.wantsFHIR() {
		head := []byte(`{"resourceType":"Binary","id":"` + id + `","contentType":"` + kind + `","data":"`) // both are of letters that need no escape
		size := int64(len(head)) + int64(base64.StdEncoding.EncodedLen(len(body))) + 2
		x.gzip = false
		x.sendBytes(http.StatusOK, result.Receipt, size, func(w io.Writer) error {
			if _, err := w.Write(head); err != nil {
				return err
			}
			e := base64.NewEncoder(base64.StdEncoding, w)
			if _, err := e.Write(body); err != nil {
				return err
			}
			if err := e.Close(); err != nil {
				return err
			}
			_, err := w.Write([]byte(`"}`))
			return err
		})
		return
	}
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Request-Id", x.id)
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer") // the address holds the seal
	header.Set("Vary", "Accept")
	header.Set("Repr-Digest", fmt.Sprintf("sha-256=:%s:", base64.StdEncoding.EncodeToString(result.Digest[:])))
	header.Set("X-Access-Receipt", receiptTag(result.Receipt)+`; origin="`+result.Receipt.Origin+`"`)
	x.sent = true
	x.w.WriteHeader(http.StatusOK)
	if _, err := x.w.Write(body); err != nil {
		panic(http.ErrAbortHandler) // half a document must not look whole
	}
}

// wantsFHIR reports whether the caller names FHIR JSON as what it takes, by _format or in Accept (hl7.org/fhir/R4/binary.html#rest).
func (x *exchange) wantsFHIR() bool {
	for _, f := range x.query["_format"] {
		if f != "" {
			return true // presentation has seen that it is JSON
		}
	}
	for _, header := range x.r.Header.Values("Accept") {
		for one := range strings.SplitSeq(header, ",") {
			if t, params, err := mime.ParseMediaType(one); err == nil && t == "application/fhir+json" && wanted(params["q"]) {
				return true
			}
		}
	}
	return false
}
