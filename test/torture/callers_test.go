package torture

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// asker is a persona who reads records, and the custodian whose staff they are.
type asker struct {
	persona string
	own     string // custodian key; "" for the person themselves
}

var askers = []asker{{"gp", "gp"}, {"ed-doctor", "acute"}, {"mh-nurse", "mentalhealth"}, {"social-worker", "socialcare"}, {"pharmacist", "pharmacy"}, {"patient", ""}}

// self reports whether the asker is the person themselves.
func (a asker) self() bool { return a.persona == "patient" }

// face is one way in.
type face int

// The faces.
const (
	byREST face = iota
	byGetRecord
	byStreamRecord
	faces
)

// String returns the face's name.
func (f face) String() string { return [...]string{"$everything", "GetRecord", "StreamRecord"}[f] }

// receipt is what a caller keeps of an answer.
type receipt struct {
	position uint64
	leaf     [32]byte
}

// piece is what came under one receipt: a whole answer, or one custodian's part of a stream.
type piece struct {
	receipt   *receipt // nil: none came
	custodian string   // of a stream's chunk; "" else
	shown     []shown
	whole     bool // the caller was told that this was all
}

// answer is all that one call brought back. Times are read from one monotonic clock: before the call was made, and after the last byte.
type answer struct {
	id           string // X-Request-ID
	face         face
	by           asker
	at           int // which broker, where there are several
	about        person
	began, ended time.Time
	code         codes.Code // of a refusal over gRPC
	status       int        // over REST; 0: none came
	refusal      *receipt   // of a refusal
	planned      bool       // a stream's plan came
	handle       string     // in it
	cut          bool       // it did not come to its end
	pieces       []piece
}

// shows reports whether anything of a record, or of a person, came.
func (a *answer) shows() bool {
	for _, p := range a.pieces {
		if len(p.shown) > 0 {
			return true
		}
	}
	return false
}

// log keeps every answer that anybody was given.
type log struct {
	mu       sync.Mutex
	answers  []*answer
	requests atomic.Int64
	running  [maxBrokers]atomic.Int64 // calls on their way, by broker
}

// maxBrokers is more than are ever asked at once.
const maxBrokers = 4

func (l *log) keep(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

// await waits until so many answers have come that began after a time: about a person, or about anybody. It gives up after awaitTime.
func (l *log) await(ctx context.Context, n int, about person, began time.Time) {
	for until := time.Now().Add(awaitTime); ctx.Err() == nil && time.Now().Before(until); pause(ctx, 5*time.Millisecond) {
		l.mu.Lock()
		come := 0
		for i := len(l.answers) - 1; i >= 0 && come < n; i-- {
			a := l.answers[i]
			if a.ended.Before(began) {
				break
			}
			if !a.cut && a.began.After(began) && (about == person{} || a.about == about) {
				come++
			}
		}
		l.mu.Unlock()
		if come >= n {
			return
		}
	}
}

// awaitTime is how long a load is given to come about on a busy machine.
const awaitTime = 5 * time.Second

// visit is a running broker, and tokens for everybody.
type visit struct {
	rest, grpc string            // origin of the gateway; host:port
	at         int               // which broker, where there are several
	tokens     map[string]string // by persona; of a person themselves by number
}

func newVisit(t *testing.T, n *neighbourhood.Neighbourhood, who []person) *visit {
	t.Helper()
	v := &visit{rest: n.REST, grpc: n.GRPC, tokens: map[string]string{}}
	for _, persona := range []string{"gp", "ed-doctor", "mh-nurse", "social-worker", "pharmacist", "front-desk", "ig-officer"} {
		v.tokens[persona] = n.Token(t, persona)
	}
	for _, p := range who {
		v.tokens[p.number] = n.Token(t, "patient", "nhs_number="+p.number)
	}
	return v
}

func (v *visit) token(by asker, about person) string {
	if by.self() {
		return v.tokens[about.number]
	}
	return v.tokens[by.persona]
}

// caller makes one call after the other, on connections of its own.
type caller struct {
	v    *visit
	log  *log
	name string // begins its requests' ids
	n    int
	http *http.Client
	conn *grpc.ClientConn
	mu   sync.Mutex
	tap  *tap // of conn
}

func newCaller(v *visit, l *log, name string) (*caller, error) {
	c := &caller{v: v, log: l, name: name}
	// Without compression, so that what arrived before a cut can be read; without a second try, so that a call is one request.
	c.http = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1}}
	var err error
	c.conn, err = grpc.NewClient("passthrough:///"+v.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tap = &tap{Conn: conn}
			return c.tap, nil
		}))
	return c, err
}

func (c *caller) close() {
	c.http.CloseIdleConnections()
	_ = c.conn.Close() // nothing is in flight
}

// arrived returns what has come of the newest stream after so many whole messages.
func (c *caller) arrived(messages int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tap == nil {
		return nil
	}
	return c.tap.rest(messages)
}

func (c *caller) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tap != nil {
		c.tap.reset()
	}
}

// ask makes one call and keeps what it brings.
func (c *caller) ask(ctx context.Context, f face, by asker, about person) *answer {
	c.n++
	a := &answer{id: c.name + "-" + strconv.Itoa(c.n), face: f, by: by, at: c.v.at, about: about}
	ctx, cancel := context.WithTimeout(ctx, neighbourhood.CallTime)
	defer cancel()
	c.log.requests.Add(1)
	c.log.running[c.v.at].Add(1)
	a.began = time.Now()
	switch f {
	case byREST:
		c.everything(ctx, a)
	case byGetRecord:
		c.getRecord(ctx, a)
	case byStreamRecord:
		c.streamRecord(ctx, a)
	}
	a.ended = time.Now()
	c.log.running[c.v.at].Add(-1)
	c.log.keep(a)
	return a
}

// roam asks as anybody for anybody by any way, until ctx ends or a call is cut off: then there is nobody to ask any more. A call that has begun goes on when
// ctx ends.
func (c *caller) roam(ctx context.Context, r *rand.Rand, who []person) {
	for ctx.Err() == nil {
		if c.ask(context.WithoutCancel(ctx), face(r.IntN(int(faces))), askers[r.IntN(len(askers))], who[r.IntN(len(who))]).cut {
			return
		}
	}
}

func (c *caller) everything(ctx context.Context, a *answer) {
	header := neighbourhood.Treating(c.v.token(a.by, a.about))
	if a.by.self() {
		header = neighbourhood.Headers(c.v.token(a.by, a.about), "X-Purpose-Of-Use: PATRQT", "X-Permission-To-View: patient-self")
	}
	header.Set("Content-Type", "application/fhir+json")
	header.Set("X-Request-ID", a.id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.v.rest+"/fhir/Patient/$everything", strings.NewReader(parameters(a.about)))
	if err != nil {
		panic("a request of the test's own cannot be made")
	}
	req.Header = header
	res, err := c.http.Do(req)
	if err != nil {
		a.cut = true
		return
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or to where it was cut
	text, err := io.ReadAll(res.Body)
	a.cut, a.status = err != nil, res.StatusCode
	r, malformed := readReceipt(res.Header.Get("X-Access-Receipt"))
	if res.StatusCode != http.StatusOK {
		a.refusal = r
		return
	}
	p := piece{receipt: r, whole: err == nil}
	tag := ""
	if p.shown, tag = readBundle(text); malformed || r != nil && tag != "" && tag != r.String() {
		p.receipt = nil // two receipts that differ are none
	}
	a.pieces = append(a.pieces, p)
}

// parameters is the body of Patient/$everything.
func parameters(p person) string {
	text, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": p.number}}}})
	if err != nil {
		panic("a body of the test's own cannot be made")
	}
	return string(text)
}

// String returns a receipt as the REST face writes it.
func (r receipt) String() string { return fmt.Sprintf("%d.%x", r.position, r.leaf) }

// readReceipt reads the header X-Access-Receipt. None is not malformed.
func readReceipt(header string) (r *receipt, malformed bool) {
	if header == "" {
		return nil, false
	}
	tag, _, _ := strings.Cut(header, ";")
	position, leaf, _ := strings.Cut(tag, ".")
	r = &receipt{}
	var err error
	if r.position, err = strconv.ParseUint(position, 10, 64); err != nil {
		return nil, true
	}
	if n, err := hex.Decode(r.leaf[:], []byte(leaf)); err != nil || n != 32 || len(leaf) != 64 {
		return nil, true
	}
	return r, false
}

func fromWire(r *v1.Receipt) *receipt {
	if r == nil || len(r.GetLeaf()) != 32 {
		return nil
	}
	return &receipt{r.GetPosition(), [32]byte(r.GetLeaf())}
}

// bearing returns a context with an asker's token and the request's id.
func (c *caller) bearing(ctx context.Context, a *answer) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.v.token(a.by, a.about), "x-request-id", a.id)
}

// stated is what an asker says of why they ask.
func stated(by asker) (v1.Purpose, *v1.Permission, *v1.Relationship) {
	if by.self() {
		return v1.Purpose_PURPOSE_PATRQT, &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF}, nil
	}
	return v1.Purpose_PURPOSE_TREAT, &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_YES}, &v1.Relationship{Kind: v1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION}
}

// refused keeps the receipt of a refusal.
func (a *answer) refused(err error) {
	s := status.Convert(err)
	a.code = s.Code()
	a.cut = a.code == codes.Unavailable && len(s.Details()) == 0 || a.code == codes.Canceled || a.code == codes.DeadlineExceeded // the broker's own refusals have details
	for _, d := range s.Details() {
		if r, is := d.(*v1.Receipt); is {
			a.refusal = fromWire(r)
		}
	}
}

func (c *caller) getRecord(ctx context.Context, a *answer) {
	c.forget()
	in := &v1.GetRecordRequest{NhsNumber: a.about.number}
	in.Purpose, in.Permission, in.Relationship = stated(a.by)
	out, err := v1.NewRecordServiceClient(c.conn).GetRecord(c.bearing(ctx, a), in)
	if err != nil {
		a.refused(err)
		if text := bundleIn(c.arrived(0)); text != nil {
			p := piece{}
			p.shown, _ = readBundle(text)
			a.pieces = append(a.pieces, p)
		}
		return
	}
	p := piece{receipt: fromWire(out.GetReceipt()), whole: true}
	p.shown, _ = readBundle(out.GetBundle())
	a.pieces = append(a.pieces, p)
}

func (c *caller) streamRecord(ctx context.Context, a *answer) {
	c.forget()
	in := &v1.StreamRecordRequest{NhsNumber: a.about.number}
	in.Purpose, in.Permission, in.Relationship = stated(a.by)
	stream, err := v1.NewRecordServiceClient(c.conn).StreamRecord(c.bearing(ctx, a), in)
	if err != nil {
		a.refused(err)
		return
	}
	var open piece      // entries since the last custodian
	var resource []byte // parts of one entry
	var unfinished shown
	messages, ended := 0, false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			a.refused(err)
			if more := entriesIn(c.arrived(messages)); len(more) > 0 {
				open.shown = append(open.shown, more...)
			}
			break
		}
		messages++
		switch m := m.GetMessage().(type) {
		case *v1.StreamRecordResponse_Plan:
			a.planned, a.handle = true, m.Plan.GetHandle()
		case *v1.StreamRecordResponse_Entry:
			resource = append(resource, m.Entry.GetResource()...)
			if m.Entry.GetPart() < m.Entry.GetParts() {
				unfinished = shown{custodian: m.Entry.GetCustodian(), typ: m.Entry.GetType(), part: true}
				continue
			}
			s := show(m.Entry.GetCustodian(), m.Entry.GetType(), resource, true)
			open.shown, resource = append(open.shown, s), nil
		case *v1.StreamRecordResponse_Custodian:
			open.custodian, open.receipt, open.whole = m.Custodian.GetStatus().GetCustodian().GetKey(), fromWire(m.Custodian.GetReceipt()), true
			a.pieces, open = append(a.pieces, open), piece{}
		case *v1.StreamRecordResponse_Summary:
			if m.Summary.GetPart() == m.Summary.GetParts() {
				ended = true
				open.receipt, open.whole = fromWire(m.Summary.GetReceipt()), true
			}
		}
	}
	if resource != nil {
		open.shown = append(open.shown, unfinished)
	}
	if len(open.shown) > 0 || open.receipt != nil {
		a.pieces = append(a.pieces, open)
	}
	a.cut = a.cut || !ended && a.code == codes.OK
}
