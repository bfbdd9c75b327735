package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how long a process has run on all cores together, to the nanosecond: the clock of another process is
// (^pid << 3) | CPUCLOCK_SCHED (Linux, include/linux/posix-timers.h).
func cpuTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil { //nolint:gosec // a process id is a small number
		return 0, errors.New("the process's clock cannot be read")
	}
	return time.Duration(t.Nano()), nil
}

// memory returns how many bytes a process has in memory, and the most it ever had.
func memory(pid int) (now, peak int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, errors.New("the process's status cannot be read")
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			continue
		}
		kB, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kB << 10
		case "VmHWM:":
			peak = kB << 10
		}
	}
	if now == 0 || peak == 0 {
		return 0, 0, errors.New("the process's status does not tell")
	}
	return now, max(now, peak), nil // the kernel counts both in batches, each thread its own: the peak may lag behind what is there
}
