package broker

import (
	"context"
	"errors"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// AlertRequest is a call of WorklistService.
type AlertRequest struct {
	ID           string
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Reason       string // why the question is asked
	Key          string // 32 hex digits; makes what is done safe to repeat; "" makes one
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request
}

// precisionFor is how far back precision is counted.
const precisionFor = 365 * 24 * time.Hour

// ListAlerts returns alerts about the staff of an IG officer's organisation, newest first, and what officers have found of each rule's: those that are not
// closed, or all. It names no person. next is what to give as before for the next page, 0 if there is nothing more. The question is itself an entry. The
// error is always a [*Refusal].
func (b *Broker) ListAlerts(ctx context.Context, req AlertRequest, closed bool, before uint64, limit int) (list []audit.Flagged, precision []audit.Precision, next uint64, r audit.Receipt, err error) {
	a, by, in, refusal := b.openAlerts(ctx, req, "ListAlerts")
	if refusal != nil {
		return nil, nil, 0, audit.Receipt{}, refusal
	}
	defer a.end()
	switch {
	case req.Reason == "":
		return nil, nil, 0, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	case limit < 0 || limit > 1000:
		return nil, nil, 0, audit.Receipt{}, a.invalidly("limit: 1 to 1000")
	}
	list, next, r, err = b.cfg.Ledger.Alerts(a.ctx, by, in, closed, before, limit)
	if err == nil {
		precision, _, err = b.cfg.Ledger.Precision(a.ctx, by, in, req.Arrived.Add(-precisionFor), time.Time{}) // of the newest, where there are very many: what reviewers find now is what counts
	}
	if err != nil {
		a.outcome(string(Transient))
		return nil, nil, 0, audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.outcome("answered")
	return list, precision, next, r, nil
}

// ShowAlert returns one alert with the access that it is about. It is on record as a question about the person whose record was asked for. The error is always
// a [*Refusal]; an alert that the officer may not see is Invalid.
func (b *Broker) ShowAlert(ctx context.Context, req AlertRequest, position uint64) (audit.Flagged, audit.Receipt, error) {
	a, by, in, refusal := b.openAlerts(ctx, req, "ShowAlert")
	if refusal != nil {
		return audit.Flagged{}, audit.Receipt{}, refusal
	}
	defer a.end()
	if req.Reason == "" {
		return audit.Flagged{}, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	}
	f, r, err := b.cfg.Ledger.Alert(a.ctx, by, in, position)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return audit.Flagged{}, audit.Receipt{}, a.invalidly("position: no such alert of this organisation; the list of alerts names them")
	case err != nil:
		a.outcome(string(Transient))
		return audit.Flagged{}, audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.outcome("answered")
	return f, r, nil
}

// HandleAlert records that an alert was taken, closed with an outcome and a reason, or reopened. The error is always a [*Refusal]; an alert that the officer
// may not see is Invalid, like one that is not there.
func (b *Broker) HandleAlert(ctx context.Context, req AlertRequest, position uint64, step audit.AlertStep, outcome audit.ReviewOutcome, note string) (audit.Receipt, error) {
	operation := map[audit.AlertStep]string{audit.AlertTaken: "TakeAlert", audit.AlertClosed: "CloseAlert", audit.AlertReopened: "ReopenAlert"}[step]
	a, by, in, refusal := b.openAlerts(ctx, req, operation)
	if refusal != nil {
		return audit.Receipt{}, refusal
	}
	defer a.end()
	receipt, err := b.cfg.Ledger.HandleAlert(context.WithoutCancel(a.ctx), by, in, position, step, outcome, note, keyOr(req.Key))
	switch {
	case err == nil:
		a.outcome("recorded")
		return receipt, nil
	case errors.Is(err, audit.ErrNotFound):
		return audit.Receipt{}, a.invalidly("position: no such alert of this organisation; the list of alerts names them")
	case errors.Is(err, audit.ErrStale):
		return audit.Receipt{}, a.invalidly("position: this alert does not stand so that this can be done: what is open is taken or closed, what was taken is closed, what is closed is reopened; the list of alerts, with closed ones, says how it stands")
	case errors.Is(err, audit.ErrInvalid):
		return audit.Receipt{}, a.invalidly("note: closing needs an outcome (justified, not-justified, referred) and a reason, reopening a reason; and a key of its own each")
	}
	a.outcome(string(Transient))
	return audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
}

// Summarise counts what happened in a time within what an IG officer may see: accesses by day and purpose, how they ended, break-glass, alerts and what was
// found of them, and how custodians stood. It names nobody. The question is itself an entry. The error is always a [*Refusal].
func (b *Broker) Summarise(ctx context.Context, req AlertRequest, from, until time.Time) (audit.Activity, audit.Receipt, error) {
	a, by, in, refusal := b.openAlerts(ctx, req, "Summarise")
	if refusal != nil {
		return audit.Activity{}, audit.Receipt{}, refusal
	}
	defer a.end()
	switch {
	case req.Reason == "":
		return audit.Activity{}, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	case !from.Before(until) || until.Sub(from) > audit.MaxActivity:
		return audit.Activity{}, audit.Receipt{}, a.invalidly("from, until: a time of at most 32 days")
	}
	out, r, err := b.cfg.Ledger.Activity(a.ctx, by, in, from, until)
	if err != nil {
		a.outcome(string(Transient))
		return audit.Activity{}, audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.outcome("answered")
	return out, r, nil
}

// openAlerts lets IG officers in, and says what they may see.
func (b *Broker) openAlerts(ctx context.Context, req AlertRequest, operation string) (*access, audit.Actor, audit.Bounds, *Refusal) {
	return b.openOverrides(ctx, OverrideRequest{ID: req.ID, Face: req.Face, Requester: req.Requester, Role: req.Role, Reason: req.Reason, Arrived: req.Arrived,
		TokenProblem: req.TokenProblem}, operation)
}
