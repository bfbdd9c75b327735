//go:build race

package test

// underRace says that these tests run with the race detector. What they drive is built without it, so under it the long ones compare fewer; the whole
// runs in `make test`.
const underRace = true
