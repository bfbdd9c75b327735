package fhirrest

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"
)

// Caps on what is read of a request.
const (
	maxBodyBytes  = 64 << 10
	maxQueryBytes = 8 << 10
	maxParameters = 64
)

const mediaType = "application/fhir+json;charset=utf-8"

// negotiate reads the query and what the caller wants to get: format, layout, compression, and how strictly to be read.
func (x *exchange) negotiate() *problem {
	if len(x.r.URL.RawQuery) > maxQueryBytes {
		return bad(fhir.IssueTypeTooLong, "The query is too long: send it as a body, by POST.")
	}
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return bad(fhir.IssueTypeInvalid, "The query cannot be read: write name=value, joined by &, with other characters escaped.")
	}
	x.query = query
	x.strict = strings.EqualFold(preference(x.r.Header.Values("Prefer"), "handling"), "strict")
	x.gzip = takesGzip(x.r.Header.Values("Accept-Encoding"))
	if p := x.presentation(query); p != nil {
		return p
	}
	if !query.Has("_format") && !x.isDocument() && !takesJSON(x.r.Header.Values("Accept")) {
		return notSupported(http.StatusNotAcceptable, "Answers are JSON: accept application/fhir+json.")
	}
	return nil
}

// presentation reads _format and _pretty, and takes them out: they are no filters, and are not repeated in links.
func (x *exchange) presentation(from url.Values) *problem {
	for _, f := range from["_format"] {
		switch strings.ToLower(strings.ReplaceAll(f, " ", "+")) { // an unescaped + arrives as a blank
		case "", "json", "application/json", "application/fhir+json", "text/json":
		default:
			return notSupported(http.StatusNotAcceptable, "Answers are JSON: give _format=json, or nothing.")
		}
	}
	for _, s := range from["_pretty"] {
		switch s {
		case "", "false":
		case "true":
			x.pretty = true
		default:
			return bad(fhir.IssueTypeValue, "_pretty is true or false.")
		}
	}
	return nil
}

// takesJSON reads Accept (RFC 9110 section 12.5.1): missing, or any range that JSON falls under, for FHIR R4 if a version is named.
func takesJSON(accept []string) bool {
	ranges := 0
	for _, header := range accept {
		for one := range strings.SplitSeq(header, ",") {
			if strings.TrimSpace(one) == "" {
				continue
			}
			ranges++
			t, params, err := mime.ParseMediaType(one)
			if err != nil || !wanted(params["q"]) {
				continue
			}
			if v, there := params["fhirversion"]; there && v != "4.0" && v != "4.0.1" {
				continue
			}
			switch t {
			case "*/*", "application/*", "application/json", "application/fhir+json", "text/json", "json":
				return true
			}
		}
	}
	return ranges == 0
}

func takesGzip(accept []string) bool {
	for _, header := range accept {
		for one := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(one, ";")
			_, q, _ := strings.Cut(params, "q=")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				return wanted(strings.TrimSpace(q))
			}
		}
	}
	return false
}

// wanted reports whether a quality is above zero; none is one.
func wanted(q string) bool {
	if q == "" {
		return true
	}
	v, err := strconv.ParseFloat(q, 64)
	return err == nil && v > 0
}

// preference returns the value of a preference (RFC 7240), "" for none.
func preference(headers []string, name string) string {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			for part := range strings.SplitSeq(one, ";") {
				k, v, _ := strings.Cut(part, "=")
				if strings.EqualFold(strings.TrimSpace(k), name) {
					return strings.Trim(strings.TrimSpace(v), `"`)
				}
			}
		}
	}
	return ""
}

// bodyIs checks the type of a body against those given. A body that is compressed is refused: nothing is unpacked here.
func (x *exchange) bodyIs(types ...string) *problem {
	if e := x.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return notSupported(http.StatusUnsupportedMediaType, "Send the body without Content-Encoding.")
	}
	t, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		for _, want := range types {
			if t == want {
				return nil
			}
		}
	}
	return notSupported(http.StatusUnsupportedMediaType, "Send the body as "+types[0]+" in UTF-8.")
}
