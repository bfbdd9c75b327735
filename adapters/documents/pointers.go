package documents

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// pointer is one DocumentReference as it was found.
type pointer struct {
	resource fhirjson.Value
	url      string // its address in the reply
	read     string // the address of its document, if that may be read with the record; "" if not
	date     record.ClinicalTime
}

// search finds the pointers: for each organisation under which the custodian's are listed, page by page. Trouble with any of it is trouble with all, but for a page that is
// nobody's after one that said that there are more: what came stays, and is not all. That there are none is said by there being none. With first it stops where there is one.
func (f *fetch) search(ctx context.Context, first bool) error {
	codes := f.settings.Custodians
	if f.settings.Locator == LocatorMHD {
		codes = []string{""} // a registry of the custodian's own; what it lists under others is dropped
	}
	f.pages = map[string]bool{}
	for _, code := range codes {
		req, err := f.question(code)
		if err != nil {
			return err
		}
		f.total, f.seen = 0, map[string]bool{}
		for page := 1; ; page++ {
			root, err := f.ask(ctx, req)
			if errors.Is(err, broker.ErrNoRecord) {
				f.short = f.short || page > 1
				break // none under this organisation, or none on this page: the next organisation may have some
			}
			if err != nil {
				return err
			}
			b, err := fhirjson.ReadBundle(root.Doc())
			if err != nil || b.Type != "searchset" || b.Missing > 0 {
				return broker.ErrMalformed
			}
			f.total = max(f.total, fhirjson.Total(root))
			if err := f.take(b.Entries); err != nil {
				return err
			}
			if first && len(f.pointers) > 0 {
				return nil
			}
			next, more, err := f.next(root, b.Next, req)
			if err != nil {
				return err
			}
			if !more {
				break
			}
			req = next
		}
		f.short = f.short || f.total > len(f.seen)
	}
	return nil
}

// question is the first request for the pointers under one organisation: POST _search, so that the number is in a body. The record locator takes its
// parameters as JSON, a registry of IHE MHD as a form.
func (f *fetch) question(code string) (wire.Request, error) {
	number := record.NHSNumberSystem + "|" + f.query.Subject.Number.Reveal()
	req := wire.Request{Target: f.locator.At("DocumentReference", "_search"), Header: f.header(f.query)}
	if f.settings.Locator == LocatorMHD {
		req.Form = url.Values{"patient.identifier": {number}, "status": {"current"}, "_include": {"DocumentReference:patient"}}.Encode()
		return req, nil
	}
	organisation := string(f.query.Requester.Organisation)
	if organisation == "" {
		organisation = f.settings.EndUserOrganisation
	}
	if organisation == "" {
		return req, broker.ErrWithheld // the locator decides by the organisation that asks, and there is none
	}
	req.Header["NHSD-End-User-Organisation-ODS"] = organisation
	req.JSON = true
	req.Body = document.Written(document.Object{"subject:identifier": number, "custodian:identifier": record.ODSSystem + "|" + code})
	return req, nil
}

// ask reads one page.
func (f *fetch) ask(ctx context.Context, req wire.Request) (fhirjson.Value, error) {
	path, query, _ := f.locator.Below(req.Target)
	key := path + "?" + query.Encode() + "\x00" + req.Form + "\x00" + string(req.Body)
	switch {
	case f.pages[key]:
		return fhirjson.Value{}, broker.ErrMalformed // its pages run in a circle
	case len(f.pages) >= f.limits.Pages:
		return fhirjson.Value{}, broker.ErrTooMuch
	}
	f.pages[key] = true
	a, err := f.locator.Do(ctx, req, f.budget)
	if err != nil {
		return fhirjson.Value{}, sentinel.OfWire(err)
	}
	if a.Trouble() != nil {
		return fhirjson.Value{}, statusError(a, false)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{Depth: f.limits.Depth, StringBytes: f.limits.StringBytes})
	if err != nil {
		return fhirjson.Value{}, textError(err)
	}
	if e := said(d.Root()); e != nil { // an error with status 200
		return fhirjson.Value{}, e
	}
	return d.Root(), nil
}

// next is the request for the next page: by the locator's token, or by a link, which must lead below the configured address. A link with the number in it is
// asked by POST, with its query as the body.
func (f *fetch) next(bundle fhirjson.Value, link string, last wire.Request) (wire.Request, bool, error) {
	if f.settings.Locator == LocatorNRL {
		code, err := token(bundle)
		if err != nil {
			return last, false, err
		}
		if code != "" {
			d, err := fhirjson.Parse(last.Body, fhirjson.Limits{})
			if err != nil {
				return last, false, broker.ErrMalformed
			}
			body := document.Object{"next-page-token": code}
			for key, v := range d.Root().Members() {
				if key != "next-page-token" {
					body[key] = v.Text()
				}
			}
			last.Body = document.Written(body)
			return last, true, nil
		}
	}
	if link == "" {
		return last, false, nil
	}
	target, ok := f.locator.Pin(link)
	if !ok {
		return last, false, broker.ErrElsewhere
	}
	if !target.Holds(f.query.Subject.Number.Reveal()) {
		return wire.Request{Target: target, Header: last.Header}, true, nil
	}
	path, query, ok := f.locator.Below(target)
	if !ok || path != "DocumentReference" && path != "DocumentReference/_search" {
		return last, false, broker.ErrMalformed // the number would stand in an address
	}
	last.Body, last.JSON, last.Form = nil, false, query.Encode()
	if f.settings.Locator == LocatorNRL {
		body := document.Object{}
		for key, values := range query {
			if len(values) != 1 {
				return last, false, broker.ErrMalformed
			}
			body[key] = values[0]
		}
		last.Body, last.JSON, last.Form = document.Written(body), true, ""
	}
	return last, true, nil
}

// token is the locator's token for the next page, "" on the last. A tag that may be one and cannot be read is no last page's.
func token(bundle fhirjson.Value) (string, error) {
	if bundle.Variant("meta") || bundle.Get("meta").Variant("tag") {
		return "", broker.ErrMalformed
	}
	for tag := range bundle.Each("meta.tag") {
		code := tag.Get("code")
		switch {
		case tag.Kind() != fhirjson.Object || tag.Variant("display", "code"):
			return "", broker.ErrMalformed
		case !strings.EqualFold(tag.Get("display").View(), "next-page-token"):
		case code.Kind() != fhirjson.String:
			return "", broker.ErrMalformed
		case code.View() != "":
			return code.Text(), nil
		}
	}
	return "", nil
}

// take takes the pointers of one page. Each says whose it is and under whom it is listed. One that is about somebody else is left for the merge, which drops
// and counts it; a page of nothing but those is about another person.
func (f *fetch) take(entries []fhirjson.Entry) error {
	mine, theirs := 0, 0
	for _, e := range entries {
		r := e.Resource
		if len(r.Raw()) > f.limits.ResourceBytes || len(f.pointers)+len(f.people)+len(f.outcomes) >= f.limits.Resources {
			return broker.ErrTooMuch
		}
		at := e.FullURL
		if at == "" && r.Get("id").Exists() {
			at = f.locator.Base() + "/" + r.Get("resourceType").Text() + "/" + r.Get("id").Text()
		}
		switch {
		case r.Get("resourceType").Is("Patient"):
			f.people = append(f.people, fhirjson.Entry{FullURL: at, Resource: r})
			continue
		case r.Get("resourceType").Is("OperationOutcome"):
			if f.warnings++; !saysNone(r) {
				f.outcomes = append(f.outcomes, fhirjson.Entry{FullURL: at, Mode: "outcome", Resource: r})
			}
			continue
		case !r.Get("resourceType").Is("DocumentReference"):
			return broker.ErrMalformed
		}
		if e.Mode != "include" && e.Mode != "outcome" {
			id := r.Get("id").View()
			if id == "" {
				id = " " + strconv.Itoa(len(f.seen)) // it cannot be told from others: each time it is one
			}
			f.seen[id] = true
		}
		if !f.permitted(r) {
			f.others++
			continue
		}
		if id := r.Get("subject").Get("identifier"); id.Get("system").Is(record.NHSNumberSystem) && id.Get("value").Is(f.query.Subject.Number.Reveal()) {
			mine++
		} else if f.settings.Locator == LocatorNRL || id.Exists() {
			theirs++
		}
		if at == "" {
			at = "urn:mycarerecord:pointer:" + strconv.Itoa(len(f.pointers))
		}
		p := pointer{resource: r, url: at}
		p.date, _ = record.ParseClinicalTime(r.Get("date").Text())
		p.read = f.readable(r)
		f.pointers = append(f.pointers, p)
	}
	if theirs > 0 && mine == 0 {
		return broker.ErrWrongSubject
	}
	return nil
}

// permitted reports whether a pointer is listed under one of the custodian's organisations.
func (f *fetch) permitted(r fhirjson.Value) bool {
	if len(f.settings.Custodians) == 0 {
		return true
	}
	id := r.Get("custodian").Get("identifier")
	return id.Get("system").Is(record.ODSSystem) && slices.ContainsFunc(f.settings.Custodians, id.Get("value").Is)
}

// subject is the address of the one Patient that the registry sent along and that carries the number asked for, "" if there is none: then one is made.
func (f *fetch) subject() string {
	for _, p := range f.people {
		for id := range p.Resource.Get("identifier").Elems() {
			if id.Get("system").Is(record.NHSNumberSystem) && id.Get("value").Is(f.query.Subject.Number.Reveal()) {
				return p.FullURL
			}
		}
	}
	return ""
}

// readable is the address of a document that could be laid out in sections: XML or JSON at the holder; "" for any other.
func (f *fetch) readable(r fhirjson.Value) string {
	if r.Get("status").Is("entered-in-error") || r.Get("status").Is("superseded") {
		return ""
	}
	for a := range r.Each("content.attachment") {
		kind, _, _ := strings.Cut(strings.ToLower(a.Get("contentType").Text()), ";")
		kind = strings.TrimSpace(kind)
		written := strings.HasSuffix(kind, "xml") || strings.HasSuffix(kind, "json")
		if address := f.full(a.Get("url").Text()); written && f.opens(address) && f.held(r) {
			return address
		}
	}
	return ""
}

// opens reports whether a document can be fetched for the person asked for.
func (f *fetch) opens(address string) bool {
	target, ok := f.pinned(address)
	return ok && !target.Holds(f.query.Subject.Number.Reveal())
}

// full is an address in full: a registry of IHE MHD may give it as it is below its own.
func (f *fetch) full(address string) string {
	if f.settings.Locator == LocatorMHD && address != "" && !strings.Contains(address, ":") && address[0] != '/' {
		return f.locator.Base() + "/" + address
	}
	return address
}

// absolute reports whether an address says in full where it leads. What a pointer of the locator leaves out cannot be known.
func absolute(address string) bool {
	return strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://")
}

// newest are the places of at most n pointers whose documents may be read, the newest first.
func newest(list []pointer, n int) []int {
	var places []int
	for i, p := range list {
		if p.read != "" {
			places = append(places, i)
		}
	}
	slices.SortStableFunc(places, func(a, b int) int { return list[b].date.Lo.Compare(list[a].date.Lo) })
	return places[:min(n, len(places))]
}

// listed is a pointer as it is shown. An address that cannot be asked is left out, and that it was there is said: no reader may be led past us to a place that
// somebody else chose.
func (f *fetch) listed(p pointer) (fhirjson.Entry, error) {
	const absent = `"extension":[{"url":"` + document.AbsentReason + `","valueCode":"unsupported"}]`
	var edits []fhirjson.Edit
	for a := range p.resource.Each("content.attachment") {
		u := a.Get("url")
		if !u.Exists() || u.Kind() == fhirjson.String && f.opens(f.full(u.Text())) && f.held(p.resource) {
			continue
		}
		f.unopened++
		if a.Get("_url").Exists() { // something is said of the address too: then nothing of either stays
			edits = append(edits, fhirjson.Edit{Start: a.Start(), End: a.End(), New: []byte("{" + absent + "}")})
		} else {
			edits = append(edits, fhirjson.Edit{Start: u.KeyStart(), End: u.End(), New: []byte(`"_url":{` + absent + `}`)})
		}
	}
	if len(edits) == 0 {
		return fhirjson.Entry{FullURL: p.url, Resource: p.resource}, nil
	}
	return f.made(p.resource.Rewrite(edits), p.url)
}
