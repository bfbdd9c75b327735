package broker

import (
	"context"
	"slices"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// RecordDelegation lets a carer see the caller's own record, from the moment that this returns. Only the person themselves can (C-6). The error is
// always a [*Refusal].
func (b *Broker) RecordDelegation(ctx context.Context, req ObjectionRequest, d consent.Delegation) (consent.Delegation, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "RecordDelegation", consent.RuleDelegation, req.Role.RecordsObjections && req.Requester.Kind == record.Person)
	if refusal != nil {
		return consent.Delegation{}, audit.Receipt{}, refusal
	}
	defer a.end()
	for _, k := range d.Custodians {
		if !slices.ContainsFunc(b.custodians, func(c *custodian) bool { return c.Rules.Custodian.Key == k }) {
			return consent.Delegation{}, audit.Receipt{}, a.invalidly("custodians: no such custodian; ListCustodians names them")
		}
	}
	if slices.Contains(a.numbers(), d.Carer) {
		return consent.Delegation{}, audit.Receipt{}, a.invalidly("carer_nhs_number: it must be another person's")
	}
	if !b.takes(d.Carer) {
		return consent.Delegation{}, audit.Receipt{}, a.invalidly("carer_nhs_number: give an NHS number that this deployment takes")
	}
	d, receipt, err := b.cfg.Ledger.RecordDelegation(context.WithoutCancel(a.ctx), by, a.subject.Number, d, keyOr(req.Key))
	return d, receipt, a.done(err, "delegation")
}

// WithdrawDelegation ends a delegation: for the person, and for staff who may record objections, because it can only take something away. The error is
// always a [*Refusal]; a delegation that is not this person's is Invalid.
func (b *Broker) WithdrawDelegation(ctx context.Context, req ObjectionRequest, id string) (consent.Delegation, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "WithdrawDelegation", consent.RuleDelegation, req.Role.RecordsObjections)
	if refusal != nil {
		return consent.Delegation{}, audit.Receipt{}, refusal
	}
	defer a.end()
	d, receipt, err := b.cfg.Ledger.WithdrawDelegation(context.WithoutCancel(a.ctx), by, a.numbers(), id, keyOr(req.Key))
	return d, receipt, a.done(err, "delegation")
}

// ShowDelegations lists whom the person lets see their record, ended ones too; the look is recorded. The error is always a [*Refusal].
func (b *Broker) ShowDelegations(ctx context.Context, req ObjectionRequest) ([]consent.Delegation, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "ShowDelegations", consent.RuleDelegation, req.Role.SeesObjections)
	if refusal != nil {
		return nil, audit.Receipt{}, refusal
	}
	defer a.end()
	list, receipt, err := b.cfg.Ledger.ReadDelegations(context.WithoutCancel(a.ctx), by, a.numbers())
	return list, receipt, a.done(err, "delegation")
}
