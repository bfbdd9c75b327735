// Package sink keeps a ledger's checkpoints outside the ledger's own store, where whoever holds the store cannot change them: in a folder, which had better be on
// another disk or a write-once one, and with witnesses, which are other organisations. Both refuse what does not continue what they hold already.
package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Folder keeps checkpoints in files that are only ever added to, one for each day (UTC), so that a day can be moved elsewhere when it is over. Each checkpoint is
// followed by an empty line.
type Folder struct{ dir string }

var _ audit.Sink = (*Folder)(nil)

var dayFile = regexp.MustCompile(`^checkpoints-\d{4}-\d\d-\d\d\.txt$`)

// NewFolder makes the folder if it is not there.
func NewFolder(dir string) (*Folder, error) {
	if dir == "" {
		return nil, errors.New("checkpoints need the path of a folder")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the folder of checkpoints cannot be made: %s", reason(err))
	}
	return &Folder{dir}, nil
}

// Name implements audit.Sink.
func (f *Folder) Name() string { return "the folder of checkpoints" }

// Holds implements audit.Sink.
func (f *Folder) Holds(context.Context) (uint64, bool, error) {
	held, _, err := f.newest()
	return held.Size, true, err
}

// Newest returns what the newest checkpoint that is kept states; a zero State if none is.
func (f *Folder) Newest() (audit.State, error) {
	held, _, err := f.newest()
	return held, err
}

// Extend implements audit.Sink.
func (f *Folder) Extend(ctx context.Context, c audit.Checkpoint, prove func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	given, err := c.State()
	if err != nil {
		return nil, err
	}
	release, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	held, torn, err := f.newest()
	if err != nil {
		return nil, err
	}
	if held.Size > 0 {
		if err := follows(ctx, held, given, prove); err != nil {
			return nil, err
		}
		if held.Size == given.Size {
			return nil, nil
		}
	}
	return nil, f.add(c, torn)
}

// lock keeps other replicas, which may share the folder, from adding between the look at what is there and what is added to it.
func (f *Folder) lock(ctx context.Context) (release func(), err error) {
	file, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("the folder of checkpoints cannot be locked: %s", reason(err))
	}
	for {
		locked, err := tryLock(file)
		if locked {
			return func() { _ = file.Close() }, nil // which lets go of it; nothing was written
		}
		if err == nil {
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = fmt.Errorf("the folder of checkpoints is in use by others: %w", audit.ErrAway)
			}
		}
		return nil, errors.Join(err, file.Close())
	}
}

// follows reports, as an error, that given does not continue held.
func follows(ctx context.Context, held, given audit.State, prove func(context.Context, uint64) ([][32]byte, error)) error {
	contradicted := fmt.Errorf("the folder of checkpoints holds one of %d entries that is not continued by that of %d: %w", held.Size, given.Size, audit.ErrContradicted)
	switch {
	case held.Origin != given.Origin:
		return fmt.Errorf("the folder of checkpoints holds those of another ledger: %w", audit.ErrContradicted)
	case held.Size > given.Size, held.Size == given.Size && held.Root != given.Root:
		return contradicted
	case held.Size == given.Size:
		return nil
	}
	proof, err := prove(ctx, held.Size)
	if err != nil {
		return err
	}
	var p tlog.TreeProof
	for _, h := range proof {
		p = append(p, h)
	}
	if tlog.CheckTree(p, int64(given.Size), given.Root, int64(held.Size), held.Root) != nil {
		return contradicted
	}
	return nil
}

// tail is how much of a file's end is read: more than the longest checkpoint.
const tail = 20 << 10

// newest reads the last whole checkpoint of the newest file that holds one; a zero state if there is none. torn reports that something stands after it that is
// not one: the process ended, or the disk was full, in the middle of writing.
func (f *Folder) newest() (held audit.State, torn bool, err error) {
	names, err := f.days()
	if err != nil {
		return held, false, err
	}
	for _, name := range slices.Backward(names) {
		text, err := readTail(filepath.Join(f.dir, name))
		if err != nil {
			return held, false, fmt.Errorf("%s cannot be read: %s", name, reason(err))
		}
		whole := len(text) == 0 || bytes.HasSuffix(text, []byte("\n\n"))
		blocks := strings.Split(string(text), "\n\n")
		for i := len(blocks) - 2; i > 0; i-- { // a body, and the signatures after it; what follows the last empty line is nothing or torn
			if !strings.HasPrefix(blocks[i], "— ") {
				continue
			}
			s, err := audit.Checkpoint{Note: []byte(blocks[i-1] + "\n\n" + blocks[i] + "\n")}.State()
			if err == nil && s.Size > 0 {
				return s, torn || !whole, nil
			}
		}
		torn = torn || len(text) > 0
	}
	return held, torn, nil
}

func (f *Folder) days() ([]string, error) {
	listed, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of checkpoints cannot be read: %s", reason(err))
	}
	var names []string
	for _, e := range listed { // in order of name, which is that of the days
		if dayFile.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func readTail(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // opened for reading only
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	_, err = file.Seek(max(0, info.Size()-tail), io.SeekStart)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, tail))
}

// add appends a checkpoint to the file of its day, or to a newer one that is there already, and syncs it.
func (f *Folder) add(c audit.Checkpoint, torn bool) error {
	name := "checkpoints-" + c.At.UTC().Format(time.DateOnly) + ".txt"
	names, err := f.days()
	if err != nil {
		return err
	}
	if n := len(names); n > 0 {
		name = max(name, names[n-1])
	}
	fresh := !slices.Contains(names, name)
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("the folder of checkpoints cannot be written: %s", reason(err))
	}
	text := append(bytes.Clone(c.Note), '\n')
	if torn && !fresh {
		text = append([]byte("\n\n"), text...)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil && fresh {
		err = syncDir(f.dir)
	}
	if err != nil {
		return fmt.Errorf("the folder of checkpoints cannot be written: %s", reason(err))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// reason reduces an error of the file system to words of our own.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is not there"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	return "input or output error"
}
