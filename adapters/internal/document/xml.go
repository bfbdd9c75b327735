package document

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// Caps of a document in XML, beside its bytes and depth.
const (
	maxElements   = 100_000 // some 20 MB; the largest published CDA document has 6,000
	maxAttributes = 100
)

// What is wrong with XML. The parser's own texts repeat the input and stay behind.
var (
	errXML     = errors.New("not XML that can be read")
	ErrTooDeep = errors.New("nested too deep, or too many elements or pieces of text")
)

// parseXML reads a whole document into elements. Declarations of types and entities are refused, whatever they say, so that nothing is fetched and
// nothing grows; so are undeclared prefixes, attributes that stand twice, text around the one root, and encodings other than those of declared. Go's parser knows
// no external entities; this does not rest on it.
func parseXML(ctx context.Context, text []byte, depth int) (*element, error) {
	e, _, err := parseElements(ctx, text, depth, maxElements)
	return e, err
}

// CountXML reads XML and says how many elements and pieces of text there are.
func CountXML(ctx context.Context, text []byte, depth int) (int, error) {
	_, n, err := parseElements(ctx, text, depth, maxElements)
	return n, err
}

// parseElements is parseXML with at most so many elements, and returns how many there were.
func parseElements(ctx context.Context, text []byte, depth, most int) (root *element, count int, err error) {
	text, decoded, err := utf8Text(text)
	if err != nil {
		return nil, 0, err
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = true
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		switch strings.ToLower(charset) {
		case "utf-8", "us-ascii", "ascii":
			return in, nil
		case "iso-8859-1", "latin1":
			if !decoded {
				return charmap.ISO8859_1.NewDecoder().Reader(in), nil
			}
		case "windows-1252":
			if !decoded {
				return charmap.Windows1252.NewDecoder().Reader(in), nil
			}
		case "utf-16", "utf-16le", "utf-16be":
			if decoded {
				return in, nil
			}
		}
		return nil, errXML
	}
	var open []*element
	for tokens := 1; ; tokens++ {
		if tokens%1024 == 0 && ctx.Err() != nil {
			return nil, count, ctx.Err() //nolint:wrapcheck // reduced by the caller
		}
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, count, errXML
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, count, errXML
		case xml.StartElement:
			if count++; count > most || len(open) >= depth || len(t.Attr) > maxAttributes {
				return nil, count, ErrTooDeep
			}
			if len(open) == 0 && root != nil || !declared(t.Name.Space) {
				return nil, count, errXML
			}
			e := &element{name: t.Name.Local, space: t.Name.Space}
			seen := map[xml.Name]bool{}
			for _, a := range t.Attr {
				if seen[a.Name] {
					return nil, count, errXML
				}
				seen[a.Name] = true
				if a.Name.Space == "" && a.Name.Local != "xmlns" || a.Name.Space == "http://www.w3.org/2001/XMLSchema-instance" {
					e.attrs = append(e.attrs, attribute{a.Name.Local, a.Value})
				}
			}
			if len(open) == 0 {
				root = e
			} else {
				parent := open[len(open)-1]
				parent.kids = append(parent.kids, e)
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				parent := open[len(open)-1]
				if last := len(parent.kids) - 1; last >= 0 && parent.kids[last].name == "" { // text in pieces, with comments or instructions between
					if count++; count > most {
						return nil, count, ErrTooDeep
					}
				}
				parent.kids = append(parent.kids, &element{text: string(t)})
			} else if len(bytes.TrimSpace(t)) > 0 {
				return nil, count, errXML
			}
		}
	}
	if root == nil || len(open) > 0 {
		return nil, count, errXML
	}
	return root, count, nil
}

// declared reports whether what stands as a namespace is one. Go's parser leaves an undeclared prefix there; names of namespaces have a colon or a slash.
func declared(space string) bool {
	return space == "" || strings.ContainsAny(space, ":/") || space == "xml"
}

// utf8Text takes a byte order mark off, and makes UTF-16 that has one into UTF-8. decoded reports the latter.
func utf8Text(text []byte) (out []byte, decoded bool, err error) {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return text[3:], false, nil
	case bytes.HasPrefix(text, []byte("\xfe\xff")), bytes.HasPrefix(text, []byte("\xff\xfe")):
		out, err = unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM).NewDecoder().Bytes(text)
		if err != nil || bytes.ContainsRune(out, '\ufffd') { // half a pair, or an odd number of bytes
			return nil, false, errXML
		}
		return out, true, nil
	}
	return text, false, nil
}
