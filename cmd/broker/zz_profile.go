package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
)

func init() {
	p := os.Getenv("MCR_CPUPROFILE")
	if p == "" || len(os.Args) < 2 || os.Args[1] != "-config" {
		return
	}
	mem := os.Getenv("MCR_MEM") != ""
	if mem {
		runtime.MemProfileRate = 512
	}
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGUSR1)
	go func() {
		on := false
		for range c {
			if mem {
				f, _ := os.Create(p + map[bool]string{false: ".0", true: ".1"}[on])
				runtime.GC()
				runtime.GC()
				pprof.Lookup("allocs").WriteTo(f, 0)
				f.Close()
			} else if on {
				pprof.StopCPUProfile()
			} else {
				f, _ := os.Create(p)
				pprof.StartCPUProfile(f)
			}
			on = !on
		}
	}()
}
