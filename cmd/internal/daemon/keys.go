package daemon

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// keySet is every secret of a deployment.
type keySet struct {
	ledger              *audit.Keys
	ids, handles, hints []byte
	staff               []byte // of the hashes of people in staff and watch lists
}

// identityFile holds 32 random bytes from which the keys of ids and handles are derived. Changing it changes every id and handle.
const identityFile = "identity.key"

// CreateKeys makes the key files of a new deployment in dir, which must not hold any yet: those of the ledger, and that of ids and handles. They are
// readable by the owner only, and durable when it returns. Nothing is ever overwritten.
func CreateKeys(dir string) error {
	if _, err := audit.CreateKeys(dir); err != nil {
		return err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never fails (Go 1.24)
	path := filepath.Join(dir, identityFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("%s cannot be made, or is there already", path)
	}
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s cannot be written", path)
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close()) // the file's name is durable too
	}
	if err != nil {
		return fmt.Errorf("%s cannot be made durable", dir)
	}
	return nil
}

// AddKeys makes the next keys of a kind beside those that are there: epoch, for what is sealed and found from then on, or signing.
func AddKeys(dir, kind string, w io.Writer) error {
	add := map[string]func(string) (uint32, error){"epoch": audit.AddEpoch, "signing": audit.AddSigningKey}[kind]
	number, err := add(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %d is made; a running broker takes it up on SIGHUP\n", kind, number)
	return nil
}

// PublicKeys prints the public halves of the keys that sign checkpoints, for those who check them.
func PublicKeys(cfg Config, w io.Writer) error {
	keys, err := audit.LoadKeys(cfg.Ledger.Keys)
	if err != nil {
		return fmt.Errorf("ledger.keys: %w", err)
	}
	verifiers, err := keys.Verifiers(cfg.Ledger.Origin)
	for _, v := range verifiers {
		fmt.Fprintln(w, v)
	}
	return err
}

// reloadKeys takes up epochs and signing keys that were added since the start. The key of ids and handles stays: changing it would change every id.
func reloadKeys(ctx context.Context, cfg Config, ledger *audit.Ledger) error {
	keys, err := audit.LoadKeys(cfg.Ledger.Keys)
	if err != nil {
		return err
	}
	return ledger.Reload(ctx, keys)
}

// monthlyKeys begins a new epoch of keys if the one in use began in an earlier month, so that what one key opens is a month of one ledger at most. A file that
// was made and not taken up is taken up first.
func monthlyKeys(ctx context.Context, cfg Config, ledger *audit.Ledger, now time.Time) (changed bool, err error) {
	old := func() (bool, error) {
		since, err := ledger.EpochSince(ctx)
		began, this := since.UTC(), now.UTC()
		return began.Year() < this.Year() || began.Year() == this.Year() && began.Month() < this.Month(), err
	}
	if is, err := old(); err != nil || !is {
		return false, err
	}
	if err := reloadKeys(ctx, cfg, ledger); err != nil {
		return false, err
	}
	if is, err := old(); err != nil || !is {
		return true, err
	}
	if _, err := audit.AddEpoch(cfg.Ledger.Keys); err != nil {
		return false, err
	}
	return true, reloadKeys(ctx, cfg, ledger)
}

// loadKeys reads them, and refuses files that others can read.
func loadKeys(dir string) (keySet, error) {
	ledger, err := audit.LoadKeys(dir)
	if err != nil {
		return keySet{}, fmt.Errorf("ledger.keys: %w", err)
	}
	path := filepath.Join(dir, identityFile)
	f, err := os.Open(path)
	if err != nil {
		return keySet{}, fmt.Errorf("ledger.keys: %s cannot be read; `broker keys` makes the files of a new deployment", path)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		return keySet{}, fmt.Errorf("ledger.keys: %s can be read by others: make it readable by the broker only (chmod 0400)", path)
	}
	key, err := io.ReadAll(io.LimitReader(f, 33))
	if err != nil || len(key) != 32 {
		return keySet{}, fmt.Errorf("ledger.keys: %s must hold exactly 32 bytes", path)
	}
	out := keySet{ledger: ledger}
	if out.ids, err = hkdf.Key(sha256.New, key, nil, "mycarerecord ids v1", 32); err != nil {
		return keySet{}, errors.New("ledger.keys: the key of ids cannot be derived")
	}
	if out.hints, err = hkdf.Key(sha256.New, key, nil, "mycarerecord hints v1", 32); err != nil {
		return keySet{}, errors.New("ledger.keys: the key of hints cannot be derived")
	}
	if out.staff, err = hkdf.Key(sha256.New, key, nil, "mycarerecord staff v1", 32); err != nil {
		return keySet{}, errors.New("ledger.keys: the key of staff lists cannot be derived")
	}
	if out.handles, err = hkdf.Key(sha256.New, key, nil, "mycarerecord handles v1", 64); err != nil {
		return keySet{}, errors.New("ledger.keys: the key of handles cannot be derived")
	}
	return out, nil
}
