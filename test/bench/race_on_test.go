//go:build race

package main

// underRace says that these tests run with the race detector.
const underRace = true
