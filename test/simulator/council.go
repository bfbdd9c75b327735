package simulator

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// CouncilConfig is one council's case-management system and what it holds.
type CouncilConfig struct {
	Dialect  Dialect
	PageSize int                          // at most so many items a page; 0 is 50
	People   map[string][]json.RawMessage // by NHS number: a whole record in FHIR R4, written in the council's own words where they can carry it
	ClientID string                       // who may ask for tokens; "" is broker
	Secret   string                       // "" is secret
	Lifetime time.Duration                // of tokens; 0 is five minutes
}

// Dialect is a council's way to name things.
type Dialect string

// The dialects.
const (
	Westmarch Dialect = "westmarch" // camelCase, dd/mm/yyyy, pages by address
	Northmoor Dialect = "northmoor" // other words, ISO dates, pages by number
)

// CouncilFaults are those of a council.
func CouncilFaults() []Fault { return CustodianFaults() }

// Council is a case-management system behind OAuth 2.0 client credentials. Under /api: a search for a person by POST, and the collections of the
// dialect, paged. Beside it, at the root: POST /oauth2/token, POST /_sim/fault and GET /_sim/requests.
type Council struct {
	cfg     CouncilConfig
	words   dialect
	control *control
	people  map[string]*client // by NHS number
	byID    map[string]*client
	left    map[string]int
	seal    *seal

	mu     sync.Mutex
	tokens map[string]time.Time
	issued int
}

var _ http.Handler = (*Council)(nil)

// client is a person as the council keeps them.
type client struct {
	id, number string
	person     map[string]any
	items      map[string][]map[string]any // by collection, in the dialect's words
}

// NewCouncil writes the people in the dialect's words. The error names the first record that cannot be served, without its content.
func NewCouncil(cfg CouncilConfig) (*Council, error) {
	words, known := dialects[cfg.Dialect]
	if !known {
		return nil, errors.New("simulator: no such dialect of a council")
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = 50
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "broker"
	}
	if cfg.Secret == "" {
		cfg.Secret = "secret"
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 5 * time.Minute
	}
	c := &Council{cfg: cfg, words: words, control: newControl(CouncilFaults()), people: map[string]*client{}, byID: map[string]*client{}, left: map[string]int{}, seal: newSeal(),
		tokens: map[string]time.Time{}}
	for n, number := range slices.Sorted(maps.Keys(cfg.People)) {
		p, err := c.written(number, "C"+strconv.Itoa(70001+n), cfg.People[number])
		if err != nil {
			return nil, fmt.Errorf("simulator: council %s, record %d of %d: %w", cfg.Dialect, n+1, len(cfg.People), err)
		}
		c.people[number], c.byID[p.id] = p, p
	}
	return c, nil
}

// LeftOut counts, by type, the resources of People that the dialect could not carry.
func (c *Council) LeftOut() map[string]int { return maps.Clone(c.left) }

// SetFault does what POST /_sim/fault does.
func (c *Council) SetFault(spec FaultSpec) error { return c.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (c *Council) Requests() Counts { return c.control.requests() }

// Log returns the first 10,000 requests, as "METHOD address".
func (c *Council) Log() []string { return c.control.lines() }

// Issued returns how many tokens were given out.
func (c *Council) Issued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued
}

// ServeHTTP implements http.Handler.
func (c *Council) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.control.serve(w, r) {
		return
	}
	if r.URL.Path == "/oauth2/token" {
		c.control.otherRequest(r)
		c.token(w, r)
		return
	}
	path, under := strings.CutPrefix(r.URL.Path, "/api/")
	if !under || r.Method != http.MethodGet && r.Method != http.MethodPost {
		c.control.otherRequest(r)
		plainJSON(w, http.StatusMethodNotAllowed, c.problem("METHOD"))
		return
	}
	spec := c.control.recordRequest(r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		plainJSON(w, http.StatusRequestEntityTooLarge, c.problem("TOO_LONG"))
		return
	}
	if c.befall(w, r, spec) {
		return
	}
	if !c.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		plainJSON(w, http.StatusUnauthorized, c.problem("TOKEN"))
		return
	}
	if r.Header.Get("X-Request-ID") == "" || !strings.Contains(r.Header.Get("Accept"), "application/json") {
		plainJSON(w, http.StatusNotAcceptable, c.problem("HEADER"))
		return
	}
	c.answer(w, r, spec, path, body)
}

// token gives out an access token (RFC 6749 section 4.4): the client by HTTP Basic, the grant in a form.
func (c *Council) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code string) { plainJSON(w, status, map[string]any{"error": code}) }
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	form, bad := url.ParseQuery(string(body))
	id, key, has := r.BasicAuth()
	switch {
	case r.Method != http.MethodPost || kind != "application/x-www-form-urlencoded" || err != nil || bad != nil:
		refuse(http.StatusBadRequest, "invalid_request")
	case !has || id != c.cfg.ClientID || subtle.ConstantTimeCompare([]byte(key), []byte(c.cfg.Secret)) != 1:
		w.Header().Set("WWW-Authenticate", "Basic")
		refuse(http.StatusUnauthorized, "invalid_client")
	case form.Get("grant_type") != "client_credentials":
		refuse(http.StatusBadRequest, "unsupported_grant_type")
	default:
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		token := hex.EncodeToString(b[:])
		c.mu.Lock()
		c.tokens[token] = time.Now().Add(c.cfg.Lifetime)
		c.issued++
		c.mu.Unlock()
		plainJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(c.cfg.Lifetime.Seconds())})
	}
}

func (c *Council) authorised(r *http.Request) bool {
	token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	defer c.mu.Unlock()
	return is && time.Now().Before(c.tokens[token])
}

func plainJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client left
}

// problem is an error answer in the dialect's form.
func (c *Council) problem(code string) map[string]any {
	out := map[string]any{}
	put(out, c.words.code, code)
	return out
}

// befall does what a fault does instead of an answer, and reports whether the request is dealt with.
func (c *Council) befall(w http.ResponseWriter, r *http.Request, spec FaultSpec) bool {
	switch spec.Fault {
	case FaultDown:
		reset(w)
	case FaultHang:
		return !pause(r, spec.wait(0))
	case FaultSlow:
		return !pause(r, spec.wait(defaultSlow))
	case FaultError500:
		plainJSON(w, http.StatusInternalServerError, c.problem("ERROR"))
	case FaultThrottle429:
		w.Header().Set("Retry-After", retryAfterSeconds)
		plainJSON(w, http.StatusTooManyRequests, c.problem("WAIT"))
	case FaultUnauthorised:
		plainJSON(w, http.StatusUnauthorized, c.problem("TOKEN"))
	case FaultNoConsent:
		plainJSON(w, http.StatusForbidden, c.problem("NO_CONSENT"))
	case FaultNoRecord:
		plainJSON(w, http.StatusNotFound, c.problem("NOT_FOUND"))
	case FaultGarbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("<!doctype html>\x00{\"items\": [}")) // the client left
	case FaultGzipBomb:
		bomb(w)
	default:
		return false
	}
	return true
}

// answer serves the search and the collections.
func (c *Council) answer(w http.ResponseWriter, r *http.Request, spec FaultSpec, path string, body []byte) {
	if path == c.words.search {
		form, err := url.ParseQuery(string(body))
		if r.Method != http.MethodPost || err != nil || len(form[c.words.parameter]) != 1 {
			plainJSON(w, http.StatusBadRequest, c.problem("PARAMETER"))
			return
		}
		number := form.Get(c.words.parameter)
		p := c.people[number]
		if spec.Fault == FaultWrongPatient {
			p = c.stranger(number)
		}
		list := []map[string]any{}
		if p != nil {
			list = append(list, p.person)
		}
		c.page(w, r, spec, path, list, 0, nil)
		return
	}
	parts := strings.Split(path, "/")
	if len(parts) != 3 || parts[0] != c.words.root || r.Method != http.MethodGet {
		plainJSON(w, http.StatusNotFound, c.problem("PATH"))
		return
	}
	p := c.byID[parts[1]]
	name := c.words.collectionAt(parts[2])
	if p == nil || name == "" {
		plainJSON(w, http.StatusNotFound, c.problem("PATH"))
		return
	}
	offset := 0
	if page := r.URL.Query().Get("page"); page != "" {
		n, err := strconv.Atoi(page)
		if err != nil || n < 2 {
			plainJSON(w, http.StatusBadRequest, c.problem("PAGE"))
			return
		}
		offset = (n - 1) * c.cfg.PageSize
	}
	list := p.items[name]
	if spec.Fault == FaultWrongPatient {
		list = c.strangersItems(p, name)
	}
	c.page(w, r, spec, path, list, offset, p)
}

// page sends one page of a list, in the way that the fault makes of it.
func (c *Council) page(w http.ResponseWriter, r *http.Request, spec FaultSpec, path string, list []map[string]any, offset int, p *client) {
	from := min(offset, len(list))
	to := min(from+c.cfg.PageSize, len(list))
	here := append([]map[string]any{}, list[from:to]...)
	number := offset/c.cfg.PageSize + 1
	next := 0
	if to < len(list) {
		next = number + 1
	}
	address := ""
	switch spec.Fault {
	case FaultPageLoop:
		next = max(number, 2)
	case FaultPageElsewhere:
		address = elsewhere
	case FaultMixedPatients:
		if p != nil {
			here = append(here, c.strangersItems(p, c.words.collectionAt(path[strings.LastIndexByte(path, '/')+1:]))...)
		}
	}
	out := map[string]any{}
	put(out, c.words.items, here)
	switch {
	case address != "":
		put(out, c.words.next, address)
	case next > 0 && c.words.numbered:
		put(out, c.words.next, next)
	case next > 0:
		put(out, c.words.next, "http://"+r.Host+"/api/"+path+"?page="+strconv.Itoa(next))
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and lists
	}
	c.sendPage(w, r, spec, text)
}

// sendPage sends text, spoiled as the fault has it.
func (c *Council) sendPage(w http.ResponseWriter, r *http.Request, spec FaultSpec, text []byte) {
	head := func(extra string) []byte { return append([]byte("{"+extra), text[1:]...) }
	switch spec.Fault {
	case FaultDuplicateKeys:
		text = head(`"twice":1,"twice":2,`)
	case FaultBadUTF8:
		text = head("\"language\":\"en\xff\",")
	case FaultDeep:
		text = head(`"deep":` + strings.Repeat("[", deepLevels) + strings.Repeat("]", deepLevels) + ",")
	case FaultTruncated:
		text = text[:len(text)/2]
	case FaultHuge:
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte(`{"padding":["`))
		piece := []byte(strings.Repeat("Nothing to report. ", 4096) + `","`)
		for sent := 0; sent < hugeBytes && err == nil && r.Context().Err() == nil; sent += len(piece) {
			_, err = w.Write(piece)
		}
		_, _ = w.Write(append([]byte(`"],`), text[1:]...)) // the client left
		return
	case FaultTrickle:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		flush := http.NewResponseController(w)
		for i := range text {
			if _, err := w.Write(text[i : i+1]); err != nil || flush.Flush() != nil || !pause(r, spec.wait(defaultTrickle)) {
				return
			}
		}
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // the client left
}

// stranger is somebody whose number is not the one given.
func (c *Council) stranger(not string) *client {
	person := map[string]any{}
	put(person, c.words.person["id"], "C99999")
	put(person, c.words.person["number"], strangersNumber(not))
	put(person, c.words.person["family"], "Strangeways")
	return &client{id: "C99999", person: person}
}

// strangersItems are copies of a person's items, or one where they have none, that name somebody else.
func (c *Council) strangersItems(p *client, name string) []map[string]any {
	words := c.words.collections[name]
	item := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(words.keys)) {
		if !strings.Contains(words.keys[key], "*") {
			put(item, words.keys[key], StrangerTag)
		}
	}
	put(item, words.keys["person"], "C99999")
	return []map[string]any{item}
}

// put sets a dotted path in a map.
func put(m map[string]any, path string, v any) {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			m[name] = v
			return
		}
		inner, ok := m[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[name] = inner
		}
		m, path = inner, rest
	}
}
