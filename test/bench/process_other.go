//go:build !linux

package main

import (
	"errors"
	"time"
)

var errSystem = errors.New("the comparison reads clocks and memory of other processes, which it knows how to do on Linux only")

func cpuTime(int) (time.Duration, error) { return 0, errSystem }

func memory(int) (now, peak int64, err error) { return 0, 0, errSystem }
