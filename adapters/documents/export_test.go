package documents

import (
	"context"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Reading is what could be read of a document.
type Reading struct {
	Readable                 bool
	Title, Kind, Date        string
	Authors, Sections, Texts int
	Composition              []byte
	About                    int // 0 nothing that can be checked, 1 the person asked for, 2 another
}

// Read reads a document, for tests.
func Read(body []byte) (Reading, error) { return ReadFor(body, record.Subject{}) }

// ReadFor reads one, and judges whose it is.
func ReadFor(body []byte, s record.Subject) (Reading, error) {
	d, err := document.Read(context.Background(), body, 64)
	if err != nil {
		return Reading{}, err
	}
	r := Reading{Readable: d.Readable, Title: d.Title, Kind: d.KindText, Date: d.Date, About: int(d.About.Is(s))}
	for _, k := range d.Kind {
		r.Kind += k.Code
	}
	for _, a := range d.Authors {
		if a != "" {
			r.Authors++
		}
	}
	var count func([]document.Section)
	count = func(list []document.Section) {
		for _, x := range list {
			r.Sections++
			if x.Text != "" {
				r.Texts++
			}
			count(x.Sections)
		}
	}
	count(d.Sections)
	if d.Readable {
		r.Composition = d.Composition(document.Object{"reference": document.SubjectURL}, "https://holder.example/DocumentReference/1")
	}
	return r, nil
}

// ReadWithin reads one while ctx lasts.
func ReadWithin(ctx context.Context, body []byte) error {
	_, err := document.Read(ctx, body, 64)
	return err
}

// ReadXML reads XML and says how many elements there are.
func ReadXML(body []byte) (int, error) {
	return document.CountXML(context.Background(), body, 64) //nolint:wrapcheck // for tests
}
