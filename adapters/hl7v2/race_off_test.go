//go:build !race

package hl7v2_test

// underRace says whether the race detector watches.
const underRace = false
