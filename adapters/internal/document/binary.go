package document

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
)

// maxWrapped is how many Binaries may stand around a document. One is what a FHIR server does.
const maxWrapped = 3

var errBase64 = errors.New("not base64")

// Base64 decodes what a Binary holds; line breaks are allowed (hl7.org/fhir/R4/datatypes.html#base64Binary). Nothing at all is an error.
func Base64(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, text)
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(out) == 0 {
		return nil, errBase64
	}
	return out, nil
}

// held is what a FHIR Binary holds.
func (e *element) held() string {
	if data := e.value("data"); data != "" {
		return data
	}
	return e.value("content") // STU3
}

// XMLBinary takes a document out of a FHIR Binary in XML. is is false for what is none.
func XMLBinary(ctx context.Context, body []byte, depth int) (data []byte, kind string, is bool, err error) {
	if formatOf(body) != inXML || !bytes.Contains(body, []byte("Binary")) && body[0] < 0x80 { // not worth reading twice
		return nil, "", false, nil
	}
	root, err := parseXML(ctx, body, depth)
	if err != nil || !root.isBinary() {
		return nil, "", false, err
	}
	data, err = Base64(root.held())
	return data, root.value("contentType"), true, err
}

func (e *element) isBinary() bool {
	return e.name == "Binary" && (e.space == spaceFHIR || e.space == "" && e.held() != "")
}
