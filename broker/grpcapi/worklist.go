package grpcapi

import (
	"context"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// ListAlerts returns the worklist of an IG officer, a page at a time.
func (s *server) ListAlerts(ctx context.Context, in *v1.ListAlertsRequest) (*v1.ListAlertsResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.alertRequest(a)
	req.Reason = p.freeText("reason", in.GetReason())
	if in.GetLimit() < 0 || in.GetLimit() > 1000 {
		p.add("limit", "1 to 1,000, or 0 for 100")
	}
	p.position("before", in.GetBefore())
	if err := p.err(); err != nil {
		return nil, err
	}
	list, precision, next, r, err := s.cfg.Broker.ListAlerts(ctx, req, in.GetClosed(), in.GetBefore(), int(in.GetLimit()))
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ListAlertsResponse{NextBefore: next, Receipt: receipt(r), Precision: precisions(precision)}
	for _, f := range list {
		out.Alerts = append(out.Alerts, alert(f))
	}
	return out, nil
}

// GetAlert returns one alert with the access that it is about.
func (s *server) GetAlert(ctx context.Context, in *v1.GetAlertRequest) (*v1.GetAlertResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.alertRequest(a)
	req.Reason = p.freeText("reason", in.GetReason())
	p.position("position", in.GetPosition())
	if err := p.err(); err != nil {
		return nil, err
	}
	f, r, err := s.cfg.Broker.ShowAlert(ctx, req, in.GetPosition())
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.GetAlertResponse{Alert: alert(f), Receipt: receipt(r)}
	for _, step := range f.Steps {
		out.Steps = append(out.Steps, ledgerEntry(step))
	}
	e := audit.Evidence{}
	if f.Access != nil {
		out.Access = ledgerEntry(*f.Access)
		if f.Access.Access != nil {
			e = e.With(f.Access.Access.Evidence)
		}
	}
	if f.Closing != nil {
		out.Closing = ledgerEntry(*f.Closing)
		if f.Closing.Disclosure != nil {
			e = e.With(f.Closing.Disclosure.Evidence)
		}
	}
	out.Evidence = evidence(e)
	return out, nil
}

// TakeAlert records that somebody looks into an alert.
func (s *server) TakeAlert(ctx context.Context, in *v1.TakeAlertRequest) (*v1.TakeAlertResponse, error) {
	r, err := s.handle(ctx, in.GetPosition(), audit.AlertTaken, v1.ReviewOutcome_REVIEW_OUTCOME_UNSPECIFIED, in.GetNote(), in.GetKey())
	return &v1.TakeAlertResponse{Receipt: r}, err
}

// CloseAlert records what became of one.
func (s *server) CloseAlert(ctx context.Context, in *v1.CloseAlertRequest) (*v1.CloseAlertResponse, error) {
	r, err := s.handle(ctx, in.GetPosition(), audit.AlertClosed, in.GetOutcome(), in.GetNote(), in.GetKey())
	return &v1.CloseAlertResponse{Receipt: r}, err
}

// ReopenAlert records that one is open again.
func (s *server) ReopenAlert(ctx context.Context, in *v1.ReopenAlertRequest) (*v1.ReopenAlertResponse, error) {
	r, err := s.handle(ctx, in.GetPosition(), audit.AlertReopened, v1.ReviewOutcome_REVIEW_OUTCOME_UNSPECIFIED, in.GetNote(), in.GetKey())
	return &v1.ReopenAlertResponse{Receipt: r}, err
}

func (s *server) handle(ctx context.Context, position uint64, step audit.AlertStep, outcome v1.ReviewOutcome, note, key string) (*v1.Receipt, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.alertRequest(a)
	req.Key = p.key(key)
	p.position("position", position)
	note = p.freeText("note", note)
	var ours audit.ReviewOutcome
	if step == audit.AlertClosed {
		var ok bool
		if ours, ok = reviewOutcomes.toOurs(outcome); !ok {
			p.add("outcome", "REVIEW_OUTCOME_JUSTIFIED, _NOT_JUSTIFIED or _REFERRED")
		}
	}
	if step != audit.AlertTaken && note == "" {
		p.add("note", "say why")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	r, err := s.cfg.Broker.HandleAlert(ctx, req, position, step, ours, note)
	if err != nil {
		return nil, refusal(err)
	}
	return receipt(r), nil
}

// Summarise counts what happened in a time.
func (s *server) Summarise(ctx context.Context, in *v1.SummariseRequest) (*v1.SummariseResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.alertRequest(a)
	req.Reason = p.freeText("reason", in.GetReason())
	from, until := p.time("from", in.GetFrom()).Lo, p.time("until", in.GetUntil()).Hi
	if from.IsZero() || !from.Before(until) || until.Sub(from) > audit.MaxActivity {
		p.add("until", "from and until: a time of at most 32 days")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	x, r, err := s.cfg.Broker.Summarise(ctx, req, from, until)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.SummariseResponse{Organisation: string(a.caller.Requester.Organisation), From: instant(x.From), Until: instant(x.Until), Accesses: count(x.Accesses),
		Outcomes: namedCounts(x.Outcomes), Refusals: namedCounts(x.Refusals), BreakGlass: count(x.BreakGlass.Used), RefusedQuestions: count(x.Questions), Alerts: precisions(x.Alerts), Cut: x.Cut, Receipt: receipt(r)}
	for _, d := range x.Days {
		out.Days = append(out.Days, &v1.DayCount{Day: d.Day, Purpose: purposes.toWire(d.Purpose), Count: count(d.Count)})
	}
	for _, n := range []audit.NamedCount{{Name: string(audit.Justified), Count: x.BreakGlass.Justified}, {Name: string(audit.NotJustified), Count: x.BreakGlass.NotJustified},
		{Name: string(audit.Referred), Count: x.BreakGlass.Referred}, {Name: "open", Count: x.BreakGlass.Open}} {
		if n.Count > 0 {
			out.Reviews = append(out.Reviews, &v1.NamedCount{Name: n.Name, Count: count(n.Count)})
		}
	}
	for _, c := range x.Custodians {
		out.Custodians = append(out.Custodians, &v1.CustodianCount{Custodian: string(c.Key), States: namedCounts(c.States)})
	}
	return out, nil
}

func (s *server) alertRequest(a admitted) broker.AlertRequest {
	return broker.AlertRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Arrived: a.arrived, TokenProblem: a.tokenProblem()}
}

var alertStates = map[audit.AlertStep]v1.AlertState{audit.AlertOpen: v1.AlertState_ALERT_STATE_OPEN, audit.AlertTaken: v1.AlertState_ALERT_STATE_TAKEN,
	audit.AlertClosed: v1.AlertState_ALERT_STATE_CLOSED}

func alert(f audit.Flagged) *v1.Alert {
	out := &v1.Alert{Position: f.Position, At: instant(f.At), Access: f.Alert.Of, Requester: requester(f.Alert.Requester), Score: count(f.Alert.Score),
		RulesVersion: f.Alert.Version, State: alertStates[f.Step], Delivered: instant(f.Delivered)}
	for _, r := range f.Alert.Rules {
		out.Rules = append(out.Rules, &v1.FiredRule{Rule: string(r.Rule), Weight: count(r.Weight), Count: count(r.Count), Usual: count(r.Usual), Explained: r.Explained})
	}
	if f.Newest != nil {
		out.Newest = ledgerEntry(*f.Newest)
	}
	return out
}

func evidence(e audit.Evidence) *v1.Evidence {
	out := &v1.Evidence{StaffList: e.Staff, OwnRecord: e.Own, NextOfKin: e.Kin, SameAddress: e.SameAddress, Colleague: e.Colleague, Surname: count(e.Surname),
		Watched: e.Watched, DaysDead: count(max(e.DaysDead-1, 0)), Registered: e.Registered, RecordSeen: e.Record, OwnPartHeard: e.OwnHeard, CareTeam: e.CareTeam}
	for _, n := range e.Near {
		out.Near = append(out.Near, &v1.NearEvent{Kind: string(n.Kind), Days: count(n.Days)})
	}
	return out
}

func precisions(list []audit.Precision) []*v1.RulePrecision {
	var out []*v1.RulePrecision
	for _, p := range list {
		out = append(out, &v1.RulePrecision{Rule: string(p.Rule), Raised: count(p.Raised), Justified: count(p.Justified), NotJustified: count(p.NotJustified), Referred: count(p.Referred)})
	}
	return out
}

func namedCounts(list []audit.NamedCount) []*v1.NamedCount {
	var out []*v1.NamedCount
	for _, n := range list {
		out = append(out, &v1.NamedCount{Name: n.Name, Count: count(n.Count)})
	}
	return out
}
