package fhirr4

import "time"

// SetClock makes tokens end by another clock.
func (s *Source) SetClock(now func() time.Time) { s.tokens.now = now }
