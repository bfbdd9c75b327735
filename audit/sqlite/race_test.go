//go:build race

package sqlite

// underRace takes fewer cases where the race detector makes each ten times as dear; the plain run takes all.
const underRace = true
