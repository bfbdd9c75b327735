package main

import "golang.org/x/sys/unix"

const readTerminal, readSize = unix.TCGETS, unix.TIOCGWINSZ
