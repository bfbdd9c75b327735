package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// begunFile stands beside the keys as soon as a ledger was begun with them. The ledger and its folder of checkpoints may be on a volume that is not mounted
// at a start, and then nothing but this tells an old ledger that is out of sight from a new one: everybody's objections would be gone, and everything released.
const begunFile = "ledger.begun"

// beginnings is what is known of the ledger of a folder of keys before its store is opened.
type beginnings struct {
	file  string
	known bool // a ledger was begun with these keys
	keeps bool // it can be noted that one was
}

// readBeginnings looks at the folder of keys.
func readBeginnings(keys string) (beginnings, error) {
	b := beginnings{file: filepath.Join(keys, begunFile)}
	_, err := os.Stat(b.file)
	switch {
	case err == nil:
		b.known = true
	case !errors.Is(err, os.ErrNotExist):
		return b, fmt.Errorf("ledger.keys: %s cannot be looked for", b.file)
	default:
		f, err := os.CreateTemp(keys, begunFile+".*")
		if b.keeps = err == nil; b.keeps {
			_ = errors.Join(f.Close(), os.Remove(f.Name())) // nothing is in it
		}
	}
	return b, nil
}

// words say why an empty store is not the ledger; "" where it may be a new one. begin is the operator's word that it is.
func (b beginnings) words(begin bool) string {
	switch {
	case b.known:
		return b.file + " says that a ledger was begun with these keys"
	case !b.keeps && !begin:
		return "the folder of keys is read-only, so that nothing in it can say whether a ledger was begun. For the very first start, and for that alone, give -begin"
	}
	return ""
}

// check refuses to make a new SQLite file where one must be, before anything is made.
func (b beginnings) check(l Ledger) error {
	if l.Store == "postgres" || !b.known {
		return nil
	}
	if _, err := os.Stat(l.Path); err != nil {
		return fmt.Errorf("ledger.path: %s is not there, and %s says that a ledger was begun with these keys: mount its volume, or put it back from a backup. "+
			"If it is lost, `broker ledger continue` begins one after it from an older file; a ledger that has nothing to do with it needs keys of its own", l.Path, b.file)
	}
	return nil
}

// note notes that a ledger was begun, once it is there and before anybody is served. It says whether that is kept.
func (b beginnings) note(origin string) (kept bool, err error) {
	if b.known || !b.keeps {
		return b.known, nil
	}
	f, err := os.OpenFile(b.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) { // another replica was faster
		return true, nil
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "The ledger %s was begun with the keys in this folder. While this file is here, no other is begun with them.\n", origin)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(b.file)); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		return false, fmt.Errorf("ledger.keys: %s cannot be written", b.file)
	}
	return true, nil
}
