package documents_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// markerPerson is the test person under whom a custodian says how far it has come.
const markerPerson = "9990000069"

// The two types of document that the custodian of these tests lists.
const crisisPlan, contingencyPlan = "736253002", "325691000000100"

// marked gives a locator and a registry pointers about the marker's number, that were changed at these times.
func marked(crisis, contingency string) func(*simulator.LocatorConfig, *simulator.LibraryConfig) {
	return func(c *simulator.LocatorConfig, l *simulator.LibraryConfig) {
		for _, x := range [][2]string{{crisisPlan, crisis}, {contingencyPlan, contingency}} {
			if x[1] != "" {
				p := simulator.Pointer{ID: "X9C01-marker-" + x[0], Custodian: "X9C01", Code: x[0], URL: "https://elsewhere.invalid/none", ContentType: "text/plain", Date: "2024-01-01T00:00:00Z", Changed: x[1]}
				c.People[markerPerson] = append(c.People[markerPerson], p)
				p.Custodian = "X9F01"
				l.People[markerPerson] = append(l.People[markerPerson], p)
			}
		}
	}
}

func stamp(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format(time.RFC3339Nano) }

func (p place) indexSettings(t testing.TB) documents.IndexSettings {
	s := p.settings(t)
	return documents.IndexSettings{Connection: s.Connection, Custodians: s.Custodians, MarkerNumber: markerPerson, MarkerTypes: []string{crisisPlan, contingencyPlan}}
}

func newIndex(t testing.TB, s documents.IndexSettings) *documents.Index {
	t.Helper()
	x, err := documents.NewIndex(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// both are an index on the National Record Locator and one that is a registry of the custodian's own.
func (p place) both(t testing.TB) map[string]*documents.Index {
	own := p.indexSettings(t)
	full := registry(p.settings(t), p)
	own.Locator, own.Custodians, own.BaseURL, own.BearerFile = documents.LocatorMHD, nil, full.BaseURL, full.BearerFile
	return map[string]*documents.Index{"nrl": newIndex(t, p.indexSettings(t)), "mhd": newIndex(t, own)}
}

// An index says who is listed, and how far its custodian has come: by the type of document that is furthest behind, and never by when it was asked.
func TestIndex(t *testing.T) {
	day, hour := 24*time.Hour, time.Hour
	for _, c := range []struct {
		name                string
		crisis, contingency string
		ago                 time.Duration // -1: it does not say
	}{
		{"up to date", stamp(hour), stamp(2 * hour), 2 * hour},
		{"one type is behind", stamp(0), stamp(10 * day), 10 * day},
		{"a type is missing: it does not exist, or may not be seen", stamp(0), "", -1},
		{"no marker", "", "", -1},
		{"a day is no instant", stamp(hour), "2024-05-01", -1},
		{"not a time", stamp(hour), "yesterday", -1},
	} {
		p := newPlace(t, marked(c.crisis, c.contingency))
		for name, x := range p.both(t) {
			for person, listed := range map[string]bool{held: true, unknown: false} {
				got, err := x.Locate(t.Context(), query(t, person))
				age := time.Since(got.AsOf)
				if err != nil || got.Listed != listed || got.AsOf.IsZero() != (c.ago < 0) || c.ago >= 0 && (age < c.ago || age > c.ago+time.Minute) {
					t.Errorf("%s, %s: got %+v after %v, %v; want listed %t", name, c.name, got, age, err, listed)
				}
			}
		}
		p.noNumberInAddresses(t)
	}
}

// A clock that is a little ahead makes nothing fresher than now; one from tomorrow is no clock.
func TestIndexFromTheFuture(t *testing.T) {
	p := newPlace(t, marked(stamp(-time.Minute), stamp(-2*time.Minute)))
	for name, x := range p.both(t) {
		if got, err := x.Locate(t.Context(), query(t, unknown)); err != nil || got.AsOf.After(time.Now()) || time.Since(got.AsOf) > time.Minute {
			t.Errorf("%s: got %v, %v", name, got.AsOf, err)
		}
	}
	p = newPlace(t, marked(stamp(-24*time.Hour), stamp(-24*time.Hour)))
	for name, x := range p.both(t) {
		if got, err := x.Locate(t.Context(), query(t, unknown)); !errors.Is(err, broker.ErrMalformed) || !got.AsOf.IsZero() {
			t.Errorf("%s: got %v, %v", name, got.AsOf, err)
		}
	}
}

// Whatever goes wrong with an index, it never says that somebody is not listed: not of one who is, and not of one who is not.
func TestIndexFaults(t *testing.T) {
	p := newPlace(t, marked(stamp(time.Hour), stamp(time.Hour)))
	slow := map[simulator.Fault]bool{simulator.FaultNone: true, simulator.FaultSlow: true}
	for name, x := range p.both(t) {
		for _, fault := range simulator.CustodianFaults() {
			spec := simulator.FaultSpec{Fault: fault, Ms: 20}
			if fault == simulator.FaultHang {
				spec.Ms = 0 // until we leave
			}
			if err := errors.Join(p.SetFault(spec), p.library.SetFault(spec)); err != nil {
				t.Fatal(err)
			}
			for _, person := range []string{held, unknown} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				got, err := x.Locate(ctx, query(t, person))
				cancel()
				no := err == nil && !got.Listed && !got.AsOf.IsZero()
				if no && (person == held || !slow[fault] && fault != simulator.FaultPageLoop && fault != simulator.FaultPageElsewhere && fault != simulator.FaultMixedPatients) {
					t.Errorf("%s, %s: a clear no", name, fault)
				}
				if slow[fault] && no != (person == unknown) {
					t.Errorf("%s, %s: got %+v, %v", name, fault, got, err)
				}
				if err != nil && (strings.Contains(err.Error(), person) || strings.Contains(err.Error(), "127.0.0.1")) {
					t.Errorf("%s, %s: the error says too much", name, fault)
				}
			}
		}
	}
	p.noNumberInAddresses(t)
}

// What is no clear no.
func TestUnclearIndexes(t *testing.T) {
	a := newAnswering(t)
	nrl := newIndex(t, documents.IndexSettings{Connection: wire.Connection{BaseURL: a.url, AllowPlainHTTP: true}, Custodians: []string{"X9C01"}, MarkerNumber: markerPerson, MarkerTypes: []string{crisisPlan}})
	mhd := newIndex(t, documents.IndexSettings{Connection: wire.Connection{BaseURL: a.url, AllowPlainHTTP: true}, Locator: documents.LocatorMHD, Custodians: []string{"X9C01"}, MarkerNumber: markerPerson})
	marker := pointerOf(markerPerson, "m", `"meta":{"lastUpdated":"`+stamp(time.Hour)+`"},"type":{"coding":[{"system":"http://snomed.info/sct","code":"`+crisisPlan+`"}]}`)
	others := strings.Replace(pointerOf(unknown, "x", `"description":"other"`), "X9C01", "X9Z01", 1)
	empty := func(total string) string {
		return `{"resourceType":"Bundle","type":"searchset",` + total + `"entry":[]}`
	}
	for _, c := range []struct {
		name     string
		page     string // about the person
		nrl, mhd bool   // whether it is a clear no
	}{
		{"empty", empty(`"total":0,`), true, true},
		{"no count", empty(``), true, true},
		{"no entries", `{"resourceType":"Bundle","type":"searchset"}`, true, true},
		{"a count of what did not come", empty(`"total":1,`), false, false},
		{"a count that is none", empty(`"total":"0",`), false, false},
		{"a negative count", empty(`"total":-1,`), false, false},
		{"another custodian's", page(others), false, true},
		{"another custodian's, and a count of more", strings.Replace(page(others), `"total":1`, `"total":2`, 1), false, false},
		{"a warning", page(`{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"incomplete"}]}`), false, false},
		{"somebody else's", page(pointerOf(other, "x", `"description":"`+canary+`"`)), false, false},
		{"null", `null`, false, false},
		{"a page that goes on, and fails", strings.Replace(empty(`"total":0,`), `"type"`, `"link":[{"relation":"next","url":"`+a.url+`/nowhere"}],"type"`, 1), false, false},
	} {
		a.say(func(w http.ResponseWriter, r *http.Request) {
			body := make([]byte, 4096)
			n, _ := r.Body.Read(body)
			w.Header().Set("Content-Type", "application/fhir+json")
			switch {
			case strings.HasSuffix(r.URL.Path, "/nowhere"):
				w.WriteHeader(http.StatusBadGateway)
			case strings.Contains(string(body[:n]), markerPerson):
				_, _ = w.Write([]byte(page(marker))) // the client left
			default:
				_, _ = w.Write([]byte(c.page)) // the client left
			}
		})
		for name, x := range map[string]*documents.Index{"nrl": nrl, "mhd": mhd} {
			got, err := x.Locate(t.Context(), query(t, unknown))
			want := map[string]bool{"nrl": c.nrl, "mhd": c.mhd}[name]
			if clear := err == nil && !got.Listed && time.Since(got.AsOf) < 2*time.Hour; clear != want {
				t.Errorf("%s, %s: got %+v, %v; want a clear no %t", name, c.name, got, err, want)
			}
		}
	}
}

// What is said under one of a custodian's organisations is not said of the others: neither that there is nothing, nor how far it has come.
func TestSeveralOrganisations(t *testing.T) {
	a := newAnswering(t)
	connection := wire.Connection{BaseURL: a.url, AllowPlainHTTP: true}
	index := newIndex(t, documents.IndexSettings{Connection: connection, Custodians: []string{"X9C01", "X9C02"}, MarkerNumber: markerPerson, MarkerTypes: []string{crisisPlan}})
	src, err := documents.New(documents.Settings{Connection: connection, Custodians: []string{"X9C01", "X9C02"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	const none = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","details":{"coding":[{"code":"NO_RECORD_FOUND"}]}}]}`
	type key struct{ number, organisation string }
	says := map[key]string{}
	a.say(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/fhir+json")
		for k, answer := range says {
			if strings.Contains(string(text), k.number) && strings.Contains(string(text), k.organisation) {
				_, _ = w.Write([]byte(answer))
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(none))
	})
	pointer := func(n, organisation string, ago time.Duration) string {
		return page(strings.Replace(pointerOf(n, "p-"+organisation, `"meta":{"lastUpdated":"`+stamp(ago)+`"},"type":{"coding":[{"system":"http://snomed.info/sct","code":"`+crisisPlan+`"}]}`), `"X9C01"`, `"`+organisation+`"`, 1))
	}
	both := func(first, second string) {
		clear(says)
		says[key{markerPerson, "X9C01"}], says[key{markerPerson, "X9C02"}] = first, second
	}
	both(pointer(markerPerson, "X9C01", time.Hour), pointer(markerPerson, "X9C02", 2*time.Hour))
	if got, err := index.Locate(t.Context(), query(t, held)); err != nil || got.Listed || time.Since(got.AsOf) < 2*time.Hour || time.Since(got.AsOf) > 3*time.Hour {
		t.Errorf("nothing under either: %+v, %v", got, err)
	}
	for _, organisation := range []string{"X9C01", "X9C02"} {
		both(pointer(markerPerson, "X9C01", time.Hour), pointer(markerPerson, "X9C02", time.Hour))
		says[key{held, organisation}] = pointer(held, organisation, time.Hour)
		if got, err := index.Locate(t.Context(), query(t, held)); err != nil || !got.Listed {
			t.Errorf("listed under %s: %+v, %v", organisation, got, err)
		}
		if reply, err := src.Fetch(t.Context(), query(t, held)); err != nil || len(reply.Entries) != 2 {
			t.Errorf("listed under %s: %d entries, %v", organisation, len(reply.Entries), err)
		}
	}
	both(pointer(markerPerson, "X9C01", time.Hour), pointer(markerPerson, "X9C02", 240*time.Hour))
	if got, err := index.Locate(t.Context(), query(t, held)); err != nil || time.Since(got.AsOf) < 240*time.Hour {
		t.Errorf("one organisation is behind: %v, %v", got.AsOf, err)
	}
	both(pointer(markerPerson, "X9C01", time.Hour), none)
	if got, err := index.Locate(t.Context(), query(t, held)); err != nil || !got.AsOf.IsZero() {
		t.Errorf("one organisation has no marker: %v, %v", got.AsOf, err)
	}
	// That there is no record is no clear answer where a page before said that there is more.
	both(pointer(markerPerson, "X9C01", time.Hour), pointer(markerPerson, "X9C02", time.Hour))
	says[key{held, "X9C01"}] = `{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"` + a.url + `/gone"}]}`
	if got, err := index.Locate(t.Context(), query(t, held)); !errors.Is(err, broker.ErrMalformed) || got.Listed || !got.AsOf.IsZero() {
		t.Errorf("a second page that is gone: %+v, %v", got, err)
	}
}

// Who is of no organisation cannot be looked up at the National Record Locator, unless an organisation is set.
func TestIndexNeedsAnOrganisation(t *testing.T) {
	p := newPlace(t, marked(stamp(0), stamp(0)))
	q := query(t, unknown)
	q.Requester = record.Requester{Kind: record.Person}
	if _, err := newIndex(t, p.indexSettings(t)).Locate(t.Context(), q); !errors.Is(err, broker.ErrWithheld) || p.Requests().Record != 0 {
		t.Errorf("got %v after %d requests", err, p.Requests().Record)
	}
	s := p.indexSettings(t)
	s.EndUserOrganisation = "X9C01"
	if got, err := newIndex(t, s).Locate(t.Context(), q); err != nil || got.Listed {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestIndexSettings(t *testing.T) {
	good := documents.IndexSettings{Connection: wire.Connection{BaseURL: "https://locator.example"}, Custodians: []string{"X9C01"}, MarkerNumber: markerPerson, MarkerTypes: []string{crisisPlan}}
	for field, change := range map[string]func(*documents.IndexSettings){
		"markerNumber": func(s *documents.IndexSettings) { s.MarkerNumber = "4505577104" }, // valid, and not of the test range
		"markerTypes":  func(s *documents.IndexSettings) { s.MarkerTypes = nil },
		"custodians":   func(s *documents.IndexSettings) { s.Custodians = nil },
		"locator":      func(s *documents.IndexSettings) { s.Locator = "xds" },
		"baseURL":      func(s *documents.IndexSettings) { s.BaseURL = "" },
	} {
		s := good
		change(&s)
		var e *wire.SettingError
		if _, err := documents.NewIndex(s); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
