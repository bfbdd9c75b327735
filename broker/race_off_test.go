//go:build !race

package broker_test

const thinned = 1
