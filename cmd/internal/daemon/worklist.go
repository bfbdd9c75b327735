package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// worklistRules are those of the file that is named, or those built in.
func worklistRules(cfg Config) (*worklist.Rules, error) {
	if cfg.Worklist.Rules == "" {
		return worklist.Shipped(), nil
	}
	text, err := readCapped(cfg.Worklist.Rules)
	if err != nil {
		return nil, fmt.Errorf("worklist.rules: %w", &Problems{cfg.Worklist.Rules, []Problem{{Want: openProblem(err)}}})
	}
	rules, err := worklist.ParseRules(text)
	var line *worklist.LineError
	if errors.As(err, &line) {
		return nil, fmt.Errorf("worklist.rules: %w", &Problems{cfg.Worklist.Rules, []Problem{{Line: line.Line, Want: line.Want}}})
	}
	return rules, err
}

// loadLists reads the staff list and the watch list that are configured. A list that cannot be read replaces nothing.
func loadLists(cfg Config, lists *worklist.Lists) error {
	var staff, watched io.Reader
	for _, l := range []struct {
		key, path string
		in        *io.Reader
	}{{"worklist.staff", cfg.Worklist.Staff, &staff}, {"worklist.watched", cfg.Worklist.Watched, &watched}} {
		if l.path == "" {
			continue
		}
		f, err := os.Open(l.path)
		if err != nil {
			return fmt.Errorf("%s: %w", l.key, &Problems{l.path, []Problem{{Want: openProblem(err)}}})
		}
		defer f.Close()
		*l.in = f
	}
	if err := lists.Load(staff, watched); err != nil {
		return fmt.Errorf("worklist: staff or watched: %w", err)
	}
	return nil
}

// StaffList turns a list of staff, or of people whose records are watched, into one of keyed hashes, which the settings worklist.staff and worklist.watched
// name. The broker never sees the list itself: keep it where it came from.
func StaffList(cfg Config, kind, from, to string, w io.Writer) (err error) {
	write := map[string]func(io.Reader, io.Writer, []byte) (int, error){"staff": worklist.WriteStaff, "watched": worklist.WriteWatched}[kind]
	if write == nil || from == "" || to == "" {
		return errors.New("staff list: give -kind staff or watched, -from the CSV file or - for standard input, and -out the file to write")
	}
	keys, err := loadKeys(cfg.Ledger.Keys)
	if err != nil {
		return err
	}
	in := io.Reader(os.Stdin)
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return errors.New("staff list: -from cannot be opened")
		}
		defer f.Close()
		in = f
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.New("staff list: -out cannot be made, or is there already: nothing is overwritten")
	}
	rows, err := write(in, out, keys.staff)
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(to) // half a list is none
		return fmt.Errorf("staff list: %w", err)
	}
	fmt.Fprintf(w, "%d rows; name the file in worklist.%s. A running broker takes it up on SIGHUP\n", rows, kind)
	return nil
}

// readsAlerts reports who is of those that read alerts: webhook and mail tell nothing of alerts about them.
func readsAlerts(table *policy.Table) func(record.Requester) bool {
	return func(r record.Requester) bool { return table.Role(r).SearchesLedger }
}
