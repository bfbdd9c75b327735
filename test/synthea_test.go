package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

func TestMain(m *testing.M) { os.Exit(neighbourhood.Main(m)) }

// TestSynthea asks the built demo for each of the Synthea people, through all three faces, and holds the answers against what the custodians
// serve: conservation (M-11), the closed list of changes (M-3), references (M-6), what is authored (M-7, M-10), order (M-8), one answer
// whatever the face (design 8). Counts are logged, people are not.
func TestSynthea(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the whole demo")
	}
	dir := neighbourhood.Data(t, "synthea-r4")
	n := neighbourhood.Start(t, neighbourhood.Options{Flags: []string{"-synthea", dir}})
	t.Logf("ready %v after the start", n.Ready.Round(time.Millisecond))
	m := readManifest(t, n.State)
	if len(m.People) != 11 || len(n.People) != len(m.People) {
		t.Fatalf("the manifest has %d people and the ready file %d, want 11", len(m.People), len(n.People))
	}
	conn := n.Dial(t)
	token := n.Token(t, "ed-doctor")
	var sum counts
	people := m.People
	if underRace {
		people = people[:3]
	}
	for i, p := range people {
		t.Run(fmt.Sprintf("person %d", i+1), func(t *testing.T) {
			if !slices.ContainsFunc(n.People, func(x neighbourhood.Patient) bool { return x.NHSNumber == p.NHSNumber && x.Bundle == p.Bundle }) {
				t.Error("the ready file does not name this person and the file it came from")
			}
			c := onePerson(t, n, conn, token, dir, p)
			t.Log(c)
			sum.add(c)
		})
	}
	t.Logf("all: %v", sum)
	if sum.given == 0 || sum.resolved == 0 || sum.numbers == 0 {
		t.Error("nothing was compared")
	}
}

// counts is what one comparison saw.
type counts struct {
	input, leftOut, given, custodians, matches, authored, resolved, contained, dangling, hashed, numbers, bytes int
}

func (c counts) String() string {
	return fmt.Sprintf("%d resources in the source, %d left out; %d given to %d custodians, each shown once; %d matches, %d authored; "+
		"references: %d resolved, %d within a resource, %d dangling in the source too; %d ids hashed; %d numbers, %d bytes compared",
		c.input, c.leftOut, c.given, c.custodians, c.matches, c.authored, c.resolved, c.contained, c.dangling, c.hashed, c.numbers, c.bytes)
}

func (c *counts) add(d counts) {
	c.input += d.input
	c.leftOut += d.leftOut
	c.given += d.given
	c.custodians += d.custodians
	c.matches += d.matches
	c.authored += d.authored
	c.resolved += d.resolved
	c.contained += d.contained
	c.dangling += d.dangling
	c.hashed += d.hashed
	c.numbers += d.numbers
	c.bytes += d.bytes
}

func onePerson(t *testing.T, n *neighbourhood.Neighbourhood, conn grpc.ClientConnInterface, token, dir string, p manifestPerson) counts {
	c := counts{input: p.Input, custodians: len(p.Custodians)}
	holdings := map[string]holding{}
	clinical := map[string]int{} // resources of the source, by where they are
	for key := range p.Custodians {
		holdings[key] = served(t, n, key, p)
		c.given += len(holdings[key].byKey)
		for k := range holdings[key].byKey {
			if k != holdings[key].patient && !slices.Contains(supportingTypes, strings.Split(k, "/")[0]) {
				clinical[k]++
			}
		}
	}
	for k, times := range clinical {
		if times != 1 {
			t.Errorf("a %s stands at %d custodians, want 1", strings.Split(k, "/")[0], times)
		}
	}
	fromFile(t, dir+"/"+p.Bundle, p, holdings)
	for _, left := range p.LeftOut {
		c.leftOut += left
	}

	rest := everythingByNumber(t, n, token, p.NHSNumber)
	whole := getRecord(t, conn, token, p.NHSNumber)
	stream := streamRecord(t, conn, token, p.NHSNumber)

	a := readAnswer(t, rest, n.REST+"/fhir")
	c.matches = a.total
	bound := a.bind(t, holdings, &c)
	dangling := a.compare(t, holdings, bound, &c)
	a.authored(t, len(n.Sources), holdings, bound, dangling, &c)
	a.inOrder(t, holdings, bound)
	a.references(t, holdings, bound)

	// The other two faces say the same.
	b := readAnswer(t, whole.GetBundle(), n.REST+"/fhir")
	if !slices.Equal(a.urls(), b.urls()) {
		t.Error("REST and GetRecord differ in which entries there are, or in their order")
	}
	if a.total != b.total || a.total != int(stream.summary.GetTotal()) {
		t.Error("the faces differ in total")
	}
	if !slices.Equal(b.urls(), stream.order) {
		t.Error("the order in the stream's summary is not that of GetRecord's Bundle")
	}
	if len(stream.entries) != len(a.entries) {
		t.Errorf("the stream has %d entries, REST %d", len(stream.entries), len(a.entries))
	}
	for i, e := range a.entries {
		in, streamed := b.byURL[e.url], stream.entries[e.url]
		at, isBound := bound[e.url]
		switch {
		case in == nil || streamed == nil:
			t.Errorf("entry %d, a %s, is not in every face", i, e.typ)
		case in.mode != e.mode || modes[streamed.GetMode()] != e.mode || streamed.GetType() != e.typ || streamed.GetId() != e.id:
			t.Errorf("entry %d, a %s, has another mode, type or id in another face", i, e.typ)
		case streamed.GetCustodian() != at.key:
			t.Errorf("entry %d, a %s, is another custodian's in the stream", i, e.typ)
		case isBound && (in.resource.raw != e.resource.raw || string(streamed.GetResource()) != e.resource.raw):
			t.Errorf("entry %d, a %s, has other bytes in another face", i, e.typ)
		case isBound && e.mode == "match":
			streamedTime(t, whenOf(t, holdings[at.key].byKey[at.resource]), streamed)
		}
	}
	for _, list := range [][]*mycarerecordv1.CustodianStatus{whole.GetCustodians(), stream.summary.GetCustodians()} {
		states(t, list, holdings, len(n.Sources))
	}
	return c
}

var modes = map[mycarerecordv1.SearchMode]string{
	mycarerecordv1.SearchMode_SEARCH_MODE_MATCH:   "match",
	mycarerecordv1.SearchMode_SEARCH_MODE_INCLUDE: "include",
	mycarerecordv1.SearchMode_SEARCH_MODE_OUTCOME: "outcome",
}

// states holds the custodians' states against what they hold: all of it returned, or no record.
func states(t *testing.T, list []*mycarerecordv1.CustodianStatus, holdings map[string]holding, custodians int) {
	t.Helper()
	if len(list) != custodians {
		t.Errorf("%d custodians have a state, want %d", len(list), custodians)
	}
	for _, s := range list {
		h, holds := holdings[s.GetCustodian().GetKey()]
		want := mycarerecordv1.CustodianState_CUSTODIAN_STATE_NO_RECORD
		if holds {
			want = mycarerecordv1.CustodianState_CUSTODIAN_STATE_RETURNED
		}
		if s.GetState() != want || int(s.GetShown()) != len(h.byKey) {
			t.Errorf("%s is %v with %d shown, want %v with %d", s.GetCustodian().GetKey(), s.GetState(), s.GetShown(), want, len(h.byKey))
		}
	}
}

func streamedTime(t *testing.T, want when, e *mycarerecordv1.StreamEntry) {
	t.Helper()
	got := e.GetTime()
	same := (got != nil) == want.dated
	if same && got != nil {
		same = got.GetLo() != nil && got.GetLo().AsTime().Equal(want.lo) && (got.GetHi() == nil) == want.open &&
			(want.open || got.GetHi().AsTime().Equal(want.hi))
	}
	if !same {
		t.Errorf("a %s has another clinical time in the stream than its elements say", e.GetType())
	}
}

// answer is one searchset Bundle of ours.
type answer struct {
	base    string
	total   int
	entries []*shownEntry
	byURL   map[string]*shownEntry
}

type shownEntry struct {
	url, typ, id, mode string
	resource           *node
}

// readAnswer reads a Bundle and holds it to what FHIR R4 asks of any searchset (bdl-1 to bdl-8) and M-6 of ours.
func readAnswer(t *testing.T, text []byte, base string) *answer {
	t.Helper()
	doc, err := readJSON(text)
	if err != nil {
		t.Fatal("the answer is not JSON")
	}
	if doc.str("resourceType") != "Bundle" || doc.str("type") != "searchset" {
		t.Fatal("the answer is not a searchset Bundle")
	}
	a := &answer{base: base, byURL: map[string]*shownEntry{}}
	matches := 0
	for i, e := range doc.list("entry") {
		r := e.get("resource")
		if r == nil {
			t.Fatalf("entry %d has no resource", i)
		}
		s := &shownEntry{e.str("fullUrl"), r.str("resourceType"), r.str("id"), e.str("search", "mode"), r}
		switch {
		case s.url != base+"/"+s.typ+"/"+s.id:
			t.Errorf("entry %d, a %s: fullUrl is not our base, type and id", i, s.typ)
		case !legalID.MatchString(s.id):
			t.Errorf("entry %d, a %s: the id is not one of FHIR R4", i, s.typ)
		case a.byURL[s.url] != nil:
			t.Errorf("entry %d, a %s: the fullUrl stands twice", i, s.typ)
		case s.mode != "match" && s.mode != "include" && s.mode != "outcome":
			t.Errorf("entry %d, a %s: no search.mode", i, s.typ)
		}
		if s.mode == "match" {
			matches++
		}
		a.entries = append(a.entries, s)
		a.byURL[s.url] = s
	}
	total := doc.get("total")
	if total == nil || json.Unmarshal([]byte(total.raw), &a.total) != nil || a.total != matches {
		t.Errorf("total is %d, and there are %d matches", a.total, matches)
	}
	return a
}

var legalID = regexp.MustCompile(`^[A-Za-z0-9\-.]{1,64}$`)

func (a *answer) urls() []string {
	var out []string
	for _, e := range a.entries {
		out = append(out, e.url)
	}
	return out
}

// source is where an entry of an answer came from.
type source struct {
	key      string // custodian
	resource string // Type/id there
}

var hashedID = regexp.MustCompile(`^[0-9a-f]{32}$`)

var digits = regexp.MustCompile(`[0-9]+`)

// numberWithin reports whether a run of exactly ten digits passes the check of NHS numbers: such an id may not be shown (M-5).
func numberWithin(s string) bool {
	for _, run := range digits.FindAllString(s, -1) {
		sum := 0
		for i, c := range run {
			if i < 9 {
				sum += int(c-'0') * (10 - i)
			}
		}
		if len(run) == 10 && (11-sum%11)%11 == int(run[9]-'0') && strings.Trim(run, run[:1]) != "" {
			return true
		}
	}
	return false
}

// bind finds for every entry that a custodian gave which of its resources it is: by the id, which tells it (M-5), or, where the id may not
// tell, by what it says. Every resource given must be found exactly once.
func (a *answer) bind(t *testing.T, holdings map[string]holding, c *counts) map[string]source {
	t.Helper()
	bound := map[string]source{}
	taken := map[source]bool{}
	var hashed []*shownEntry
	for _, e := range a.entries {
		key, id, _ := strings.Cut(e.id, "-")
		h, ok := holdings[key]
		if !ok {
			continue
		}
		s := source{key, e.typ + "/" + id}
		switch {
		case h.byKey[s.resource] == nil && hashedID.MatchString(id):
			hashed = append(hashed, e)
			continue
		case h.byKey[s.resource] == nil:
			continue
		case numberWithin(id):
			t.Errorf("the id of a %s of %s holds what may be an NHS number", e.typ, key)
		}
		bound[e.url], taken[s] = s, true
	}
	byContent := map[string][]source{}
	for key, h := range holdings {
		for k, r := range h.byKey {
			s := source{key, k}
			if taken[s] {
				continue
			}
			typ, id, _ := strings.Cut(k, "/")
			if !numberWithin(id) && legalID.MatchString(key+"-"+id) {
				t.Errorf("a %s that %s gave is not in the answer", typ, key)
				continue
			}
			content := key + fingerprint(r, func(ref string) string {
				if target, held := h.own(ref); held && taken[source{key, target}] {
					return target
				} else if held {
					return "hashed"
				}
				return ref
			})
			byContent[content] = append(byContent[content], s)
		}
	}
	for _, e := range hashed {
		key, _, _ := strings.Cut(e.id, "-")
		content := key + fingerprint(e.resource, func(ref string) string {
			url := ref
			if !strings.Contains(ref, ":") {
				url = a.base + "/" + ref
			}
			if s, ok := bound[url]; ok && taken[s] {
				return s.resource
			} else if _, here := a.byURL[url]; here {
				return "hashed"
			}
			return ref
		})
		list := byContent[content]
		if len(list) == 0 {
			continue // authored, or found to be nobody's below
		}
		bound[e.url], byContent[content] = list[0], list[1:]
		c.hashed++
	}
	for _, list := range byContent {
		for _, s := range list {
			t.Errorf("a %s that %s gave is not in the answer", strings.Split(s.resource, "/")[0], s.key)
		}
	}
	if len(bound) != c.given {
		t.Errorf("%d of the %d resources given are in the answer", len(bound), c.given)
	}
	return bound
}

// compare holds every entry against what it was given as (M-3), and returns how many references dangle at each custodian.
func (a *answer) compare(t *testing.T, holdings map[string]holding, bound map[string]source, c *counts) map[string]int {
	t.Helper()
	dangling := map[string]int{}
	newIDs := map[string]map[string]string{}
	for key := range holdings {
		newIDs[key] = map[string]string{}
	}
	for url, s := range bound {
		newIDs[s.key][s.resource] = strings.TrimPrefix(url, a.base+"/")
	}
	seen := map[string]int{}
	for key, h := range holdings {
		cmp := shownAs{given: h, newID: newIDs[key], base: a.base}
		for _, e := range a.entries {
			if s := bound[e.url]; s.key == key {
				cmp.resource(h.byKey[s.resource], e.resource)
			}
		}
		for _, d := range cmp.difference {
			seen[key+": "+d]++
		}
		c.resolved += cmp.resolved
		c.contained += cmp.contained
		c.dangling += cmp.dangling
		dangling[key] = cmp.dangling
		c.numbers += cmp.numbers
		c.bytes += cmp.bytes
	}
	for d, times := range seen {
		t.Errorf("%d times: %s", times, d)
	}
	return dangling
}

// authored holds what no custodian gave to what we may author: one Patient (M-7), an outcome for each custodian that did not return all,
// a Provenance for each that returned something (M-10), groups (M-9).
func (a *answer) authored(t *testing.T, custodians int, holdings map[string]holding, bound map[string]source, dangling map[string]int, c *counts) {
	t.Helper()
	seen := map[string]int{}
	for i, e := range a.entries {
		if _, is := bound[e.url]; is {
			if want := map[bool]string{true: "include", false: "match"}[e.typ == "Patient" || slices.Contains(supportingTypes, e.typ)]; e.mode != want && e.typ != "Provenance" && e.typ != "Device" {
				t.Errorf("entry %d, a %s, has mode %s", i, e.typ, e.mode)
			}
			continue
		}
		c.authored++
		kind := e.typ + " " + e.mode
		seen[kind]++
		switch kind {
		case "Patient match":
			a.ourPatient(t, e, holdings, bound)
		case "Provenance include":
			a.ourProvenance(t, e, holdings, bound, dangling)
		case "OperationOutcome outcome", "Linkage include":
		default:
			t.Errorf("entry %d, a %s of mode %s: no custodian gave it, and we do not author such", i, e.typ, e.mode)
		}
	}
	if seen["Patient match"] != 1 {
		t.Errorf("%d Patients of ours, want 1", seen["Patient match"])
	}
	if want := custodians - len(holdings); seen["OperationOutcome outcome"] != want {
		t.Errorf("%d OperationOutcomes, want one for each of %d custodians that did not return all", seen["OperationOutcome outcome"], want)
	}
	if seen["Provenance include"] != len(holdings) {
		t.Errorf("%d Provenances of ours, want one for each of %d custodians", seen["Provenance include"], len(holdings))
	}
}

func (a *answer) ourPatient(t *testing.T, e *shownEntry, holdings map[string]holding, bound map[string]source) {
	t.Helper()
	linked := map[string]bool{}
	for _, l := range e.resource.list("link") {
		s, ok := bound[a.absolute(l.str("other", "reference"))]
		if !ok || s.resource != holdings[s.key].patient {
			t.Error("our Patient links to what is no custodian's Patient")
		}
		linked[s.key] = true
	}
	if len(linked) != len(holdings) || len(e.resource.list("link")) != len(holdings) {
		t.Errorf("our Patient links to %d custodians' Patients, want %d", len(linked), len(holdings))
	}
}

// ourProvenance holds what we say of a custodian's part against what the custodian gave: whose it is, how much, how many references dangle.
func (a *answer) ourProvenance(t *testing.T, e *shownEntry, holdings map[string]holding, bound map[string]source, dangling map[string]int) {
	t.Helper()
	from, ok := bound[a.absolute(e.resource.str("target", "reference"))]
	if !ok || from.resource != holdings[from.key].patient {
		t.Error("the target of a Provenance of ours is no custodian's Patient")
		return
	}
	said := map[string]string{}
	for _, x := range e.resource.list("extension", "extension") {
		if v := x.get("valueUnsignedInt"); v != nil {
			said[x.str("url")] = v.raw
		}
	}
	if said["shown"] != strconv.Itoa(len(holdings[from.key].byKey)) || said["dangling"] != strconv.Itoa(dangling[from.key]) {
		t.Errorf("the Provenance of %s does not count what it shows, or what dangles", from.key)
	}
}

func (a *answer) absolute(reference string) string {
	if strings.Contains(reference, ":") {
		return reference
	}
	return a.base + "/" + reference
}

// references holds M-6: every reference in the answer leads to an entry of it that the same custodian gave, or within its own resource, or
// was dangling at the custodian, which compare has counted.
func (a *answer) references(t *testing.T, holdings map[string]holding, bound map[string]source) {
	t.Helper()
	wrong := map[string]int{}
	for _, e := range a.entries {
		e.resource.walk(func(_ *node, key string, v *node) {
			if key != "reference" || v.kind != '"' {
				return
			}
			if inside, is := strings.CutPrefix(v.text, "#"); is {
				if inside != "" && !slices.ContainsFunc(e.resource.list("contained"), func(r *node) bool { return r.str("id") == inside }) {
					wrong[e.typ+" to a contained resource that it does not contain"]++
				}
				return
			}
			target, here := a.byURL[a.absolute(v.text)]
			from, given := bound[e.url]
			switch {
			case here && given && bound[target.url].key != from.key:
				wrong[e.typ+" of "+from.key+" to what another custodian gave"]++
			case here:
			case !given:
				wrong[e.typ+" that we author to nothing"]++
			default:
				if _, held := holdings[from.key].own(v.text); held {
					wrong[e.typ+" of "+from.key+" past the answer to what the custodian gave"]++
				}
			}
		})
	}
	for what, times := range wrong {
		t.Errorf("%d references of a %s", times, what)
	}
}

// inOrder holds M-8.
func (a *answer) inOrder(t *testing.T, holdings map[string]holding, bound map[string]source) {
	t.Helper()
	var last place
	for i, e := range a.entries {
		s, given := bound[e.url]
		p := place{key: s.key, typ: e.typ, id: e.id}
		switch {
		case e.mode == "outcome":
			p.group = 0
		case !given && e.typ == "Patient":
			p.group = 1
		case given && e.typ == "Patient":
			p.group = 2
		case e.mode == "match":
			if p.when = whenOf(t, holdings[s.key].byKey[s.resource]); p.when.dated {
				p.group = 3
			} else {
				p.group = 4
			}
		case given:
			p.group = 5
		case e.typ == "Linkage":
			p.group = 6
		default:
			p.group = 7
		}
		if i > 0 && last.compare(p) > 0 {
			t.Errorf("entry %d, a %s of %s in group %d, stands after a %s of %s in group %d", i, p.typ, p.key, p.group, last.typ, last.key, last.group)
		}
		last = p
	}
}

// patience is how often a caller who asks too fast asks again.
const patience = 10

// everythingByNumber asks the FHIR gateway with the number in the body.
func everythingByNumber(t *testing.T, n *neighbourhood.Neighbourhood, token, number string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": nhsNumberSystem, "value": number}}}})
	if err != nil {
		t.Fatal("no body")
	}
	for range patience {
		res := n.Post(t, "/fhir/Patient/$everything", neighbourhood.Treating(token), body)
		switch res.Status {
		case http.StatusOK:
			return res.Body
		case http.StatusTooManyRequests:
			wait(t)
		default:
			t.Fatalf("$everything answers with %v", res)
		}
	}
	t.Fatal("too many requests, however long one waits")
	return nil
}

// wait lets a second go by, as Retry-After asks: the rate limit of the process under test is a real one.
func wait(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(time.Second):
	case <-t.Context().Done():
	}
}

func getRecord(t *testing.T, conn grpc.ClientConnInterface, token, number string) *mycarerecordv1.GetRecordResponse {
	t.Helper()
	for range patience {
		res, err := mycarerecordv1.NewRecordServiceClient(conn).GetRecord(neighbourhood.Bearing(t, token), &mycarerecordv1.GetRecordRequest{
			NhsNumber: number, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT,
			Permission:   &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_ASKED_YES},
			Relationship: &mycarerecordv1.Relationship{Kind: mycarerecordv1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION},
		})
		switch status.Code(err) {
		case grpccodes.OK:
			return res
		case grpccodes.ResourceExhausted:
			wait(t)
		default:
			t.Fatalf("GetRecord answers with code %v", status.Code(err))
		}
	}
	t.Fatal("GetRecord is refused as too much, however long one waits")
	return nil
}

// streamed is a whole stream, put together.
type streamed struct {
	entries map[string]*mycarerecordv1.StreamEntry // by full URL, their parts joined
	order   []string
	groups  int // of likely duplicates, in the summary
	summary *mycarerecordv1.StreamSummary
}

func streamRecord(t *testing.T, conn grpc.ClientConnInterface, token, number string) streamed {
	t.Helper()
	for range patience {
		s, err := mycarerecordv1.NewRecordServiceClient(conn).StreamRecord(neighbourhood.Bearing(t, token), &mycarerecordv1.StreamRecordRequest{
			NhsNumber: number, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT,
			Permission:   &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_ASKED_YES},
			Relationship: &mycarerecordv1.Relationship{Kind: mycarerecordv1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION},
		})
		if err != nil {
			t.Fatalf("StreamRecord does not start: code %v", status.Code(err))
		}
		out, err := readStream(t, s)
		switch {
		case err == nil:
			return out
		case status.Code(err) == grpccodes.ResourceExhausted:
			wait(t)
		default:
			t.Fatalf("the stream ends with code %v", status.Code(err))
		}
	}
	t.Fatal("StreamRecord is refused as too much, however long one waits")
	return streamed{}
}

// readStream reads a stream to its end and holds it to its grammar: plan, entries of a custodian and then the custodian, what we author, summary.
func readStream(t *testing.T, s grpc.ServerStreamingClient[mycarerecordv1.StreamRecordResponse]) (streamed, error) {
	t.Helper()
	out := streamed{entries: map[string]*mycarerecordv1.StreamEntry{}}
	closed := map[string]bool{}
	var part *mycarerecordv1.StreamEntry
	for i := 0; ; i++ {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return streamed{}, err
		}
		plan, entry, custodian, summary := msg.GetPlan(), msg.GetEntry(), msg.GetCustodian(), msg.GetSummary()
		switch {
		case (plan != nil) != (i == 0):
			t.Errorf("message %d: the plan comes first, and once", i)
		case out.summary != nil && out.summary.GetPart() == out.summary.GetParts():
			t.Errorf("message %d comes after the summary", i)
		case part != nil && entry == nil:
			t.Errorf("message %d stands between the parts of an entry", i)
		case entry != nil:
			if closed[entry.GetCustodian()] {
				t.Errorf("message %d is an entry of a custodian that was closed", i)
			}
			if part == nil {
				part = entry
			} else {
				part.Resource = append(bytes.Clone(part.GetResource()), entry.GetResource()...)
				if entry.GetFullUrl() != part.GetFullUrl() || entry.GetPart() != part.GetPart()+1 {
					t.Errorf("message %d is not the next part of the entry", i)
				}
				part.Part = entry.GetPart()
			}
			if part.GetPart() == part.GetParts() {
				if out.entries[part.GetFullUrl()] != nil {
					t.Errorf("message %d is an entry that came before", i)
				}
				out.entries[part.GetFullUrl()], part = part, nil
			}
		case custodian != nil:
			key := custodian.GetStatus().GetCustodian().GetKey()
			if closed[key] {
				t.Errorf("message %d closes %s once more", i, key)
			}
			closed[key] = true
		case summary != nil:
			out.order = append(out.order, summary.GetOrder()...)
			out.groups += len(summary.GetGroups())
			out.summary = summary
		}
	}
	if part != nil || out.summary == nil || out.summary.GetPart() != out.summary.GetParts() {
		t.Error("the stream ended without its summary, or within an entry")
	}
	if len(out.summary.GetReceipt().GetLeaf()) != 32 {
		t.Error("the stream has no receipt")
	}
	linkages := 0
	for _, e := range out.entries {
		if e.GetType() == "Linkage" {
			linkages++
		}
	}
	if linkages != out.groups {
		t.Errorf("the summary says %d groups, and there are %d Linkages", out.groups, linkages)
	}
	return out, nil
}
