package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Operator is who does something to the ledger at the machine itself, and why: both are recorded.
type Operator struct{ User, Reason string }

func (o Operator) actor() audit.Actor {
	return audit.Actor{Requester: record.Requester{Kind: record.Professional, User: o.User}, RoleName: "operator", Reason: o.Reason, Face: "operator"}
}

func (o Operator) check() error {
	if o.User == "" || o.Reason == "" {
		return errors.New("say who does it and why: -by USER -reason TEXT. Both are recorded")
	}
	return nil
}

// withLedger opens the configured ledger for one task, as a start would, and closes it. A ledger on SQLite must not be in use.
func withLedger(ctx context.Context, cfg Config, continues *audit.Predecessor, f func(*audit.Ledger) error) error {
	keys, err := audit.LoadKeys(cfg.Ledger.Keys)
	if err != nil {
		return fmt.Errorf("ledger.keys: %w", err)
	}
	begun, err := readBeginnings(cfg.Ledger.Keys)
	if err == nil && continues == nil {
		err = begun.check(cfg.Ledger)
	}
	if err != nil {
		return err
	}
	store, err := openStore(ctx, cfg.Ledger)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	sinks, err := checkpointSinks(cfg.Ledger)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	l, err := audit.Open(ctx, audit.Config{Store: store, Keys: keys, Origin: cfg.Ledger.Origin, Replica: "operator", Sinks: sinks, Continues: continues, Begun: begun.words(false),
		Deadline: time.Minute})
	if err != nil {
		return errors.Join(fmt.Errorf("ledger: %w", err), store.Close())
	}
	if _, err = begun.note(cfg.Ledger.Origin); err == nil {
		err = f(l)
	}
	end, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if failed := l.Shutdown(end); failed != nil {
		return errors.Join(err, errors.New("the ledger did not close in time"))
	}
	return errors.Join(err, store.Close())
}

// LedgerExport writes the whole ledger into a file that must not be there yet, for `verify export`. With clear, what people's entries say is in it in clear.
func LedgerExport(ctx context.Context, cfg Config, path string, clear bool, by Operator, w io.Writer) error {
	if path == "" {
		return errors.New("ledger export: name the file to write: -out FILE")
	}
	if err := by.check(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("%s cannot be made, or is there already", path)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	err = withLedger(ctx, cfg, nil, func(l *audit.Ledger) error {
		_, err := l.Export(ctx, by.actor(), clear, func(lines []byte) error {
			_, err := out.Write(lines)
			return err
		})
		return err
	})
	if err = errors.Join(err, out.Flush(), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // half of an export is none
		return err
	}
	fmt.Fprintf(w, "%s is written\n", path)
	return nil
}

// LedgerArchive writes the archive of one closed key epoch. The file must not be there yet, unless again says that the archive of the same epoch of the same ledger is to be written anew: because
// something of it was erased since. It is there whole or not at all, and durable when this returns.
func LedgerArchive(ctx context.Context, cfg Config, epoch uint, path string, again bool, by Operator, w io.Writer) error {
	if path == "" || epoch == 0 || epoch > math.MaxUint32 {
		return errors.New("ledger archive: name a closed key epoch and the file to write: -epoch N -out FILE")
	}
	if err := by.check(); err != nil {
		return err
	}
	switch old, err := archiveHead(path, cfg.Ledger.Origin, epoch); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s cannot be read", path)
	case !again:
		return fmt.Errorf("%s is there already; -again writes an archive anew", path)
	case !old:
		return fmt.Errorf("%s is not the archive of key epoch %d of this ledger: nothing is written over anything else", path, epoch)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".archive-*") // 0600
	if err != nil {
		return fmt.Errorf("no file can be made beside %s", path)
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is not there once it has its name
	out := bufio.NewWriterSize(f, 1<<20)
	var of audit.Archived
	said := time.Now()
	err = withLedger(ctx, cfg, nil, func(l *audit.Ledger) (err error) {
		of, _, err = l.Archive(ctx, by.actor(), uint32(epoch), out, func(done, all uint64) {
			if done < all && time.Since(said) > 5*time.Second {
				said = time.Now()
				fmt.Fprintf(w, "%d of %d entries\n", done, all)
			}
		})
		return err
	})
	if err = errors.Join(err, out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if again {
		err = os.Rename(f.Name(), path)
	} else {
		err = os.Link(f.Name(), path) // which does not write over what came meanwhile
	}
	if err != nil {
		return fmt.Errorf("%s cannot be made, or is there already", path)
	}
	d, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close()) // the file's name is durable too
	}
	if err != nil {
		return fmt.Errorf("the folder of %s cannot be made durable", path)
	}
	fmt.Fprintf(w, "%s is written: key epoch %d, entries %d to %d, %d of them erased, under a checkpoint of %d\n", path, of.Epoch, of.From, of.Until-1, of.Erased, of.Checkpoint)
	return nil
}

// archiveHead reports whether the file at a path begins as an archive of an epoch of a ledger does.
func archiveHead(path, origin string, epoch uint) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return audit.IsArchive(b, origin, uint32(epoch)), err
}

// LedgerErase erases payloads on a legal basis. before is a date or empty; numberFile names a file with the person's NHS numbers, one a line, - for standard input,
// or is empty for everybody (retention only).
func LedgerErase(ctx context.Context, cfg Config, basis, reference, before, numberFile string, by Operator, w io.Writer) error {
	if err := by.check(); err != nil {
		return err
	}
	e := audit.Erasure{Basis: audit.Basis(basis), Reference: reference}
	if before != "" {
		t, err := time.Parse(time.DateOnly, before)
		if err != nil {
			return errors.New("ledger erase: -before is a date such as 2018-04-01; what was recorded on that day and later stays")
		}
		e.Before = t
	}
	if numberFile != "" {
		text, err := readNumbers(numberFile)
		if err != nil {
			return errors.New("ledger erase: -nhs-number-file cannot be read: name a file that holds NHS numbers, one a line, or - for standard input")
		}
		for line := range strings.Lines(text) {
			n, err := record.ParseNHSNumber(strings.TrimSpace(line))
			if err != nil {
				return fmt.Errorf("ledger erase: -nhs-number-file: %w", err)
			}
			e.Subjects = append(e.Subjects, n)
		}
	}
	return withLedger(ctx, cfg, nil, func(l *audit.Ledger) error {
		done, err := l.Erase(ctx, by.actor(), e)
		if err == nil {
			fmt.Fprintf(w, "%d entries erased, %d had to stay\n", done.Entries, done.Kept)
		}
		return err
	})
}

func readNumbers(path string) (string, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return "", err
		}
		defer f.Close()
	}
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	return string(b), err
}

// LedgerContinue begins the configured ledger, which must be new, as the continuation of one that ended in a SQLite file: it names that one's last checkpoint, and takes over
// what people chose. The keys are the same. Where checkpoints of the old one are kept beside its file, it must be no older than they are, unless older says that nothing newer is left.
func LedgerContinue(ctx context.Context, cfg Config, from string, older bool, w io.Writer) error {
	if _, err := os.Stat(from); from == "" || err != nil {
		return errors.New("ledger continue: name the file of the ledger that ended: -from FILE")
	}
	keys, err := audit.LoadKeys(cfg.Ledger.Keys)
	if err != nil {
		return fmt.Errorf("ledger.keys: %w", err)
	}
	old, err := sqlite.Open(ctx, sqlite.Config{Path: from, Readers: 1})
	if err != nil {
		return fmt.Errorf("the old ledger: %w", err)
	}
	before, err := audit.ReadPredecessor(ctx, old, keys, time.Now())
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("the old ledger: %w", err)
	}
	if err := newestOf(from, before.State); err != nil && !older {
		return err
	}
	return withLedger(ctx, cfg, before, func(*audit.Ledger) error {
		fmt.Fprintf(w, "%s continues %s after %d entries; %d objections and delegations are carried over\n", cfg.Ledger.Origin, before.State.Origin, before.State.Size, before.Carried())
		return nil
	})
}

// newestOf holds the state of an old ledger against the folder of checkpoints beside its file, if there is one: whoever continued an old backup would drop the objections of
// everybody who spoke since.
func newestOf(from string, ends audit.State) error {
	dir := filepath.Join(filepath.Dir(from), "checkpoints")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	folder, err := sink.NewFolder(dir)
	if err != nil {
		return err
	}
	kept, err := folder.Newest()
	switch {
	case err != nil:
		return err
	case kept.Origin != ends.Origin:
		return nil // of another ledger, or of none
	case kept.Size > ends.Size, kept.Size == ends.Size && kept.Root != ends.Root:
		return fmt.Errorf("%s holds a checkpoint of %d entries of the old ledger, and this file is signed up to %d: it is an old backup, or a copy that went on by itself. Continue the newest file that there is; "+
			"if none is newer, -adopt continues this one, and whoever objected after it must be asked again", dir, kept.Size, ends.Size)
	}
	return nil
}
