package broker

import (
	"mime"
	"strings"
)

// anyBytes is the media type of what nobody, or not everybody, agrees about.
const anyBytes = "application/octet-stream"

// MediaType is what a document is said to be: by its holder now, and by the record before. Where one says nothing the other counts; where they
// contradict each other it is bytes and nothing more, so that a holder cannot have a letter taken for a program, nor a pointer a page for a picture.
func (r *DocumentResult) MediaType() string {
	held, heldParams := mediaKind(r.Document.Type)
	listed, _ := mediaKind(r.Listed)
	switch {
	case listed == "" && held == "":
		return anyBytes
	case held == "" || held == anyBytes || held == "binary/octet-stream":
		if listed == "" {
			return anyBytes
		}
		return listed
	case listed == "" || listed == held:
		if s := mime.FormatMediaType(held, heldParams); s != "" {
			return s
		}
		return held
	case syntaxOf(listed) != "" && syntaxOf(listed) == syntaxOf(held):
		return listed
	}
	return anyBytes
}

// mediaKind reads a media type, "" for what is none. Of its parameters, charset and nothing else is kept.
func mediaKind(s string) (kind string, params map[string]string) {
	kind, all, err := mime.ParseMediaType(s)
	if err != nil || len(s) > maxMediaType || !strings.Contains(kind, "/") {
		return "", nil
	}
	if c := all["charset"]; c != "" && !strings.ContainsFunc(c, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) {
		params = map[string]string{"charset": c}
	}
	return kind, params
}

// syntaxOf is the text format that a media type is written in, where many names are used for one: "xml" or "json"; not for what browsers run.
func syntaxOf(kind string) string {
	switch {
	case kind == "application/xhtml+xml" || kind == "image/svg+xml":
		return ""
	case kind == "text/xml" || kind == "application/xml" || strings.HasSuffix(kind, "+xml"):
		return "xml"
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		return "json"
	}
	return ""
}
