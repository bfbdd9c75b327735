//go:build race

package merge

// under the race detector everything takes ten times as long, and nothing here runs concurrently: large tests are thinned.
const thinned = true
