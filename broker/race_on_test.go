//go:build race

package broker_test

// thinned is how many times fewer cases the long tests take under the race detector, which makes them about ten times slower. The whole runs in
// `make test`.
const thinned = 7
