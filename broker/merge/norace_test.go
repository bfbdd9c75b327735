//go:build !race

package merge

const thinned = false
