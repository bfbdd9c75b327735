package daemon

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mycarerecord/mycarerecord/audit"
)

// keySet is every secret of a deployment.
type keySet struct {
	ledger       *audit.Keys
	ids, handles []byte
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
	if out.handles, err = hkdf.Key(sha256.New, key, nil, "mycarerecord handles v1", 64); err != nil {
		return keySet{}, errors.New("ledger.keys: the key of handles cannot be derived")
	}
	return out, nil
}
