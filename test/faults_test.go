package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Times of one answer. A custodian has three seconds, search and pages included; the rest is what a busy machine may add. Together they are
// less than the budget of a request, 8 s.
const (
	custodianTime = 3 * time.Second
	slack         = 3 * time.Second
)

// fault is one row of design section 9 with what section 6 makes of it.
type fault struct {
	name    simulator.Fault
	ms      int
	state   string
	reasons []string // one of these
	waits   bool     // the custodian takes all the time that it is given
	whole   bool     // all that it holds is shown
	alarms  bool     // an operator must look
	heavy   bool     // tens of MiB are sent, received and judged: one at a time, or a small machine runs out of the custodian's time first
}

// faults are the 21 of design section 9; slow stands twice, within the custodian's time and beyond. throttle429 is the last, because its
// Retry-After is kept.
var faults = []fault{
	{name: simulator.FaultNone, state: "returned", whole: true},
	{name: simulator.FaultSlow, ms: 20, state: "returned", whole: true},
	{name: simulator.FaultSlow, ms: 60_000, state: "timed-out", reasons: []string{"timeout"}, waits: true},
	{name: simulator.FaultHang, state: "timed-out", reasons: []string{"timeout"}, waits: true},
	{name: simulator.FaultTrickle, state: "timed-out", reasons: []string{"timeout"}, waits: true},
	{name: simulator.FaultDown, state: "unavailable", reasons: []string{"unreachable"}},
	{name: simulator.FaultError500, state: "failed", reasons: []string{"malformed"}},
	{name: simulator.FaultUnauthorised, state: "failed", reasons: []string{"unauthorised"}, alarms: true},
	{name: simulator.FaultGarbage, state: "failed", reasons: []string{"malformed"}},
	{name: simulator.FaultTruncated, state: "failed", reasons: []string{"malformed"}},
	{name: simulator.FaultHuge, state: "failed", reasons: []string{"too-much"}, heavy: true},
	{name: simulator.FaultGzipBomb, state: "failed", reasons: []string{"too-much"}, heavy: true},
	{name: simulator.FaultDeep, state: "failed", reasons: []string{"too-much", "malformed"}},
	{name: simulator.FaultDuplicateKeys, state: "failed", reasons: []string{"malformed"}},
	{name: simulator.FaultBadUTF8, state: "failed", reasons: []string{"malformed"}},
	{name: simulator.FaultWrongPatient, state: "failed", reasons: []string{"wrong-patient"}, alarms: true},
	{name: simulator.FaultMixedPatients, state: "returned-in-part", whole: true, alarms: true},
	{name: simulator.FaultPageLoop, state: "failed", reasons: []string{"malformed", "too-much"}},
	{name: simulator.FaultPageElsewhere, state: "failed", reasons: []string{"elsewhere"}},
	{name: simulator.FaultNoRecord, state: "no-record", reasons: []string{""}},
	{name: simulator.FaultNoConsent, state: "withheld", reasons: []string{"custodian"}},
	{name: simulator.FaultThrottle429, state: "unavailable", reasons: []string{"throttled"}},
}

// TestFaultList holds the table above against what the simulated custodians can do: a new fault without an expectation is found here.
func TestFaultList(t *testing.T) {
	known := map[simulator.Fault]bool{}
	for _, f := range faults {
		known[f.name] = true
	}
	if len(known) != 21 {
		t.Errorf("%d faults are tried, want the 21 of the design", len(known))
	}
	for _, f := range simulator.CustodianFaults() {
		if !known[f] {
			t.Errorf("nothing is expected of the fault %s", f)
		}
	}
}

// TestFaults lets each custodian in turn go wrong in each way, and asks the built daemon over its sockets: the answer comes within its budget,
// holds the other eight whole, and names the ninth with the state of design section 6. One bad custodian is never a 5xx (P8).
//
// Breakers and the memory of a Retry-After are of a process, so the nine are spread over several demos that run at once. Between two failures
// of one custodian there is a request to which it answers well, so that no breaker opens.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	program := neighbourhood.Program(t, "demo")
	// They wait more than they work, so they run at once, however few may by -parallel.
	var demos sync.WaitGroup
	defer demos.Wait()
	demos.Go(func() { t.Run("all nine", func(t *testing.T) { allNine(t, program) }) })
	demos.Go(func() { t.Run("breakers", func(t *testing.T) { breakers(t, program) }) })
	var heavy sync.Mutex
	place := -1
	for _, keys := range [][]string{{"gp", "ambulance"}, {"acute", "outofhours"}, {"mentalhealth", "nhs111"}, {"community", "pharmacy"}, {"socialcare"}} {
		places := map[string]int{}
		for _, key := range keys {
			place++
			places[key] = place
		}
		demos.Go(func() {
			t.Run(strings.Join(keys, " and "), func(t *testing.T) {
				d := startDrill(t, program)
				for i, f := range faults {
					for _, key := range keys {
						alone(&heavy, f, func() {
							for tries := 1; d.try(t, f, key, i+places[key]); tries++ {
								if tries == 3 {
									t.Errorf("%s of %s: timed out three times, want %s", f.name, key, f.state)
									break
								}
								d.good(t)
							}
						})
						if len(keys) == 1 && f.name != simulator.FaultThrottle429 {
							d.good(t)
						}
					}
				}
				d.metricsAgree(t)
				t.Logf("%d answers; the slowest where nothing had to be waited for took %v (%s), where it had %v (%s)", d.asked, d.slowest[false].took.Round(time.Millisecond),
					d.slowest[false].fault, d.slowest[true].took.Round(time.Millisecond), d.slowest[true].fault)
			})
		})
	}
}

// TestFaultsMidway lets each custodian answer one request well, or two, and go wrong then: it has said that it knows the person. Whatever becomes of it,
// the other eight are whole, and it is never said to be more than it is (P6). Every day each custodian has some of the faults, so that all of them come up; with
// MCR_TORTURE=long each has all of them.
func TestFaultsMidway(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	long := os.Getenv("MCR_TORTURE") == "long"
	program := neighbourhood.Program(t, "demo")
	var demos sync.WaitGroup
	defer demos.Wait()
	var heavy sync.Mutex
	custodians := cohort.Custodians()
	for n, c := range custodians {
		demos.Go(func() {
			t.Run(c.Key, func(t *testing.T) {
				d := startDrill(t, program)
				for i, f := range faults {
					if !long && i%len(custodians) != n {
						continue
					}
					for after := 1; after <= 2; after++ {
						if f.name == simulator.FaultThrottle429 && after > 1 {
							continue // it is left alone for a while
						}
						alone(&heavy, f, func() {
							d.n.Fault(t, c.Key, string(f.name), after, f.ms)
							v := d.rest(t)
							d.n.Fault(t, c.Key, "none", 0, 0)
							d.midway(t, v, f, c.Key, after)
							if f.name != simulator.FaultThrottle429 {
								d.good(t)
							}
						})
					}
				}
			})
		})
	}
}

// alone calls do, and lets no other heavy fault happen meanwhile.
func alone(heavy *sync.Mutex, f fault, do func()) {
	if f.heavy {
		heavy.Lock()
		defer heavy.Unlock()
	}
	do()
}

// midway holds an answer to which one custodian gave something and then went wrong.
func (d *drill) midway(t *testing.T, v view, f fault, key string, after int) {
	t.Helper()
	if v.took > custodianTime+slack {
		t.Errorf("%s of %s after %d: took %v", f.name, key, after, v.took)
	}
	for k, want := range d.shown {
		if k != key {
			if !maps.Equal(v.shown[k], want) {
				t.Errorf("%s of %s after %d: %s is not whole", f.name, key, after, k)
			}
			continue
		}
		for id := range v.shown[k] {
			if _, is := want[id]; !is {
				t.Errorf("%s of %s after %d: it shows a resource that it does not hold", f.name, key, after)
			}
		}
		state, named := v.said[k].state, v.said[k].state != ""
		switch missing := len(want) - len(v.shown[k]); {
		case missing > 0 && (f.name == simulator.FaultNoRecord || f.name == simulator.FaultWrongPatient):
			// Asked for one type after another, it says that there is nothing of the rest. That is believed.
		case missing > 0 && (!named || state == "returned"):
			t.Errorf("%s of %s after %d: %d resources are missing, and it is said to be whole", f.name, key, after, missing)
		case len(v.shown[k]) == 0 && (state == "returned-in-part" || state == "no-record" && f.name != simulator.FaultNoRecord):
			t.Errorf("%s of %s after %d: it shows nothing, and is said to be %s", f.name, key, after, state)
		case len(v.shown[k]) > 0 && named && state != "returned-in-part":
			t.Errorf("%s of %s after %d: it shows %d resources, and is said to be %s", f.name, key, after, len(v.shown[k]), state)
		}
	}
}

// allNine asks when nobody answers: 503 with nine outcomes, UNAVAILABLE with nine statuses.
func allNine(t *testing.T, program string) {
	d := startDrill(t, program)
	for _, f := range []fault{
		{name: simulator.FaultDown, state: "unavailable"},
		{name: simulator.FaultHang, state: "timed-out", waits: true},
		{name: simulator.FaultGarbage, state: "failed"},
	} {
		for key := range d.n.Sources {
			d.n.Fault(t, key, string(f.name), 0, f.ms)
		}
		var calls sync.WaitGroup
		calls.Go(func() { d.noneByREST(t, f, "$everything") })
		calls.Go(func() { d.noneByREST(t, f, "_search") })
		calls.Go(func() { d.noneByGRPC(t, f, "GetRecord") })
		calls.Go(func() { d.noneByGRPC(t, f, "StreamRecord") })
		calls.Wait()
		for key := range d.n.Sources {
			d.n.Fault(t, key, "none", 0, 0)
			for range 4 {
				d.count(key, f.state)
			}
		}
		d.faces[[2]string{"rest", "transient"}] += 2
		d.faces[[2]string{"grpc", "transient"}]++
		d.faces[[2]string{"stream", "transient"}]++
		d.good(t)
	}
	d.metricsAgree(t)
}

// drill is one demo whose custodians go wrong one at a time, with what was seen of each face before any did.
type drill struct {
	n      *neighbourhood.Neighbourhood
	conn   *grpc.ClientConn
	tokens []string
	asked  int

	shown  map[string]map[string]string // by custodian: Type/id -> text of the resource
	states map[string]said

	throttledAt time.Time // a 429 came after this

	mu       sync.Mutex
	expected map[[2]string]int // custodian and state -> answers, for the metrics
	faces    map[[2]string]int // face and outcome -> requests
	alarms   map[[2]string]int // custodian -> answers that an operator must look at
	troubled map[string]bool   // custodians that ListCustodians has had something to say of
	slowest  map[bool]slowest  // by whether the custodian makes us wait
}

type slowest struct {
	took  time.Duration
	fault simulator.Fault
}

// said is what an answer says of one custodian.
type said struct {
	state, reason string
	parts         map[string]int // reason of what is missing -> how many, 0 where it is not told
	shown         int            // gRPC only
}

// view is one answer, whichever face gave it.
type view struct {
	face  string
	took  time.Duration
	shown map[string]map[string]string
	said  map[string]said // gRPC: all nine; REST: those that did not return all
}

func startDrill(t *testing.T, program string) *drill {
	t.Helper()
	d := &drill{n: neighbourhood.Start(t, neighbourhood.Options{Program: program}), expected: map[[2]string]int{}, faces: map[[2]string]int{}, alarms: map[[2]string]int{}, troubled: map[string]bool{}, slowest: map[bool]slowest{}}
	d.conn = d.n.Dial(t)
	for _, p := range []string{"gp", "ed-doctor", "mh-nurse"} {
		d.tokens = append(d.tokens, d.n.Token(t, p))
	}
	if len(d.n.Sources) != 9 {
		t.Fatalf("the demo has %d custodians, want 9", len(d.n.Sources))
	}
	v := d.get(t)
	d.shown, d.states = v.shown, v.said
	for key := range d.n.Sources {
		if len(d.shown[key]) == 0 || d.states[key].shown != len(d.shown[key]) {
			t.Fatalf("%s shows %d resources and says that it shows %d: the person of this test must be known to all nine", key, len(d.shown[key]), d.states[key].shown)
		}
		if s := d.states[key].state; s != "returned" && s != "returned-in-part" {
			t.Fatalf("%s is %s before anything went wrong", key, s)
		}
		d.count(key, d.states[key].state)
	}
	d.face("grpc")
	d.check(t, d.rest(t), fault{name: "nothing", whole: true}, "")
	d.countAll("", "")
	d.face("rest")
	return d
}

func (d *drill) count(key, state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expected[[2]string{key, state}]++
}

func (d *drill) face(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faces[[2]string{name, "released"}]++
}

// countAll notes one answer of all nine, one of them in a state of its own; "" for that one counts nothing.
func (d *drill) countAll(key, state string) {
	for k, s := range d.states {
		switch {
		case k != key:
			d.count(k, s.state)
		case state != "":
			d.count(k, state)
		}
	}
}

func (d *drill) token() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.tokens[d.asked%len(d.tokens)]
}

// stateOf is the state that a custodian is in with a fault: where it shows all, what it always is.
func (d *drill) stateOf(f fault, key string) string {
	if f.whole && f.state != "returned-in-part" {
		return d.states[key].state
	}
	return f.state
}

// try makes one custodian go wrong, asks by REST, and for a sample, which turn chooses, by gRPC at the same time. It reports whether a heavy fault could not be judged
// because the custodian's time was over before all of it had come: that is one of the right answers, and not the one looked for.
func (d *drill) try(t *testing.T, f fault, key string, turn int) (tooSlow bool) {
	t.Helper()
	d.n.Fault(t, key, string(f.name), 0, f.ms)
	began := time.Now()
	d.throttledAt = began // at the earliest
	var views []view
	var calls sync.WaitGroup
	ask := func(face string, call func(*testing.T) view) {
		calls.Go(func() {
			v := call(t)
			d.mu.Lock()
			views = append(views, v)
			d.mu.Unlock()
		})
		d.face(face)
	}
	throttled := f.name == simulator.FaultThrottle429
	ask("rest", d.rest)
	switch {
	case throttled: // one call: the second would not be asked any more
	case turn%9 == 0, turn%9 == 4: // so each face meets each fault at two custodians
		ask("grpc", d.get)
	case turn%9 == 2, turn%9 == 6:
		ask("stream", d.stream)
	}
	calls.Wait()
	if tooSlow = f.heavy && slices.ContainsFunc(views, func(v view) bool { return v.said[key].state == "timed-out" }); tooSlow {
		for _, v := range views {
			d.countAll(key, v.said[key].state)
		}
		d.n.Fault(t, key, "none", 0, 0)
		return true
	}
	for _, v := range views {
		d.check(t, v, f, key)
		d.countAll(key, d.stateOf(f, key))
		if f.alarms {
			d.alarms[[2]string{key}]++
		}
	}
	d.healthIs(t, key, d.stateOf(f, key), began)
	if throttled {
		d.throttled(t, f, key)
	}
	d.n.Fault(t, key, "none", 0, 0)
	return false
}

// good asks once while everybody is well.
func (d *drill) good(t *testing.T) {
	t.Helper()
	d.check(t, d.rest(t), fault{name: "nothing", whole: true}, "")
	d.countAll("", "")
	d.face("rest")
}

// throttled asks once more after a 429. Until its Retry-After has passed the custodian, well again, is left alone; then it is asked.
func (d *drill) throttled(t *testing.T, f fault, key string) {
	t.Helper()
	res, err := d.n.Do(t.Context(), http.MethodPost, d.n.Sources[key]+"/fhir/Patient/_search", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, nil)
	seconds, notNumber := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || notNumber != nil || res.Status != http.StatusTooManyRequests {
		t.Fatalf("%s itself answers with %v, %v: no 429 with Retry-After", key, res, err)
	}
	d.n.Fault(t, key, "none", 0, 0)
	before := d.n.Requests(t, key)
	v := d.rest(t)
	d.face("rest")
	if time.Since(d.throttledAt) < time.Duration(seconds)*time.Second {
		d.check(t, v, f, key)
		d.countAll(key, "") // it was not asked, so it is not counted
		if d.n.Requests(t, key) != before {
			t.Errorf("%s was asked again before its Retry-After had passed", key)
		}
	} else {
		t.Logf("%s: this machine was too slow to see that Retry-After is kept", key)
		d.countAll(key, map[bool]string{true: d.states[key].state}[len(v.shown[key]) > 0])
	}
	select {
	case <-time.After(time.Duration(seconds)*time.Second + 500*time.Millisecond):
	case <-t.Context().Done():
	}
	d.good(t)
}

// parameters is the body of $everything for a person.
func parameters(t testing.TB, number string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": nhsNumberSystem, "value": number}}}})
	if err != nil {
		t.Fatal("no body")
	}
	return body
}

// rest asks for everything over REST. It may be called in a goroutine, so it does not end the test.
func (d *drill) rest(t *testing.T) view {
	began := time.Now()
	header := neighbourhood.Treating(d.token())
	header.Set("Content-Type", "application/fhir+json")
	res, err := d.n.Do(t.Context(), http.MethodPost, d.n.REST+"/fhir/Patient/$everything", header, parameters(t, cohort.Margaret))
	v := view{face: "rest", took: time.Since(began), shown: map[string]map[string]string{}, said: map[string]said{}}
	if err != nil || res.Status != http.StatusOK {
		t.Errorf("REST answers with %v, %v, want 200", res, err)
		return v
	}
	d.fill(t, &v, res.Body)
	return v
}

// fill reads a Bundle.
func (d *drill) fill(t *testing.T, v *view, text []byte) {
	d.noStranger(t, v.face, text)
	for _, e := range readAnswer(t, text, d.n.REST+"/fhir").entries {
		key, _, _ := strings.Cut(e.id, "-")
		if _, is := d.n.Sources[key]; is {
			if v.shown[key] == nil {
				v.shown[key] = map[string]string{}
			}
			v.shown[key][e.typ+"/"+e.id] = e.resource.raw
		}
		if about, is := strings.CutPrefix(e.id, "outcome-"); is && e.typ == "OperationOutcome" && e.mode == "outcome" && v.face == "rest" {
			v.said[about] = saidIn(t, e.resource, about)
		}
	}
}

// noStranger holds an answer against the marks of the person whom two faults bring in (P4).
func (d *drill) noStranger(t *testing.T, face string, text []byte) {
	if s := string(text); strings.Contains(s, simulator.StrangerTag) || strings.Contains(s, "Strangeways") || strings.Contains(s, "Somebody else") {
		t.Errorf("%s: the answer holds something about another person", face)
	}
}

var reasonIn = regexp.MustCompile(`(?:^|; )reason ([a-z-]+)`)

// saidIn reads an OperationOutcome about one custodian (M-10).
func saidIn(t *testing.T, outcome *node, key string) said {
	s := said{parts: map[string]int{}}
	for i, issue := range outcome.list("issue") {
		code := issue.str("details", "coding", "code")
		if i > 0 {
			s.parts[code]++
			continue
		}
		if issue.str("details", "coding", "system") != codes+"CodeSystem/source-status" {
			t.Errorf("the outcome about %s has a state of another code system", key)
		}
		s.state = code
		if m := reasonIn.FindStringSubmatch(issue.str("diagnostics")); m != nil {
			s.reason = m[1]
		}
		for _, c := range cohort.Custodians() {
			if text := issue.str("details", "text"); c.Key == key && (!strings.Contains(text, c.ODS) || !strings.Contains(text, c.Contact)) {
				t.Errorf("the outcome about %s does not say which organisation it is and whom to ring", key)
			}
		}
	}
	return s
}

func word(state mycarerecordv1.CustodianState) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(state.String(), "CUSTODIAN_STATE_")), "_", "-")
}

func saidOf(list []*mycarerecordv1.CustodianStatus) map[string]said {
	out := map[string]said{}
	for _, s := range list {
		x := said{state: word(s.GetState()), reason: s.GetReason(), parts: map[string]int{}, shown: int(s.GetShown())}
		for _, p := range s.GetParts() {
			x.parts[p.GetReason()] += int(p.GetCount())
		}
		out[s.GetCustodian().GetKey()] = x
	}
	return out
}

var (
	askedYes  = &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_ASKED_YES}
	admission = &mycarerecordv1.Relationship{Kind: mycarerecordv1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION}
)

// get asks by GetRecord.
func (d *drill) get(t *testing.T) view {
	began := time.Now()
	res, err := mycarerecordv1.NewRecordServiceClient(d.conn).GetRecord(neighbourhood.Bearing(t, d.token()), &mycarerecordv1.GetRecordRequest{
		NhsNumber: cohort.Margaret, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: askedYes, Relationship: admission})
	v := view{face: "GetRecord", took: time.Since(began), shown: map[string]map[string]string{}, said: saidOf(res.GetCustodians())}
	if err != nil {
		t.Errorf("GetRecord answers with code %v", status.Code(err))
		return v
	}
	d.fill(t, &v, res.GetBundle())
	return v
}

// stream asks by StreamRecord.
func (d *drill) stream(t *testing.T) view {
	began := time.Now()
	v := view{face: "StreamRecord", shown: map[string]map[string]string{}}
	s, err := d.openStream(t)
	var out streamed
	if err == nil {
		out, err = readStream(t, s)
	}
	v.took = time.Since(began)
	if err != nil {
		t.Errorf("StreamRecord ends with code %v", status.Code(err))
		return v
	}
	v.said = saidOf(out.summary.GetCustodians())
	for _, e := range out.entries {
		d.noStranger(t, v.face, e.GetResource())
		if key := e.GetCustodian(); key != "" {
			if v.shown[key] == nil {
				v.shown[key] = map[string]string{}
			}
			v.shown[key][e.GetType()+"/"+e.GetId()] = string(e.GetResource())
		}
	}
	return v
}

func (d *drill) openStream(t *testing.T) (grpc.ServerStreamingClient[mycarerecordv1.StreamRecordResponse], error) {
	return mycarerecordv1.NewRecordServiceClient(d.conn).StreamRecord(neighbourhood.Bearing(t, d.token()), &mycarerecordv1.StreamRecordRequest{
		NhsNumber: cohort.Margaret, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: askedYes, Relationship: admission})
}

// check holds one answer: in time, the others as they always are, the bad one in its state and with nothing it may not show.
func (d *drill) check(t *testing.T, v view, f fault, key string) {
	t.Helper()
	say := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %s of %s: %s", v.face, f.name, key, fmt.Sprintf(format, args...))
	}
	if v.took > d.slowest[f.waits].took {
		d.slowest[f.waits] = slowest{v.took, f.name}
	}
	if v.took > custodianTime+slack {
		say("took %v, want at most %v", v.took, custodianTime+slack)
	}
	if f.waits && v.took < custodianTime-100*time.Millisecond {
		say("took %v: the custodian was given up before its time", v.took)
	}
	for k, want := range d.shown {
		got, state := v.shown[k], v.said[k].state
		if _, named := v.said[k]; v.face == "rest" && !named {
			state = "returned" // who returned all has no outcome
		}
		if k == key && !f.whole {
			if len(got) > 0 {
				say("%d of its resources are shown, want none", len(got))
			}
		} else if !maps.Equal(got, want) {
			say("%d resources of %s are shown, or other ones, or otherwise; want the %d of a good day", len(got), k, len(want))
		}
		if v.face != "rest" && v.said[k].shown != len(got) {
			say("%s is said to show %d resources and shows %d", k, v.said[k].shown, len(got))
		}
		switch want := d.states[k].state; {
		case k == key:
			if want = d.stateOf(f, k); state != want {
				say("it is %s (reason %q), want %s", state, v.said[k].reason, want)
			}
			if len(f.reasons) > 0 && !slices.Contains(f.reasons, v.said[k].reason) {
				say("the reason is %q, want one of %q", v.said[k].reason, f.reasons)
			}
			if _, others := v.said[k].parts["other-people"]; others != (f.name == simulator.FaultMixedPatients) {
				say("it is said that there was something of other people: %v", others)
			}
		case state != want:
			say("%s is %s (reason %q), want %s", k, state, v.said[k].reason, want)
		}
	}
	if v.face != "rest" && len(v.said) != len(d.shown) {
		say("%d custodians have a state, want %d", len(v.said), len(d.shown))
	}
}

// healthIs holds what ListCustodians says of a custodian after an answer: a breaker that is closed, trouble while there is some and since when, and
// otherwise only that it answers. What it answered is about a person, and is told to nobody who did not ask.
func (d *drill) healthIs(t *testing.T, key, state string, since time.Time) {
	t.Helper()
	trouble := state == "timed-out" || state == "unavailable" || state == "failed"
	switch {
	case trouble:
		d.troubled[key] = true
	case d.troubled[key]:
		state = "returned"
	default:
		state = "unspecified" // nothing has happened yet
	}
	h := d.health(t)[key]
	if word(h.GetLastState()) != state || h.GetBreaker() != mycarerecordv1.BreakerState_BREAKER_STATE_CLOSED {
		t.Errorf("ListCustodians says that %s was %s with a breaker %v, want %s and closed", key, word(h.GetLastState()), h.GetBreaker(), state)
	}
	at := h.GetLastAnswer().AsTime()
	if during := !at.Before(since.Add(-time.Second)) && !at.After(time.Now().Add(time.Second)); trouble && !during || (h.GetLastAnswer() != nil) != d.troubled[key] {
		t.Errorf("ListCustodians says that %s became %s at another time than it did", key, state)
	}
}

// health asks ListCustodians.
func (d *drill) health(t *testing.T) map[string]*mycarerecordv1.CustodianHealth {
	t.Helper()
	res, err := mycarerecordv1.NewRecordServiceClient(d.conn).ListCustodians(neighbourhood.Bearing(t, d.token()), &mycarerecordv1.ListCustodiansRequest{})
	if err != nil {
		t.Fatalf("ListCustodians answers with code %v", status.Code(err))
	}
	out := map[string]*mycarerecordv1.CustodianHealth{}
	for _, h := range res.GetCustodians() {
		out[h.GetCustodian().GetKey()] = h
	}
	if len(out) != len(d.n.Sources) {
		t.Fatalf("ListCustodians lists %d custodians, want %d", len(out), len(d.n.Sources))
	}
	return out
}

// noneByREST asks while nobody answers well.
func (d *drill) noneByREST(t *testing.T, f fault, how string) {
	began := time.Now()
	header, body := neighbourhood.Treating(d.token()), parameters(t, cohort.Margaret)
	header.Set("Content-Type", "application/fhir+json")
	if how == "_search" {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		body = []byte("identifier=" + nhsNumberSystem + "|" + cohort.Margaret)
	}
	res, err := d.n.Do(t.Context(), http.MethodPost, d.n.REST+"/fhir/Patient/"+how, header, body)
	if err != nil || res.Status != http.StatusServiceUnavailable {
		t.Errorf("all nine %s, %s: got %v, %v, want 503", f.name, how, res, err)
		return
	}
	if took := time.Since(began); took > custodianTime+slack || f.waits && took < custodianTime-100*time.Millisecond {
		t.Errorf("all nine %s, %s: took %v", f.name, how, took)
	}
	if after, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("all nine %s, %s: there is no Retry-After", f.name, how)
	}
	doc, err := readJSON(res.Body)
	if err != nil || doc.str("resourceType") != "OperationOutcome" || doc.str("issue", "code") != "transient" {
		t.Errorf("all nine %s, %s: the answer is no outcome that says transient", f.name, how)
		return
	}
	named := map[string]bool{}
	for _, issue := range doc.list("issue")[1:] {
		for _, c := range cohort.Custodians() {
			if strings.Contains(issue.str("details", "text"), "("+c.ODS+")") && issue.str("details", "coding", "code") == f.state {
				named[c.Key] = true
			}
		}
	}
	if len(named) != 9 {
		t.Errorf("all nine %s, %s: %d custodians are named as %s, want 9", f.name, how, len(named), f.state)
	}
}

// noneByGRPC asks while nobody answers well.
func (d *drill) noneByGRPC(t *testing.T, f fault, how string) {
	began := time.Now()
	var err error
	if how == "GetRecord" {
		_, err = mycarerecordv1.NewRecordServiceClient(d.conn).GetRecord(neighbourhood.Bearing(t, d.token()), &mycarerecordv1.GetRecordRequest{
			NhsNumber: cohort.Margaret, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: askedYes, Relationship: admission})
	} else if s, opening := d.openStream(t); opening != nil {
		err = opening
	} else {
		for err == nil {
			_, err = s.Recv()
		}
	}
	if took := time.Since(began); took > custodianTime+slack || f.waits && took < custodianTime-100*time.Millisecond {
		t.Errorf("all nine %s, %s: took %v", f.name, how, took)
	}
	if status.Code(err) != grpccodes.Unavailable {
		t.Errorf("all nine %s, %s: code %v, want UNAVAILABLE", f.name, how, status.Code(err))
		return
	}
	var list []*mycarerecordv1.CustodianStatus
	for _, x := range status.Convert(err).Details() {
		if s, is := x.(*mycarerecordv1.CustodianStatuses); is {
			list = s.GetCustodians()
		}
	}
	all := saidOf(list)
	for key, s := range all {
		if s.state != f.state {
			t.Errorf("all nine %s, %s: %s is %s, want %s", f.name, how, key, s.state, f.state)
		}
	}
	if len(all) != 9 {
		t.Errorf("all nine %s, %s: %d statuses, want 9", f.name, how, len(all))
	}
}

var sampleLine = regexp.MustCompile(`(?m)^([a-z_]+)\{([^}]*)\} ([-+.0-9eE]+)$`)
var labelPair = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)

// samples reads one metric: value by the values of two labels, or of one and "".
func samples(t *testing.T, text, name string, labels ...string) map[[2]string]int {
	t.Helper()
	out := map[[2]string]int{}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		if m[1] != name {
			continue
		}
		have := map[string]string{}
		for _, p := range labelPair.FindAllStringSubmatch(m[2], -1) {
			have[p[1]] = p[2]
		}
		var key [2]string
		for i, l := range labels {
			key[i] = have[l]
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil || v != math.Trunc(v) {
			t.Fatalf("%s has a value that is no whole number", name)
		}
		out[key] += int(v)
	}
	return out
}

// metricsAgree holds the operations listener to what happened: each answer of each custodian counted once, by state, and each request by
// face and outcome.
func (d *drill) metricsAgree(t *testing.T) {
	t.Helper()
	text := d.n.Metrics(t)
	if got := samples(t, text, "mcr_custodian_states_total", "custodian", "state"); !maps.Equal(got, d.expected) {
		for k := range got {
			if got[k] != d.expected[k] {
				t.Errorf("metrics count %d answers of %s that were %s, want %d", got[k], k[0], k[1], d.expected[k])
			}
		}
		for k := range d.expected {
			if got[k] == 0 {
				t.Errorf("metrics count no answer of %s that was %s, want %d", k[0], k[1], d.expected[k])
			}
		}
	}
	got := samples(t, text, "mcr_requests_total", "face", "outcome")
	for k, want := range d.faces {
		if got[k] != want {
			t.Errorf("metrics count %d requests by %s that were %s, want %d", got[k], k[0], k[1], want)
		}
	}
	if got := samples(t, text, "mcr_custodian_alarms_total", "custodian"); !maps.Equal(got, d.alarms) {
		t.Errorf("metrics count these alarms: %v, want %v", got, d.alarms)
	}
	for k, v := range samples(t, text, "mcr_breaker_state", "custodian") {
		if v != 0 {
			t.Errorf("metrics say that the breaker of %s is not closed", k[0])
		}
	}
	if strings.Contains(text, cohort.Margaret) {
		t.Error("metrics hold an NHS number")
	}
}
