//go:build unix

package hl7v2_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
)

// What one part of a message says is not read again for each of another: both four times as large are four times the work, and not sixteen.
func TestHostileMessagesStayLinear(t *testing.T) {
	const head = `MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8` + "\r"
	const pid = "PID|1||" + held + "^^^NHS^NH"
	for name, shape := range map[string]func(n int) string{
		"one long PID and many": func(n int) string {
			long := strings.Repeat("x", 200*n)
			return pid + "||" + long + "||||||" + long + "|||||||||1|1\r" + strings.Repeat(pid+"||y||||||y\r", n/4)
		},
		"practices of one person": func(n int) string { return pid + "\r" + strings.Repeat("PD1|||A^^B|C\r", n) },
		"results of one long report": func(n int) string {
			return pid + "\rOBR|1||F1|X^Y^L||||||||||||||||||20240101^" + strings.Repeat("x", 500*n) + "||LAB^" + strings.Repeat("x", 500*n) + "|F\r" + strings.Repeat("OBX|1|NM|1^A^L||5||||||F\r", n)
		},
		"results of a stranger of many numbers": func(n int) string {
			return "PID|1||" + other + "^^^NHS^NH^" + strings.Repeat("x", 50*n) + "\r" + strings.Repeat("OBX|1|NM|1^A^L||5||||||F\r", n)
		},
	} {
		took := func(n int) time.Duration {
			text := []byte(head + shape(n))
			least := time.Hour
			for range 5 { // the least of them: memory is tidied up now and then
				begin := spent(t)
				if _, _, err := hl7v2.Convert(text, "", number(t, held)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				least = min(least, spent(t)-begin)
			}
			return least
		}
		const n = 1000
		once, fourfold := took(n), took(4*n)
		if fourfold > 9*once {
			t.Errorf("%s: %v, and %v for four times as much", name, once, fourfold)
		}
		t.Logf("%s: %v, and %v for four times as much", name, once, fourfold)
	}
}

// spent is the processor's time that this process has taken: on a busy machine the time on the wall says nothing.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
