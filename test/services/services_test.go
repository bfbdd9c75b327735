//go:build unix

package services

import (
	"testing"
)

// A server comes back after a crash with what was committed, and two of them do not meet.
func TestPostgreSQL(t *testing.T) {
	s := PostgreSQL(t)
	s.Do(t, "CREATE TABLE kept (n int)")
	s.Do(t, "INSERT INTO kept VALUES (1)")
	s.Crash(t)
	if err := s.do("SELECT 1"); err == nil {
		t.Fatal("a server that was crashed answers")
	}
	s.Start(t)
	s.Do(t, "DO $$ BEGIN IF (SELECT count(*) FROM kept) <> 1 THEN RAISE 'lost'; END IF; END $$")
	standby := s.Standby(t)
	standby.Do(t, "DO $$ BEGIN IF NOT pg_is_in_recovery() THEN RAISE 'not a standby'; END IF; END $$")
	standby.Promote(t)
	standby.Do(t, "INSERT INTO kept VALUES (2)")
	if a, b := s.Database(t), s.Database(t); a == b {
		t.Error("two databases have one name")
	}
}

// A server that is killed and started anew is empty, and one that is stalled goes on.
func TestRedis(t *testing.T) {
	s := Redis(t)
	if got := s.Do(t, "SET a 1"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	s.Stall(t)()
	if got := s.Do(t, "EXISTS a"); got != ":1" {
		t.Errorf("after it was stalled: %s, want :1", got)
	}
	s.Kill(t)
	s.Start(t)
	if got := s.Do(t, "EXISTS a"); got != ":0" {
		t.Errorf("after it was killed: %s, want :0", got)
	}
}
