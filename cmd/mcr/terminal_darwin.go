package main

import "golang.org/x/sys/unix"

const readTerminal, readSize = unix.TIOCGETA, unix.TIOCGWINSZ
