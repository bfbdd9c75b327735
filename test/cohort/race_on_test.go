//go:build race

package cohort_test

// raceDetector says that everything runs ten times slower. Nothing here runs in parallel, so it has little to find.
const raceDetector = true
