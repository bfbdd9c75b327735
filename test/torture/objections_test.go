package torture

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// objection is one that was recorded, from the call that recorded it to the call that withdrew it. A time is zero where that has not been,
// or is not known: then the broker was killed with the call on its way, and the call is made again with the same key.
type objection struct {
	about     person
	scope     v1.ObjectionScope
	custodian string         // of scope custodian
	section   record.Section // of scope section
	absolute  bool
	by        string // persona at whose desk
	id        string

	key              string
	called, acked    time.Time
	position         uint64
	withdrawKey      string
	withdrawCalled   time.Time
	withdrawAcked    time.Time
	withdrawPosition uint64
}

// objectionTo names what tests object to.
var objectionTo = struct {
	sections   []record.Section
	custodians []string
	desks      []string
}{
	[]record.Section{record.MentalHealth, record.SocialCare, record.Medications, record.Appointments, record.Results, record.History, record.PlansAlerts,
		record.Community, record.Pharmacy, record.Ambulance},
	custodians,
	[]string{"gp", "front-desk", "ig-officer"},
}

// register is everything that anybody has objected to. One goroutine uses it at a time.
type register struct {
	r       *rand.Rand
	who     []person
	all     []*objection
	problem []string // what the service should not have answered
}

// desk is where objections are recorded with one running demo.
type desk struct {
	v    *visit
	conn *grpc.ClientConn
	api  v1.ConsentServiceClient
}

func newDesk(v *visit) (*desk, error) {
	conn, err := grpc.NewClient("passthrough:///"+v.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return nil, err
	}
	return &desk{v, conn, v1.NewConsentServiceClient(conn)}, nil
}

func (d *desk) close() { _ = d.conn.Close() } // nothing is in flight

// callTime is how long a change may take: more than the ledger's deadline and the demographics service's together.
const callTime = 10 * time.Second

func (d *desk) as(ctx context.Context, persona string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+d.v.tokens[persona]), cancel
}

func (g *register) newKey() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return hex.EncodeToString(b[:])
}

// record makes the call that records o, or makes it again.
func (g *register) record(ctx context.Context, d *desk, o *objection) bool {
	if o.called.IsZero() {
		o.key, o.called = g.newKey(), time.Now()
	}
	ctx, cancel := d.as(ctx, o.by)
	defer cancel()
	in := &v1.RecordObjectionRequest{NhsNumber: o.about.number, BirthDate: o.about.born, Scope: o.scope, Custodian: o.custodian, Absolute: o.absolute,
		Method: v1.ObjectionMethod_OBJECTION_METHOD_IN_PERSON, Key: o.key}
	if o.scope == v1.ObjectionScope_OBJECTION_SCOPE_SECTION {
		in.Section = v1.Section(v1.Section_value["SECTION_"+strings.ToUpper(strings.ReplaceAll(o.section.Code(), "-", "_"))])
	}
	out, err := d.api.RecordObjection(ctx, in)
	if err != nil {
		g.failed("recording", err)
		return false
	}
	o.acked, o.id, o.position = time.Now(), out.GetObjection().GetId(), out.GetObjection().GetPosition()
	if out.GetObjection().GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE || o.id == "" || o.position == 0 || out.GetReceipt().GetPosition() != o.position {
		g.problem = append(g.problem, "an objection was acknowledged and is not in force, or its receipt is another entry's")
	}
	return true
}

// withdraw makes the call that withdraws o, or makes it again.
func (g *register) withdraw(ctx context.Context, d *desk, o *objection) bool {
	if o.withdrawCalled.IsZero() {
		o.withdrawKey, o.withdrawCalled = g.newKey(), time.Now()
	}
	ctx, cancel := d.as(ctx, o.by)
	defer cancel()
	out, err := d.api.WithdrawObjection(ctx, &v1.WithdrawObjectionRequest{NhsNumber: o.about.number, BirthDate: o.about.born, ObjectionId: o.id, Key: o.withdrawKey})
	if err != nil {
		g.failed("withdrawing", err)
		return false
	}
	o.withdrawAcked, o.withdrawPosition = time.Now(), out.GetObjection().GetPosition()
	if out.GetObjection().GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN || o.withdrawPosition <= o.position {
		g.problem = append(g.problem, "a withdrawal was acknowledged and the objection is not withdrawn, or stands before it")
	}
	return true
}

// failed notes what a kill does not explain.
func (g *register) failed(doing string, err error) {
	switch c := status.Code(err); c {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
	default:
		g.problem = append(g.problem, fmt.Sprintf("%s an objection: %v", doing, c))
	}
}

// Bounds of what one person has objected to: at once, and ever.
const (
	maxInForce = 3
	maxEver    = 400
)

// step changes somebody's mind, and reports whether that was not refused.
func (g *register) step(ctx context.Context, d *desk) bool {
	about := g.who[g.r.IntN(len(g.who))]
	var inForce []*objection
	ever := 0
	for _, o := range g.all {
		if o.about == about {
			ever++
			if o.withdrawCalled.IsZero() && !o.acked.IsZero() {
				inForce = append(inForce, o)
			}
		}
	}
	for _, o := range inForce {
		if o.scope == v1.ObjectionScope_OBJECTION_SCOPE_ALL { // not for long: while it holds, the person's record tries nothing
			return g.withdraw(ctx, d, o)
		}
	}
	if len(inForce) >= maxInForce || ever >= maxEver || len(inForce) > 0 && g.r.IntN(2) == 0 {
		return len(inForce) == 0 || g.withdraw(ctx, d, inForce[g.r.IntN(len(inForce))])
	}
	o := g.another(about)
	g.all = append(g.all, o)
	return g.record(ctx, d, o)
}

// another makes up an objection that has not been recorded.
func (g *register) another(about person) *objection {
	o := &objection{about: about, by: objectionTo.desks[g.r.IntN(len(objectionTo.desks))], absolute: g.r.IntN(2) == 0}
	switch g.r.IntN(10) {
	case 0:
		o.scope = v1.ObjectionScope_OBJECTION_SCOPE_ALL
	case 1, 2, 3, 4:
		o.scope, o.custodian = v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, objectionTo.custodians[g.r.IntN(len(objectionTo.custodians))]
	default:
		o.scope, o.section = v1.ObjectionScope_OBJECTION_SCOPE_SECTION, objectionTo.sections[g.r.IntN(len(objectionTo.sections))]
	}
	return o
}

// tiring is how much longer the pause between two changes becomes with each objection that a person has had on average: a run of an hour does not use up what one may
// ever have, after which there would be no changes that a kill could lose.
const tiring = 3 * time.Millisecond

// change changes minds until ctx ends, each time at any of the desks, or until the only one is closed.
func (g *register) change(ctx context.Context, desks ...*desk) {
	for ctx.Err() == nil {
		if !g.step(ctx, desks[g.r.IntN(len(desks))]) { // its broker was killed
			if len(desks) == 1 {
				return
			}
			pause(ctx, 200*time.Millisecond)
		}
		pause(ctx, time.Duration(g.r.IntN(30))*time.Millisecond+tiring*time.Duration(len(g.all)/len(g.who)))
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// resolve makes the calls again whose outcome is not known, and reports how many there were.
func (g *register) resolve(t *testing.T, d *desk) (unknown int) {
	t.Helper()
	for _, o := range g.all {
		if o.acked.IsZero() {
			unknown++
			if !g.record(t.Context(), d, o) {
				t.Error("an objection whose outcome was not known cannot be recorded after a restart")
			}
		}
		if !o.withdrawCalled.IsZero() && o.withdrawAcked.IsZero() {
			unknown++
			if !g.withdraw(t.Context(), d, o) {
				t.Error("a withdrawal whose outcome was not known cannot be made after a restart")
			}
		}
	}
	return unknown
}

// lost asks the service for everybody's objections, and counts those acknowledged changes that it does not know of, or knows otherwise.
func (g *register) lost(t *testing.T, d *desk) (lost int) {
	t.Helper()
	for _, p := range g.who {
		ctx, cancel := d.as(t.Context(), "ig-officer")
		out, err := d.api.ShowObjections(ctx, &v1.ShowObjectionsRequest{NhsNumber: p.number, BirthDate: p.born, Reason: "after a restart"})
		cancel()
		if err != nil {
			t.Errorf("objections cannot be shown after a restart: %v", status.Code(err))
			continue
		}
		listed := map[string]*v1.Objection{}
		for _, o := range out.GetObjections() {
			listed[o.GetId()] = o
		}
		for _, o := range g.all {
			if o.about == p && !o.acked.IsZero() && !o.stands(listed[o.id]) {
				lost++
			}
		}
	}
	return lost
}

// stands reports whether the service knows the objection as it was last acknowledged. What was called and not acknowledged may have been done.
func (o *objection) stands(is *v1.Objection) bool {
	if is == nil || is.GetScope() != o.scope || is.GetCustodian() != o.custodian || is.GetAbsolute() != o.absolute {
		return false
	}
	inForce := is.GetStatus() == v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE && is.GetPosition() == o.position
	withdrawn := is.GetStatus() == v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN && (o.withdrawPosition == 0 || is.GetPosition() == o.withdrawPosition)
	switch {
	case !o.withdrawAcked.IsZero():
		return withdrawn
	case !o.withdrawCalled.IsZero():
		return inForce || withdrawn
	}
	return inForce
}

// acked counts acknowledgements.
func (g *register) acked() (n int) {
	for _, o := range g.all {
		if !o.acked.IsZero() {
			n++
		}
		if !o.withdrawAcked.IsZero() {
			n++
		}
	}
	return n
}
