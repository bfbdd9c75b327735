package fhirrest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// exchange is one request and its answer.
type exchange struct {
	h       *handler
	w       http.ResponseWriter
	r       *http.Request
	arrived time.Time // its headers; the broker counts from when all of it had been read
	id      string    // X-Request-ID
	caller  authn.Caller

	query                url.Values
	strict, pretty, gzip bool
	asked                bool // the broker was asked, and has recorded it
	sent                 bool // the status has left, or is about to
}

// minGzip is the size below which compressing costs more than it saves.
const minGzip = 1400

// requestID takes the caller's X-Request-ID or makes one. It is echoed, written to the ledger and to logs, and is the id of the Bundle: so
// it is a FHIR id that holds no NHS number. UUIDs always pass, because some hold ten digits that look like one.
func (x *exchange) requestID() {
	given := x.r.Header.Values("X-Request-ID")
	if len(given) == 1 && isID(given[0]) && (isUUID(given[0]) || !record.SpellsNHSNumber(given[0])) {
		x.id = given[0]
		return
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	x.id = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		hyphen, c := i == 8 || i == 13 || i == 18 || i == 23, s[i]
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if hyphen != (c == '-') || !hyphen && !hex {
			return false
		}
	}
	return true
}

// refuse sends a problem.
func (x *exchange) refuse(p *problem) {
	if x.r.Context().Err() != nil && p.status != http.StatusInternalServerError {
		panic(http.ErrAbortHandler) // the caller left
	}
	header := x.w.Header()
	if p.retryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((p.retryAfter+time.Second-1)/time.Second), 10))
	}
	if p.allow != nil {
		header.Set("Allow", strings.Join(p.allow, ", "))
	}
	if p.challenge != "" {
		header.Set("WWW-Authenticate", p.challenge)
	}
	x.send(p.status, p.receipt, outcome(nil, p.issues))
}

// send sends a resource of our own.
func (x *exchange) send(status int, receipt audit.Receipt, resource []byte) {
	if x.pretty {
		var b bytes.Buffer
		if json.Indent(&b, resource, "", "  ") == nil {
			resource = b.Bytes()
		}
	}
	x.sendBytes(status, receipt, int64(len(resource)), func(w io.Writer) error {
		_, err := w.Write(resource)
		return err
	})
}

// sendBundle sends an answer. The first byte of a record leaves here.
func (x *exchange) sendBundle(a merge.Answer, m merge.BundleMeta, receipt audit.Receipt) {
	m.ReceiptTag = receiptTag(receipt)
	x.sendBytes(http.StatusOK, receipt, a.BundleSize(m), func(w io.Writer) error {
		_, err := a.WriteBundle(w, m)
		return err
	})
}

func (x *exchange) sendBytes(status int, receipt audit.Receipt, size int64, write func(io.Writer) error) {
	header := x.w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("X-Request-Id", x.id)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer") // a search by GET has the NHS number in its address
	header.Set("Vary", "Accept-Encoding")
	if receipt.Position != 0 {
		header.Set("X-Access-Receipt", receiptTag(receipt)+`; origin="`+receipt.Origin+`"`)
	}
	compress := x.gzip && size >= minGzip
	if compress {
		header.Set("Content-Encoding", "gzip")
	} else {
		header.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	x.sent = true
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return
	}
	err := func() error {
		if !compress {
			return write(x.w)
		}
		// A fresh one each time: a pooled compressor holds what it last compressed.
		z, err := gzip.NewWriterLevel(x.w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := write(z); err != nil {
			return err
		}
		return z.Close()
	}()
	if err != nil {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
}

// receiptTag is a receipt as the Bundle carries it: position and leaf hash. The ledger's origin is in the header only.
func receiptTag(r audit.Receipt) string {
	if r.Position == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%x", r.Position, r.Leaf)
}
