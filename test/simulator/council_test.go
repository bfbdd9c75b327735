package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func councilServer(t *testing.T, d simulator.Dialect) (*simulator.Council, string) {
	t.Helper()
	c, err := simulator.NewCouncil(simulator.CouncilConfig{Dialect: d, PageSize: 2, Lifetime: time.Minute, People: map[string][]json.RawMessage{engineMan: {
		json.RawMessage(`{"resourceType":"Patient","id":"p1","name":[{"family":"O'Neill","given":["Ann"]}],"birthDate":"1950-01-02"}`),
		json.RawMessage(`{"resourceType":"Flag","id":"f1","status":"active","code":{"text":"Dog"},"period":{"start":"2024-03-01"}}`),
		json.RawMessage(`{"resourceType":"Flag","id":"f2","status":"inactive","code":{"text":"Cat"}}`),
		json.RawMessage(`{"resourceType":"Flag","id":"f3","status":"active","code":{"text":"Key safe"}}`),
		json.RawMessage(`{"resourceType":"Goal","id":"g1"}`),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return c, s.URL
}

// call asks, with a token unless it is "", and returns status and body.
func call(t *testing.T, method, address, token string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Request-ID", "1")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if id, key, basic := strings.Cut(token, ":"); basic {
		req.SetBasicAuth(id, key)
	} else if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal("the exchange failed")
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal("the answer ends early")
	}
	return res.StatusCode, string(body)
}

var grant = url.Values{"grant_type": {"client_credentials"}}

func tokenOf(t *testing.T, at string) string {
	t.Helper()
	status, body := call(t, http.MethodPost, at+"/oauth2/token", "broker:secret", grant)
	var out struct {
		Token string `json:"access_token"`
	}
	if status != 200 || json.Unmarshal([]byte(body), &out) != nil || out.Token == "" {
		t.Fatalf("no token: %d", status)
	}
	return out.Token
}

// Both dialects serve the same things under other names, in pages.
func TestCouncilDialects(t *testing.T) {
	for _, d := range []struct {
		dialect                   simulator.Dialect
		find, parameter, alerts   string
		person, first, next, last string
	}{
		{simulator.Westmarch, "persons/search", "nhsNumber", "persons/C70001/alerts", `"surname":"O'Neill"`, `"raisedOn":"01/03/2024"`, `alerts?page=2"`, `"description":"Key safe"`},
		{simulator.Northmoor, "clients/find", "NHSNo", "clients/C70001/warnings", `"Last":"O'Neill"`, `"Raised":"2024-03-01"`, `"NextPage":2`, `"Text":"Key safe"`},
	} {
		t.Run(string(d.dialect), func(t *testing.T) {
			c, at := councilServer(t, d.dialect)
			token := tokenOf(t, at)
			if status, body := call(t, http.MethodPost, at+"/api/"+d.find, token, url.Values{d.parameter: {engineMan}}); status != 200 || !strings.Contains(body, d.person) {
				t.Errorf("the person: %d", status)
			}
			if status, body := call(t, http.MethodGet, at+"/api/"+d.alerts, token, nil); status != 200 || !strings.Contains(body, d.first) || !strings.Contains(body, d.next) {
				t.Errorf("the first page: %d %s", status, body)
			}
			if status, body := call(t, http.MethodGet, at+"/api/"+d.alerts+"?page=2", token, nil); status != 200 || !strings.Contains(body, d.last) || strings.Contains(body, "age=3") {
				t.Errorf("the last page: %d %s", status, body)
			}
			if c.LeftOut()["Goal"] != 1 || c.Requests() != (simulator.Counts{Record: 3, Other: 1}) {
				t.Errorf("left out %v, counted %+v", c.LeftOut(), c.Requests())
			}
		})
	}
	if _, err := simulator.NewCouncil(simulator.CouncilConfig{Dialect: "x"}); err == nil {
		t.Error("a dialect that is none is taken")
	}
}

// What a strict API refuses.
func TestCouncilRefuses(t *testing.T) {
	_, at := councilServer(t, simulator.Westmarch)
	token := tokenOf(t, at)
	for name, c := range map[string]struct {
		method, path, token string
		form                url.Values
		want                int
	}{
		"no token":                {http.MethodGet, "/api/persons/C70001/alerts", "", nil, 401},
		"another token":           {http.MethodGet, "/api/persons/C70001/alerts", "abc", nil, 401},
		"another collection":      {http.MethodGet, "/api/persons/C70001/dogs", token, nil, 404},
		"another person":          {http.MethodGet, "/api/persons/C1/alerts", token, nil, 404},
		"a search by GET":         {http.MethodGet, "/api/persons/search?nhsNumber=" + engineMan, token, nil, 400},
		"a search without number": {http.MethodPost, "/api/persons/search", token, url.Values{}, 400},
		"a page that is none":     {http.MethodGet, "/api/persons/C70001/alerts?page=x", token, nil, 400},
		"a write":                 {http.MethodDelete, "/api/persons/C70001/alerts", token, nil, 405},
		"another secret":          {http.MethodPost, "/oauth2/token", "broker:x", grant, 401},
		"another grant":           {http.MethodPost, "/oauth2/token", "broker:secret", url.Values{"grant_type": {"password"}}, 400},
		"a token by GET":          {http.MethodGet, "/oauth2/token", "broker:secret", nil, 400},
	} {
		if status, _ := call(t, c.method, at+c.path, c.token, c.form); status != c.want {
			t.Errorf("%s: got %d, want %d", name, status, c.want)
		}
	}
}
