package fhirr4

import "time"

// SetClock makes tokens end by another clock.
func (s *Source) SetClock(now func() time.Time) { s.tokens.now = now }

// ReadToken is how the answer of a token endpoint is read.
var ReadToken = readToken
