package wire

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// ratioFloor is how many decoded bytes are read before the ratio counts: small answers compress well and harm nobody.
const ratioFloor = 1 << 20

// maxPiece is how much is read before the budget is asked.
const maxPiece = 64 << 10

// maxErrorBody caps the body of an answer whose status is not 200: an OperationOutcome is short.
const maxErrorBody = 64 << 10

// Budget is how much one fetch may still read, over all its pages. It is safe for concurrent use.
type Budget struct {
	left  atomic.Int64
	limit int64
	ratio int64
	more  func(n int64) bool
}

// NewBudget returns a budget of so many decoded bytes and of so many decoded bytes for one encoded, the latter after the first MiB.
// more, if it is not nil, is asked as well for every piece of at most 64 KiB, concurrently; where it says no, the budget is spent.
func NewBudget(maxBytes int64, ratio int, more func(n int64) bool) *Budget {
	b := &Budget{limit: maxBytes, ratio: int64(ratio), more: more}
	b.left.Store(maxBytes)
	return b
}

// Used returns how many decoded bytes were read.
func (b *Budget) Used() int64 { return min(b.limit-b.left.Load(), b.limit) }

// Take counts n bytes that are about to be held, and reports whether they may be.
func (b *Budget) Take(n int) bool { return b.take(n) }

func (b *Budget) take(n int) bool {
	return n == 0 || b.left.Add(-int64(n)) >= 0 && (b.more == nil || b.more(int64(n)))
}

// read reads the body of an answer. kind is what it says it is, where it may be anything.
func (r *Request) read(ctx context.Context, res *http.Response, in io.Reader, budget *Budget) (text []byte, kind string, err error) {
	version := r.FHIR
	if version == "" {
		version = R4
	}
	if res.StatusCode != http.StatusOK {
		text, err = errorBody(ctx, res, in, version)
		return text, "", err
	}
	if r.Any {
		if v := res.Header.Values("Content-Type"); len(v) == 1 {
			kind = v[0]
		}
	} else if !isJSON(res.Header, version) {
		return nil, "", &Error{Kind: Malformed}
	}
	if res.ContentLength > budget.left.Load() {
		return nil, "", &Error{Kind: TooMuch} // even before it is decoded, which makes it longer
	}
	text, err = readBody(ctx, res, in, budget)
	return text, kind, err
}

// errorBody reads the body of any status but 200, nil if it is no JSON or too long: the status still says something.
func errorBody(ctx context.Context, res *http.Response, in io.Reader, version string) ([]byte, error) {
	if isJSON(res.Header, version) {
		if text, err := readBody(ctx, res, in, NewBudget(maxErrorBody, 100, nil)); err == nil {
			return text, nil
		}
	}
	if e := ended(ctx); e != nil {
		return nil, e
	}
	return nil, nil
}

// readBody reads to the end, or not at all: a part of a body is never returned.
func readBody(ctx context.Context, res *http.Response, in io.Reader, budget *Budget) ([]byte, error) {
	r := in
	var encoded *counter // of what is encoded; what is not is as long as it is
	switch strings.ToLower(strings.TrimSpace(strings.Join(res.Header.Values("Content-Encoding"), ","))) {
	case "", "identity":
	case "gzip", "x-gzip":
		encoded = &counter{r: in}
		z, err := gzip.NewReader(encoded)
		if err != nil {
			return nil, bodyError(ctx)
		}
		defer func() { _ = z.Close() }() // it reports only what Read reported
		r = z
	default:
		return nil, &Error{Kind: Malformed} // not what we said we accept
	}
	// What a header says of the length is not believed further than a MiB, and beyond that no further than three times what has come: memory is taken as
	// bytes arrive, and a large body is not copied again and again. One of less than 4 MiB is copied once, when a quarter has come.
	first := res.ContentLength + 1
	if encoded == nil && first > 1<<20 {
		first = first/4 + 1
	}
	out := make([]byte, 0, min(max(first, 4<<10), 1<<20))
	for {
		if len(out) == cap(out) {
			more := int64(1)
			if encoded == nil { // what is encoded becomes longer than its header says
				more = max(1, min(res.ContentLength+1-int64(len(out)), 3*int64(len(out))))
			}
			out = slices.Grow(out, int(more))
		}
		n, err := r.Read(out[len(out):min(cap(out), len(out)+maxPiece)])
		out = out[:len(out)+n]
		if !budget.take(n) || int64(len(out)) > ratioFloor && encoded != nil && int64(len(out)) > budget.ratio*encoded.n {
			return nil, &Error{Kind: TooMuch}
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, bodyError(ctx)
		}
	}
}

// bodyError is trouble after the header: the time is over, or the body ends early or is not what it says. All but the former is Malformed,
// a connection that breaks half-way included: what came is a truncated answer.
func bodyError(ctx context.Context) error {
	if e := ended(ctx); e != nil {
		return e
	}
	return &Error{Kind: Malformed}
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err //nolint:wrapcheck // a reader passes io.EOF on as it is; the caller reduces every other error
}

// isJSON reports whether the content type is FHIR JSON or JSON, in UTF-8 and, where it says so, of the version of FHIR that was asked for.
func isJSON(h http.Header, asked string) bool {
	v := h.Values("Content-Type")
	if len(v) != 1 {
		return false
	}
	if v[0] == "application/fhir+json" || v[0] == "application/json" { // as most say it
		return true
	}
	kind, params, err := mime.ParseMediaType(v[0])
	if err != nil || kind != "application/fhir+json" && kind != "application/json" && !(asked == STU3 && kind == "application/json+fhir") {
		return false
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return false
	}
	version := params["fhirversion"]
	return version == "" || version == asked || strings.HasPrefix(version, asked+".0")
}
