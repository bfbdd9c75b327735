//go:build !race

package years_test

const underRace = false
