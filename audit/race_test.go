//go:build race

package audit_test

// underRace takes fewer cases where the race detector makes each ten times as dear; the plain run takes all.
const underRace = true
