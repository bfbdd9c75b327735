package documents_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Invented ids of the Spine.
const ourASID, holdersASID = "200000000001", "200000000002"

// proxied is a place whose library is behind the Spine Secure Proxy, and the settings for it. written makes of a document's address at its holder what stands
// in a pointer.
func proxied(t testing.TB, written func(string) string) (place, func(*documents.Settings)) {
	t.Helper()
	p := newPlace(t, func(c *simulator.LocatorConfig, l *simulator.LibraryConfig) {
		l.Proxied = true
		for _, list := range c.People {
			for i := range list {
				if list[i].Custodian == "X9C01" {
					list[i].URL, list[i].ASID = written(list[i].URL), holdersASID
				}
			}
		}
	})
	p.spine = &simulator.DocumentSpine{Holders: map[string]simulator.DocumentHolder{p.holder: {ASID: holdersASID, Handler: p.library}}, Contracts: []string{ourASID}}
	proxy := serve(t, p.spine)
	return p, func(s *documents.Settings) {
		s.HolderBearerFile, s.ProxyURL, s.FromASID, s.ToASID, s.Issuer = "", proxy, ourASID, holdersASID, "https://record.example"
	}
}

// However a pointer writes the address of a document behind the proxy, it is listed, opened through the configured proxy, and its bytes are the holder's.
func TestBehindTheProxy(t *testing.T) {
	for name, written := range map[string]func(string) string{
		"ssp:// and the holder's address":             func(s string) string { return strings.Replace(s, "http://", "ssp://", 1) },
		"the holder's address":                        func(s string) string { return s },
		"ssp://, the proxy's, the holder's encoded":   nil,
		"the proxy's address, and the holder's as is": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var proxy string
			wrap := func(s string) string { return s }
			if written == nil { // the proxy's address is known only when it listens
				p, change := proxied(t, wrap)
				var s documents.Settings
				change(&s)
				proxy = s.ProxyURL
				address := proxy + "/" + url.QueryEscape(p.holder+"/documents/report.xml")
				if strings.HasPrefix(name, "ssp") {
					address = strings.Replace(address, "http://", "ssp://", 1)
				}
				opened(t, p, p.source(t, change), address)
				return
			}
			p, change := proxied(t, written)
			src := p.source(t, change, func(s *documents.Settings) { s.Read = 2 })
			reply, err := src.Fetch(t.Context(), query(t, held))
			if err != nil {
				t.Fatal(err)
			}
			m := prepared(t, reply, src.Opens)
			if m.Status.State != record.Returned || m.Counts.Shown != 1+8+1 || len(reply.Conversions) != 1 {
				t.Errorf("%s, %+v, %v", m.Status.State, m.Counts, reply.Conversions)
			}
			addresses := 0
			for _, e := range m.Entries {
				addresses += strings.Count(string(e.JSON), "https://broker.example/fhir/Binary/mh-1?ctx=")
			}
			if addresses != 8 {
				t.Errorf("%d documents can be opened, want 8", addresses)
			}
			opened(t, p, src, written(p.holder+"/documents/report.xml"))
		})
	}
}

// opened opens the report, and fails unless it came whole and through the proxy.
func opened(t *testing.T, p place, src *documents.Source, address string) {
	t.Helper()
	before := len(p.spine.Log())
	d, err := src.Document(t.Context(), query(t, held), address)
	if err != nil || !bytes.Equal(d.Bytes, report(held, "19500102", marker)) || !src.Opens(address) || len(p.spine.Log()) != before+1 {
		t.Errorf("%v: %d bytes, %d requests to the proxy", err, len(d.Bytes), len(p.spine.Log())-before)
	}
	p.noNumberInAddresses(t)
}

// What does not lead below the configured holder is not asked for, by the proxy or otherwise.
func TestElsewhereThroughTheProxy(t *testing.T) {
	p, change := proxied(t, func(s string) string { return s })
	src := p.source(t, change, func(s *documents.Settings) { s.HolderURL = p.holder + "/documents" })
	var s documents.Settings
	change(&s)
	ssp := func(s string) string { return strings.Replace(s, "http://", "ssp://", 1) }
	for _, address := range []string{
		ssp(p.hosts.url) + "/documents/report.xml", p.hosts.url + "/documents/report.xml", s.ProxyURL + "/" + url.QueryEscape(p.hosts.url+"/documents/report.xml"),
		ssp(p.hosts.url) + "/" + url.QueryEscape(p.holder+"/documents/report.xml"), // another proxy
		p.hosts.url + "/" + url.QueryEscape(p.holder+"/documents/report.xml"),
		ssp(p.holder) + "/fhir/Binary/plan.pdf", ssp(p.holder) + "/documents/../fhir", ssp(p.holder) + "/documents/%2e%2e/fhir",
		s.ProxyURL + "/" + url.QueryEscape(p.holder+"/documents/../fhir"), s.ProxyURL + "/" + url.QueryEscape(url.QueryEscape(p.holder+"/documents/report.xml")),
		s.ProxyURL + "/" + p.holder + "/documents/report.xml", s.ProxyURL + "/" + url.QueryEscape(p.holder+"/documents/report.xml") + "/more",
		s.ProxyURL + "/" + url.QueryEscape(p.holder+"/documents/report.xml") + "?x=1", s.ProxyURL + "/" + url.QueryEscape("ssp://"+strings.TrimPrefix(p.holder, "http://")+"/documents/report.xml"),
		ssp(strings.Replace(p.holder, "://", "://user@", 1)) + "/documents/report.xml", "ssp:" + strings.TrimPrefix(p.holder, "http:") + "\\documents", "ssp://", "ssp:///documents/report.xml",
		"SSP://" + strings.TrimPrefix(p.holder, "http://") + "/documents/report.xml", "file:///documents/report.xml", "",
		ssp(p.holder) + "/documents/" + held, s.ProxyURL + "/" + url.QueryEscape(p.holder+"/documents/"+held),
	} {
		if d, err := src.Document(t.Context(), query(t, held), address); !errors.Is(err, broker.ErrElsewhere) || len(d.Bytes) > 0 {
			t.Errorf("address %d bytes long: got %v", len(address), err)
		}
	}
	if len(p.spine.Log()) != 0 || p.library.Requests().Record != 0 || p.hosts.n != 0 {
		t.Errorf("%d requests to the proxy, %d to the holder, %d elsewhere", len(p.spine.Log()), p.library.Requests().Record, p.hosts.n)
	}
	// Without a proxy, ssp:// leads nowhere.
	plain := newPlace(t)
	if src := plain.source(t); src.Opens(ssp(plain.holder) + "/documents/report.xml") {
		t.Error("ssp:// is opened without a proxy")
	}
}

// A pointer that names another system of the Spine is listed without its address: it would be fetched in the wrong name.
func TestAnotherHoldersPointer(t *testing.T) {
	p, change := proxied(t, func(s string) string { return strings.Replace(s, "http://", "ssp://", 1) })
	src := p.source(t, change, func(s *documents.Settings) { s.ToASID, s.Read = "200000000009", 5 })
	reply, err := src.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	m := prepared(t, reply, src.Opens)
	for _, e := range m.Entries {
		if strings.Contains(string(e.JSON), "ssp://") || strings.Contains(string(e.JSON), "Binary/mh-1") {
			t.Error("an address of another system's is shown")
		}
	}
	if m.Counts.Shown != 1+8 || len(p.spine.Log()) != 0 {
		t.Errorf("%+v, %d requests to the proxy", m.Counts, len(p.spine.Log()))
	}
}

// The proxy is told who asks, in the way that its documentation has it: the simulated one refuses anything else. Who cannot be named is not sent.
func TestWhoAsksThroughTheProxy(t *testing.T) {
	p, change := proxied(t, func(s string) string { return s })
	src := p.source(t, change, func(s *documents.Settings) { s.EndUserOrganisation = "X9C01" })
	anonymous := p.source(t, change)
	staff := query(t, held)
	person, carer, noRole, noOrganisation := staff, staff, staff, staff
	person.Purpose, person.Requester = record.PatientAccess, record.Requester{Kind: record.Person, Own: number(t, held)}
	carer.Purpose, carer.Requester = record.PatientAccess, record.Requester{Kind: record.Person, Own: number(t, unknown)}
	noRole.Requester.RoleProfile = ""
	noOrganisation.Requester.Organisation = ""
	for name, c := range map[string]struct {
		src  *documents.Source
		q    broker.Query
		want error
	}{
		"staff": {src, staff, nil}, "the person": {src, person, nil}, "a carer": {src, carer, nil}, "staff without a role": {src, noRole, broker.ErrWithheld},
		"staff of no organisation, where one is set": {src, noOrganisation, nil}, "staff of no organisation": {anonymous, noOrganisation, broker.ErrWithheld}, "a person where no organisation is set": {anonymous, person, broker.ErrWithheld},
	} {
		before := len(p.spine.Log())
		d, err := c.src.Document(t.Context(), c.q, p.holder+"/documents/report.xml")
		if !errors.Is(err, c.want) || (err == nil) != (len(d.Bytes) > 0) || (len(p.spine.Log()) > before) != (c.want == nil) {
			t.Errorf("%s: got %v, %d requests to the proxy", name, err, len(p.spine.Log())-before)
		}
	}
	// A proxy that does not know us is a matter for an operator.
	p.spine.Contracts = nil
	if _, err := src.Document(t.Context(), staff, p.holder+"/documents/report.xml"); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v", err)
	}
	p.noNumberInAddresses(t)
}

func TestProxySettings(t *testing.T) {
	good := documents.Settings{Connection: wire.Connection{BaseURL: "https://locator.example"}, Custodians: []string{"X9C01"}, HolderURL: "https://holder.example/records",
		ProxyURL: "https://proxy.example", FromASID: ourASID, ToASID: holdersASID, Issuer: "https://record.example"}
	if src, err := documents.New(good); err != nil {
		t.Fatal(err)
	} else {
		for address, opens := range map[string]bool{"ssp://holder.example/records/1": true, "ssp://proxy.example/https%3A%2F%2Fholder.example%2Frecords%2F1": true,
			"https://proxy.example/https%3A%2F%2Fholder.example%2Frecords%2F1": true, "https://holder.example/records/1": true, "ssp://proxy.example/https%3A%2F%2Fother.example%2Frecords%2F1": false,
			"http://holder.example/records/1": false, "ssp://holder.example/other/1": false} {
			if src.Opens(address) != opens {
				t.Errorf("%s: opens %t, want %t", address, !opens, opens)
			}
		}
		src.Close()
	}
	for field, change := range map[string]func(*documents.Settings){
		"fromASID":         func(s *documents.Settings) { s.FromASID = "12345" },
		"toASID":           func(s *documents.Settings) { s.ToASID = "20000000000x" },
		"issuer":           func(s *documents.Settings) { s.Issuer = "record" },
		"holderURL":        func(s *documents.Settings) { s.HolderURL = "" },
		"holderBearerFile": func(s *documents.Settings) { s.HolderBearerFile = "token" },
		"proxyURL":         func(s *documents.Settings) { s.ProxyURL = "http://proxy.example" },
		"holderCaFile":     func(s *documents.Settings) { s.HolderCAFile = "none.pem" },
	} {
		s := good
		change(&s)
		var e *wire.SettingError
		if _, err := documents.New(s); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	s := good
	s.ProxyURL = ""
	var e *wire.SettingError
	if _, err := documents.New(s); !errors.As(err, &e) || e.Field != "proxyURL" {
		t.Errorf("settings of a proxy that is not there: got %v", err)
	}
}

// The simulated proxy is as strict as the real one: what the tests above rest on.
func TestTheProxyIsStrict(t *testing.T) {
	p, change := proxied(t, func(s string) string { return s })
	var s documents.Settings
	change(&s)
	inner := url.QueryEscape(p.holder + "/documents/report.xml")
	for name, path := range map[string]string{"not encoded": "/" + p.holder + "/documents/report.xml", "half encoded": "/" + url.PathEscape(p.holder+"/documents/report.xml"), "no headers": "/" + inner} {
		res, err := http.Get(s.ProxyURL + path) //nolint:noctx // of this process
		if err != nil {
			t.Fatal("no answer")
		}
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
		_ = res.Body.Close()
	}
}
