package authn

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Verify finds out who asks. authorization and acting are all values of the headers Authorization and X-Acting-Person (or of the gRPC
// metadata of the same meaning), now is the time of the request. The error wraps one of [ErrNoToken], [ErrTooManyTokens], [ErrToken],
// [ErrExpired], [ErrKeysUnavailable], [ErrBusy] or [ErrActingUnwanted]; the first five mean that nobody is known to be asking.
// It may wait for the issuer's keys, no longer than ctx.
func (v *Verifier) Verify(ctx context.Context, authorization, acting []string, now time.Time) (Caller, error) {
	token, err := bearer(authorization)
	if err != nil {
		return Caller{}, err
	}
	s, check := readSigned(token)
	if check != "" {
		return Caller{}, &TokenError{ErrToken, check}
	}
	refuse := func(check string) (Caller, error) { return Caller{}, &TokenError{ErrToken, check} }

	name, ok := s.claims.required("iss", 512)
	is := v.issuers[name]
	if !ok || is == nil {
		return refuse("issuer")
	}
	if !slices.Contains(is.algorithms, algorithms[s.alg]) || s.alg == "" {
		return refuse("algorithm")
	}
	if s.typ != "at+jwt" && s.typ != "jwt" {
		return refuse("type")
	}
	keys, err := is.keys.find(ctx, s.keyID, now)
	switch {
	case errors.Is(err, errUnknownKey):
		return refuse("key id")
	case err != nil:
		return Caller{}, err
	}
	if !is.believed.has(token, keys, now) {
		if !s.verifiedBy(is.algorithms, keys) {
			return refuse("signature")
		}
		is.believed.add(token, keys, now)
	}
	// From here on the issuer says it; what is left is whether it says it to us, now, and clearly.
	if !s.claims.namesAudience(v.audience) {
		return refuse("audience")
	}
	if check, expired := s.claims.times(now, v.skew, is.MaxLifetime); expired {
		return Caller{}, ErrExpired
	} else if check != "" {
		return refuse(check)
	}
	if s.claims.has("cnf") { // bound to a certificate or a key of the sender (RFC 8705, RFC 9449): as a bearer token it is stolen
		return refuse("binding")
	}
	caller, check := v.caller(is, s.claims)
	if check != "" {
		return refuse(check)
	}
	if caller.Requester.Kind != record.System {
		if len(acting) > 0 {
			return Caller{}, ErrActingUnwanted
		}
		return caller, nil
	}
	if len(acting) == 0 {
		caller.Problem = ErrNoActingPerson
		return caller, nil
	}
	person, err := v.actingPerson(caller.Requester, acting, now)
	switch {
	case errors.Is(err, ErrBusy):
		return Caller{}, err
	case err != nil:
		caller.Problem = err
		return caller, nil
	}
	caller.Requester = person
	return caller, nil
}

// bearer returns the one token (RFC 6750 section 2.1).
func bearer(authorization []string) (string, error) {
	switch len(authorization) {
	case 0:
		return "", ErrNoToken
	case 1:
	default:
		return "", ErrTooManyTokens
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", &TokenError{ErrToken, "scheme"}
	}
	return token, nil
}
