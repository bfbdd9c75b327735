//go:build race

package years_test

// underRace says that these tests run with the race detector, under which a ledger is filled and asked ten times as slowly: it is as small as with -short. The whole runs
// in `make test`.
const underRace = true
