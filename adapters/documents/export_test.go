package documents

import (
	"context"

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
	d, err := read(context.Background(), body, 64)
	if err != nil {
		return Reading{}, err
	}
	r := Reading{Readable: d.readable, Title: d.title, Kind: d.kindText, Date: d.date, About: int(d.about.is(s))}
	for _, k := range d.kind {
		r.Kind += k.code
	}
	for _, a := range d.authors {
		if a != "" {
			r.Authors++
		}
	}
	var count func([]section)
	count = func(list []section) {
		for _, x := range list {
			r.Sections++
			if x.text != "" {
				r.Texts++
			}
			count(x.sections)
		}
	}
	count(d.sections)
	if d.readable {
		r.Composition = d.composition(object{"reference": subjectURL}, "https://holder.example/DocumentReference/1")
	}
	return r, nil
}

// ReadWithin reads one while ctx lasts.
func ReadWithin(ctx context.Context, body []byte) error {
	_, err := read(ctx, body, 64)
	return err
}

// ReadXML reads XML and says how many elements there are.
func ReadXML(body []byte) (int, error) {
	e, err := parseXML(context.Background(), body, 64)
	if err != nil {
		return 0, err
	}
	n := 0
	var count func(*element)
	count = func(e *element) {
		n++
		for _, k := range e.kids {
			count(k)
		}
	}
	count(e)
	return n, nil
}
