package authn

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// maxActingLifetime is the longest time from iat to exp of a statement of the acting person.
const maxActingLifetime = 5 * time.Minute

// maxReplays bounds the statements remembered per client: more than 300 a second for the whole of their life. One client that fills
// its own set hinders nobody else.
const maxReplays = 100_000

// actingPerson reads X-Acting-Person: a JWS that the system itself signed with a registered key, for this one call. system is who the
// access token says is asking. The error is ErrBusy, or a [*TokenError] of ErrActingPerson.
func (v *Verifier) actingPerson(system record.Requester, acting []string, now time.Time) (record.Requester, error) {
	refuse := func(check string) (record.Requester, error) {
		return record.Requester{}, &TokenError{ErrActingPerson, check}
	}
	if len(acting) != 1 {
		return refuse("more than one")
	}
	c := v.clients[system.Client]
	if c == nil || c.keys == nil {
		return refuse("client not registered")
	}
	s, check := readSigned(acting[0])
	if check != "" {
		return refuse(check)
	}
	// typ may be missing; that of an access token says that somebody mixes the two up.
	if s.typ != "" && s.typ != "jwt" && s.typ != "acting-person+jwt" {
		return refuse("type")
	}
	keys := c.keys[s.keyID]
	if len(keys) == 0 {
		return refuse("key id")
	}
	if !s.verifiedBy(c.algorithms, keys) {
		return refuse("signature")
	}
	if issuer, ok := s.claims.required("iss", maxID); !ok || issuer != c.ID {
		return refuse("issuer")
	}
	if !s.claims.namesAudience(v.audience) {
		return refuse("audience")
	}
	if check, expired := s.claims.times(now, v.skew, maxActingLifetime); expired {
		return refuse("expiry")
	} else if check != "" {
		return refuse(check)
	}
	if s.claims.has("cnf") {
		return refuse("binding")
	}
	person := record.Requester{Kind: record.Professional, Client: system.Client, Issuer: system.Issuer, TokenID: system.TokenID}
	var ok bool
	if person.User, ok = s.claims.required("sub", maxID); !ok || !isOnePerson(person.User) || person.User == c.ID {
		return refuse("user")
	}
	if person.Name, ok = s.claims.text("name", maxName); !ok {
		return refuse("name")
	}
	if person.RoleProfile, ok = s.claims.required("role_profile_id", maxID); !ok {
		return refuse("role")
	}
	if person.JobRole, ok = s.claims.required("job_role", maxID); !ok || !isJobRole(person.JobRole) {
		return refuse("role")
	}
	organisation, ok := s.claims.required("org_code", 10)
	person.Organisation = record.ODSCode(organisation)
	if !ok || !slices.Contains(c.Organisations, person.Organisation) {
		return refuse("organisation")
	}
	id, ok := s.claims.required("jti", maxID)
	if !ok {
		return refuse("token id")
	}
	ends, _ := s.claims.instant("exp") // times has read it
	switch err := c.replays.take(id, ends.Add(v.skew), now); {
	case errors.Is(err, errReplayFull):
		return record.Requester{}, ErrBusy
	case err != nil:
		return refuse("used before")
	}
	if v.used != nil && v.used(c.ID+"\x00"+id, ends.Add(v.skew)) {
		return refuse("used before")
	}
	return person, nil
}

// replays remembers the ids of statements until they have expired. It lives in the process: two replicas each accept a statement once, unless
// Config.Used says that the other one has.
type replays struct {
	mu    sync.Mutex
	until map[string]time.Time
	swept time.Time
}

// take remembers the id until that time. The error is errReplayed or errReplayFull.
func (r *replays) take(id string, until, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	if end, there := r.until[id]; there && now.Before(end) {
		return errReplayed
	}
	if now.Sub(r.swept) >= time.Minute || len(r.until) >= maxReplays && now.Sub(r.swept) >= time.Second {
		r.swept = now
		for k, end := range r.until {
			if !now.Before(end) {
				delete(r.until, k)
			}
		}
	}
	if len(r.until) >= maxReplays {
		return errReplayFull
	}
	r.until[id] = until
	return nil
}
