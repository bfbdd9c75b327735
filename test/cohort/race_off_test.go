//go:build !race

package cohort_test

const raceDetector = false
