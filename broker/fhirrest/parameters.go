package fhirrest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/authn"
)

// maxDepth bounds nesting in a Parameters body. What is read needs four.
const maxDepth = 16

// body reads the whole body, up to the cap.
func (x *exchange) body() ([]byte, *problem) {
	raw, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refusal(http.StatusRequestEntityTooLarge, fhir.IssueSeverityError, fhir.IssueTypeTooLong, "The body is too long: at most 64 KiB.")
	case err != nil:
		return nil, bad(fhir.IssueTypeStructure, "The body broke off.")
	}
	return raw, nil
}

// parameters reads the parameters of an operation called by POST: those of a Parameters resource and those of the query. An empty body
// is one without parameters.
func (x *exchange) parameters() (url.Values, *problem) {
	if x.r.ContentLength == 0 {
		return x.query, nil
	}
	if p := x.bodyIs("application/fhir+json", "application/json"); p != nil {
		return nil, p
	}
	raw, p := x.body()
	if p != nil {
		return nil, p
	}
	fields, p := readParameters(raw)
	if p != nil {
		return nil, p
	}
	if p := x.presentation(fields); p != nil {
		return nil, p
	}
	return joined(fields, x.query), nil
}

// readParameters reads a Parameters resource as names and texts. Names and values that are read in two ways by two readers are refused.
func readParameters(raw []byte) (url.Values, *problem) {
	broken := func(text string) (url.Values, *problem) {
		return nil, refusal(http.StatusBadRequest, fhir.IssueSeverityFatal, fhir.IssueTypeStructure, text)
	}
	root, err := authn.ReadJSON(raw, maxDepth)
	if err != nil {
		return broken("The body is not JSON in UTF-8 with every name once.")
	}
	object, ok := root.(map[string]any)
	if !ok || object["resourceType"] != "Parameters" {
		return broken("The body is not a FHIR Parameters resource.")
	}
	list, ok := object["parameter"].([]any)
	if _, there := object["parameter"]; there && !ok || len(list) > maxParameters {
		return broken("parameter is a list of at most 64 parameters.")
	}
	out := url.Values{}
	for _, one := range list {
		parameter, ok := one.(map[string]any)
		name, named := parameter["name"].(string)
		if !ok || !named || name == "" {
			return broken("Every parameter is an object with a name.")
		}
		text, ok := parameterText(parameter)
		if !ok && slices.Contains(everythingParameters, name) {
			return nil, bad(fhir.IssueTypeValue, "The parameter "+name+" has one value of its type.")
		}
		out.Add(name, text)
	}
	return out, nil
}

// parameterText returns a parameter's one value as text: as it would stand in a query.
func parameterText(parameter map[string]any) (string, bool) {
	text, values := "", 0
	for key, v := range parameter {
		if !strings.HasPrefix(key, "value") {
			continue
		}
		values++
		switch key {
		case "valueDate", "valueDateTime", "valueInstant", "valueCode", "valueString", "valueId", "valueUri":
			text, _ = v.(string)
		case "valueInteger", "valueUnsignedInt", "valuePositiveInt":
			n, _ := v.(json.Number)
			text = string(n)
		case "valueBoolean":
			if b, ok := v.(bool); ok && b {
				text = "true"
			} else if ok {
				text = "false"
			}
		case "valueIdentifier":
			id, _ := v.(map[string]any)
			system, _ := id["system"].(string)
			value, _ := id["value"].(string)
			if value != "" {
				text = system + "|" + value
			}
		}
	}
	return text, values == 1 && text != ""
}
