//go:build race

package torture

// underRace says that these tests run with the race detector. What they torture is built without it, so under it they take fewer rounds; the whole runs
// in `make test`.
const underRace = true
