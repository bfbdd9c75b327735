package merge

import (
	"bufio"
	"io"
	"strconv"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Link is a link of a Bundle.
type Link struct{ Relation, URL string }

// BundleMeta is what a written Bundle says of itself.
type BundleMeta struct {
	ID         string // the Bundle's id
	Links      []Link // self
	ReceiptTag string // value for the meta.tag with our receipt code system; "" for none (L-4)
	CodeBase   string
	Now        string // meta.lastUpdated, an instant
	Pretty     bool   // indent our own text; custodians' bytes stay as they are
}

// WriteBundle writes a searchset Bundle (FHIR R4) and returns how many bytes it wrote. The bytes of the resources are written as they
// are. An error is the writer's.
func (a Answer) WriteBundle(w io.Writer, m BundleMeta) (int64, error) {
	n := &counter{to: w}
	b := bufio.NewWriterSize(n, 64<<10)
	a.write(&envelope{w: b, pretty: m.Pretty}, m)
	err := b.Flush() // a bufio.Writer keeps its first error
	return n.n, err
}

// BundleSize returns how many bytes WriteBundle would write.
func (a Answer) BundleSize(m BundleMeta) int64 {
	n := &counter{to: io.Discard}
	a.write(&envelope{w: n, pretty: m.Pretty}, m)
	return n.n
}

func (a Answer) write(e *envelope, m BundleMeta) {
	e.written = make([]byte, 0, 1<<10) // as much as stands between two resources
	e.text(`{`)
	e.line(1, `"resourceType":"Bundle"`)
	if m.ID != "" {
		e.text(`,`)
		e.line(1, `"id":`)
		e.quote(m.ID)
	}
	if m.Now != "" || m.ReceiptTag != "" {
		e.text(`,`)
		e.line(1, `"meta":{`)
		if m.Now != "" {
			e.line(2, `"lastUpdated":`)
			e.quote(m.Now)
		}
		if m.ReceiptTag != "" {
			if m.Now != "" {
				e.text(`,`)
			}
			e.line(2, `"tag":[{"system":`)
			e.quote(m.CodeBase + ReceiptSystemPath)
			e.text(`,"code":`)
			e.quote(m.ReceiptTag)
			e.text(`}]`)
		}
		e.line(1, `}`)
	}
	e.text(`,`)
	e.line(1, `"type":"searchset"`)
	if !a.TotalUnknown {
		e.text(`,`)
		e.line(1, `"total":`)
		e.text(strconv.Itoa(a.Total))
	}
	for i, l := range m.Links {
		if i == 0 {
			e.text(`,`)
			e.line(1, `"link":[`)
		} else {
			e.text(`,`)
		}
		e.line(2, `{"relation":`)
		e.quote(l.Relation)
		e.text(`,"url":`)
		e.quote(l.URL)
		e.text(`}`)
	}
	if len(m.Links) > 0 {
		e.line(1, `]`)
	}
	for i := range a.Entries {
		x := &a.Entries[i]
		if i == 0 {
			e.text(`,`)
			e.line(1, `"entry":[`)
		} else {
			e.text(`,`)
		}
		e.line(2, `{`)
		e.line(3, `"fullUrl":`)
		e.quote(x.FullURL)
		e.text(`,`)
		e.line(3, `"resource":`)
		e.bytes(x.JSON)
		e.text(`,`)
		e.line(3, `"search":{"mode":"`)
		e.text(string(x.Mode))
		e.text(`"}`)
		e.line(2, `}`)
	}
	if len(a.Entries) > 0 {
		e.line(1, `]`)
	}
	e.line(0, `}`)
	e.flush()
}

// envelope writes the Bundle's own text. Write errors are kept by the writer below.
type envelope struct {
	w       io.Writer
	pretty  bool
	written []byte // text that w does not have yet: it comes in small bits
}

// bytes writes a resource.
func (e *envelope) bytes(b []byte) {
	e.flush()
	_, _ = e.w.Write(b)
}

func (e *envelope) flush() {
	_, _ = e.w.Write(e.written)
	e.written = e.written[:0]
}

func (e *envelope) text(s string) { e.written = append(e.written, s...) }

func (e *envelope) quote(s string) { e.written = fhirjson.AppendQuote(e.written, s) }

// line begins a new line where the text is to be read by people.
func (e *envelope) line(depth int, s string) {
	if e.pretty {
		e.text("\n        "[:1+2*depth])
	}
	e.text(s)
}

type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}
